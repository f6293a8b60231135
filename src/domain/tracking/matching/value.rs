//! Canonical text of one JSON value.
//!
//! Nearly every value of a carrier event is a short plain text, null or a small number. [`read`] scans these in one pass
//! and leaves other values to `serde_json`. A property test checks that both ways give the same text.

use serde_json::{Deserializer, Value};

use super::fold::fold;
use super::local_time::LocalTime;

/// Byte class: end of the text, or of its part without escapes.
const END: u8 = 1;
const SPACE: u8 = 2;
/// Byte class: the text needs [`fold`].
const FOLD: u8 = 4;
const CAPITAL: u8 = 8;
/// Byte class: cannot be part of a plain decimal.
const NOT_DECIMAL: u8 = 16;

const CLASSES: [u8; 256] = {
    let mut classes = [FOLD | NOT_DECIMAL; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        classes[byte as usize] = match byte {
            b'"' | b'\\' => END,
            b'<' | b'&' => FOLD | NOT_DECIMAL,
            b'A'..=b'Z' => CAPITAL | NOT_DECIMAL,
            b'0'..=b'9' | b'.' | b'-' => 0,
            _ => NOT_DECIMAL,
        };
        byte += 1;
    }
    classes[b' ' as usize] = SPACE;
    classes
};

/// Appends the canonical text of the value at the start of `json` and returns the rest of `json`. Null, "" and values
/// made only of these append nothing. If `is_time`, a text that is a local time is normalized. `None` if `json` does
/// not start with a value.
pub fn read<'j>(json: &'j str, is_time: bool, out: &mut String) -> Option<&'j str> {
    let bytes = json.as_bytes();
    match bytes.first()? {
        b'"' => {
            let body = &bytes[1..];
            let (mut classes, mut last, mut end) = (0, SPACE, 0);
            loop {
                let class = CLASSES[usize::from(*body.get(end)?)];
                if class == END {
                    break;
                }
                // A space after a space or at the start sets FOLD.
                classes |= class | (class & last & SPACE) << 1;
                (last, end) = (class, end + 1);
            }
            if body[end] == b'"' {
                let folds = classes & FOLD != 0 || (last == SPACE && end > 0);
                push_text(&json[1..=end], is_time, if folds { FOLD } else { classes }, out);
                return Some(&json[end + 2..]);
            }
        }
        b'n' => return json.strip_prefix("null"),
        b'-' | b'0'..=b'9' => {
            let digit = |byte: &u8| byte.is_ascii_digit() || b"-.eE+".contains(byte);
            let end = bytes.iter().position(|byte| !digit(byte)).unwrap_or(bytes.len());
            let (number, rest) = json.split_at(end);
            // A float keeps this many digits.
            if number.len() <= 15 && !number.contains(['e', 'E']) {
                let start = out.len();
                out.push_str(number);
                normalize_decimal(out, start);
                return Some(rest);
            }
        }
        _ => {}
    }
    let mut values = Deserializer::from_str(json).into_iter();
    let value = values.next()?.ok()?;
    out.push_str(&of(&value, is_time).unwrap_or_default());
    Some(&json[values.byte_offset()..])
}

/// Canonical text of a parsed value; `None` for null, "" and values made only of these.
pub fn of(value: &Value, is_time: bool) -> Option<String> {
    let mut out = String::new();
    match value {
        Value::Null => {}
        Value::Bool(truth) => out = truth.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (None, None, Some(float)) => {
                out = float.to_string();
                normalize_decimal(&mut out, 0);
            }
            _ => out = number.to_string(),
        },
        Value::String(text) => push_text(text, is_time, FOLD, &mut out),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| of(item, false)).collect();
            if items.iter().any(Option::is_some) {
                let items = items.iter().map(|item| framed(item.as_deref().unwrap_or_default()));
                out = format!("[{}]", items.collect::<String>());
            }
        }
        Value::Object(object) => {
            let fields = object.iter().filter_map(|(name, value)| Some((name, of(value, false)?)));
            let fields: String = fields.map(|(name, value)| framed(name) + &framed(&value)).collect();
            if !fields.is_empty() {
                out = format!("{{{fields}}}");
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Appends a text. `classes`: the byte classes in it.
fn push_text(text: &str, is_time: bool, classes: u8, out: &mut String) {
    if is_time && LocalTime::normalize(text, out) {
        return;
    }
    let start = out.len();
    if classes & FOLD != 0 {
        out.push_str(&fold(text));
    } else {
        out.push_str(text);
    }
    if classes & (CAPITAL | FOLD) == CAPITAL {
        out[start..].make_ascii_lowercase();
    }
    if classes & FOLD != 0 || classes & (NOT_DECIMAL | SPACE) == 0 {
        normalize_decimal(out, start);
    }
}

/// Text prefixed with its length, so that different nestings give different texts.
fn framed(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// Normalizes the decimal in `text` from `start` on: `1.0` and `1.00` become `1`, `-0` becomes `0`. Any other text, such
/// as `01`, stays as it is.
fn normalize_decimal(text: &mut String, start: usize) {
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
    let is_whole = surplus == fraction.len();
    let is_zero = whole == "0" && is_whole;
    if unsigned.len() > whole.len() {
        let point = usize::from(is_whole);
        text.truncate(text.len() - surplus - point);
    }
    if negative && is_zero {
        text.remove(start);
    }
}
