//! What one JSON value says, whatever its spelling.
//!
//! Nearly every value of a carrier event is a short plain text, null, or a small number. Those are read here in one go;
//! for anything else a parser is asked. Both ways say the same: a property of the tests.

use serde_json::{Deserializer, Value};

use super::text::{fold, fold_plain};
use super::wall::WallClock;

/// Appends what the value at the head of `json` says (nothing for null, "", and what holds nothing else), and returns
/// the rest of `json`. A text that is `clock` and shows a time is read as one. `None` if there is no value.
pub fn read<'j>(json: &'j str, clock: bool, said: &mut String) -> Option<&'j str> {
    let bytes = json.as_bytes();
    match bytes.first()? {
        b'"' => {
            let (text, rest) = json[1..].split_at(bytes[1..].iter().position(|byte| b"\"\\".contains(byte))?);
            if let Some(rest) = rest.strip_prefix('"') {
                say_text(text, clock, said);
                return Some(rest);
            }
        }
        b'n' => return json.strip_prefix("null"),
        b'-' | b'0'..=b'9' => {
            let digit = |byte: &u8| byte.is_ascii_digit() || b"-.eE+".contains(byte);
            let end = bytes.iter().position(|byte| !digit(byte)).unwrap_or(bytes.len());
            let (number, rest) = json.split_at(end);
            // So few digits come out of a float as they went in.
            if number.len() <= 15 && !number.contains(['e', 'E']) {
                let start = said.len();
                said.push_str(number);
                plain_decimal(said, start);
                return Some(rest);
            }
        }
        _ => {}
    }
    let mut values = Deserializer::from_str(json).into_iter();
    let value = values.next()?.ok()?;
    said.push_str(&of(&value, clock).unwrap_or_default());
    Some(&json[values.byte_offset()..])
}

/// What a parsed value says. `None` is null, "", or what holds nothing else.
pub fn of(value: &Value, clock: bool) -> Option<String> {
    let mut said = String::new();
    match value {
        Value::Null => {}
        Value::Bool(truth) => said = truth.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (None, None, Some(float)) => {
                said = float.to_string();
                plain_decimal(&mut said, 0);
            }
            _ => said = number.to_string(),
        },
        Value::String(text) => say_text(text, clock, &mut said),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| of(item, false)).collect();
            if items.iter().any(Option::is_some) {
                let items = items.iter().map(|item| counted(item.as_deref().unwrap_or_default()));
                said = format!("[{}]", items.collect::<String>());
            }
        }
        Value::Object(object) => {
            let fields = object.iter().filter_map(|(name, value)| Some((name, of(value, false)?)));
            let fields: String = fields.map(|(name, value)| counted(name) + &counted(&value)).collect();
            if !fields.is_empty() {
                said = format!("{{{fields}}}");
            }
        }
    }
    (!said.is_empty()).then_some(said)
}

fn say_text(text: &str, clock: bool, said: &mut String) {
    if let Some(time) = clock.then(|| WallClock::parse(text)).flatten() {
        return time.write(said);
    }
    let start = said.len();
    if !fold_plain(text, said) {
        said.push_str(&fold(text));
    }
    plain_decimal(said, start);
}

/// So that no two nestings read alike.
fn counted(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// `1.0` and `1.00` are `1`, `-0` is `0`; what is no plain decimal, like `01`, stays as it is. Acts on what stands in
/// `text` from `start` on.
fn plain_decimal(text: &mut String, start: usize) {
    let number = &text[start..];
    let unsigned = number.strip_prefix('-').unwrap_or(number);
    let negative = unsigned.len() < number.len();
    let Some((whole, fraction)) = unsigned.split_once('.').or(negative.then_some((unsigned, "0"))) else { return };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return;
    }
    let surplus = fraction.len() - fraction.trim_end_matches('0').len();
    let nothing_behind = surplus == fraction.len();
    let is_zero = whole == "0" && nothing_behind;
    if unsigned.len() > whole.len() {
        let point = usize::from(nothing_behind);
        text.truncate(text.len() - surplus - point);
    }
    if negative && is_zero {
        text.remove(start);
    }
}
