//! What one JSON value says, whatever its spelling.
//!
//! Nearly every value of a carrier event is a short plain text, null, or a small number. Those are read here in one go;
//! for anything else a parser is asked. Both ways say the same: a property of the tests.

use serde_json::{Deserializer, Value};

use super::text::fold;
use super::wall::WallClock;

/// What a byte is in a text: the end of it or of its plain part, …
const END: u8 = 1;
/// … a space, …
const SPACE: u8 = 2;
/// … something that takes folding, …
const ODD: u8 = 4;
/// … a capital, …
const CAPITAL: u8 = 8;
/// … something that no plain decimal has.
const WORDS: u8 = 16;

const MARKS: [u8; 256] = {
    let mut marks = [ODD | WORDS; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        marks[byte as usize] = match byte {
            b'"' | b'\\' => END,
            b'<' | b'&' => ODD | WORDS,
            b'A'..=b'Z' => CAPITAL | WORDS,
            b'0'..=b'9' | b'.' | b'-' => 0,
            _ => WORDS,
        };
        byte += 1;
    }
    marks[b' ' as usize] = SPACE;
    marks
};

/// Appends what the value at the head of `json` says (nothing for null, "", and what holds nothing else), and returns
/// the rest of `json`. A text that is `clock` and shows a time is read as one. `None` if there is no value.
pub fn read<'j>(json: &'j str, clock: bool, said: &mut String) -> Option<&'j str> {
    let bytes = json.as_bytes();
    match bytes.first()? {
        b'"' => {
            let body = &bytes[1..];
            let (mut marks, mut last, mut end) = (0, SPACE, 0);
            loop {
                let mark = MARKS[usize::from(*body.get(end)?)];
                if mark == END {
                    break;
                }
                // A space behind a space, or in front.
                marks |= mark | (mark & last & SPACE) << 1;
                (last, end) = (mark, end + 1);
            }
            if body[end] == b'"' {
                let odd = marks & ODD != 0 || (last == SPACE && end > 0);
                say_text(&json[1..=end], clock, if odd { ODD } else { marks }, said);
                return Some(&json[end + 2..]);
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
        Value::String(text) => say_text(text, clock, ODD, &mut said),
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

/// `marks`: what of [`MARKS`] is in the text.
fn say_text(text: &str, clock: bool, marks: u8, said: &mut String) {
    if clock && WallClock::respell(text, said) {
        return;
    }
    let start = said.len();
    if marks & ODD != 0 {
        said.push_str(&fold(text));
    } else {
        said.push_str(text);
    }
    if marks & (CAPITAL | ODD) == CAPITAL {
        said[start..].make_ascii_lowercase();
    }
    if marks & ODD != 0 || marks & (WORDS | SPACE) == 0 {
        plain_decimal(said, start);
    }
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
    let Some((whole, fraction)) = unsigned.split_once('.').or(negative.then_some((unsigned, "0"))) else {
        return;
    };
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
