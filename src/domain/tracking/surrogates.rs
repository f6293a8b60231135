//! Lone surrogates: `\ud83d` without its other half, which JSON's grammar allows and no Rust string can hold.
//!
//! They come from texts cut in the middle of an emoji. What is shown and compared has U+FFFD in their place; what is
//! stored and sent stays as it came.

use std::borrow::Cow;

/// Length of `\uXXXX`.
const ESCAPE: usize = 6;

/// `json` with `\ufffd` for every lone surrogate. All other bytes keep their value and their place.
pub fn mended(json: &str) -> Cow<'_, str> {
    let mut mended: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let Some(unit) = unit_at(json, at) else {
            // The character behind a backslash may be a backslash, or of several bytes.
            let escaped = json[at + 1..].chars().next().map_or(0, char::len_utf8);
            at += 1 + escaped;
            continue;
        };
        let is_pair = is_high(unit) && unit_at(json, at + ESCAPE).is_some_and(is_low);
        if is_pair {
            at += 2 * ESCAPE;
            continue;
        }
        if is_high(unit) || is_low(unit) {
            let mended = mended.get_or_insert_with(|| String::with_capacity(json.len()));
            mended.push_str(&json[copied..at]);
            mended.push_str("\\ufffd");
            copied = at + ESCAPE;
        }
        at += ESCAPE;
    }
    match mended {
        None => Cow::Borrowed(json),
        Some(mut mended) => {
            mended.push_str(&json[copied..]);
            Cow::Owned(mended)
        }
    }
}

/// The UTF-16 code unit of a `\uXXXX` that begins at `at`.
fn unit_at(json: &str, at: usize) -> Option<u16> {
    let hex = json.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(hex, 16).ok()).flatten()
}

fn is_high(unit: u16) -> bool {
    (0xd800..0xdc00).contains(&unit)
}

fn is_low(unit: u16) -> bool {
    (0xdc00..0xe000).contains(&unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_half_without_its_other_half_is_replaced() {
        for (json, shown) in [
            (r#""plain""#, r#""plain""#),
            (r#""a \ud83d""#, r#""a \ufffd""#),
            (r#""\uD83D\uDE9A ok""#, r#""\uD83D\uDE9A ok""#),
            (r#""\ud83d\ud83d\ude9a""#, r#""\ufffd\ud83d\ude9a""#),
            (r#""\ude9a\n""#, r#""\ufffd\n""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\\\ud83d""#, r#""\\\ufffd""#),
            (r#""\u00e9\"\ud83"#, r#""\u00e9\"\ud83"#),
        ] {
            assert_eq!(mended(json), shown, "{json}");
        }
        assert!(matches!(mended(r#""\u00e9""#), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn a_string_literal_can_always_be_read_and_keeps_its_length(
            parts in proptest::collection::vec(
                proptest::sample::select(&["\\ud83d", "\\ude9a", "\\\\", "\\n", "é", "a", "\\u0041", "\\\""][..]), 0..12),
        ) {
            let json = format!("\"{}\"", parts.concat());
            let mended = mended(&json);
            prop_assert_eq!(mended.len(), json.len());
            prop_assert!(serde_json::from_str::<String>(&mended).is_ok(), "{}", mended);
            if serde_json::from_str::<String>(&json).is_ok() {
                prop_assert_eq!(&*mended, &json);
            }
        }
    }
}
