//! Lone surrogates: a `\ud83d` without its second half, which JSON allows and a Rust string cannot hold.
//!
//! Texts truncated within an emoji contain them. For display and comparison, U+FFFD replaces them. The stored and sent
//! bytes stay as received.

use std::borrow::Cow;

/// Length of `\uXXXX`.
const ESCAPE_LEN: usize = 6;

/// Replaces every lone surrogate in `json` by `\ufffd`. All other bytes keep their values and offsets.
pub fn replace_lone_surrogates(json: &str) -> Cow<'_, str> {
    let mut replaced: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        at += found;
        let Some(unit) = unit_at(json, at) else {
            // The escaped character may be a backslash, or have several bytes.
            let escaped = json[at + 1..].chars().next().map_or(0, char::len_utf8);
            at += 1 + escaped;
            continue;
        };
        let is_pair = is_high(unit) && unit_at(json, at + ESCAPE_LEN).is_some_and(is_low);
        if is_pair {
            at += 2 * ESCAPE_LEN;
            continue;
        }
        if is_high(unit) || is_low(unit) {
            let replaced = replaced.get_or_insert_with(|| String::with_capacity(json.len()));
            replaced.push_str(&json[copied..at]);
            replaced.push_str("\\ufffd");
            copied = at + ESCAPE_LEN;
        }
        at += ESCAPE_LEN;
    }
    match replaced {
        None => Cow::Borrowed(json),
        Some(mut replaced) => {
            replaced.push_str(&json[copied..]);
            Cow::Owned(replaced)
        }
    }
}

/// UTF-16 code unit of the `\uXXXX` at `at`.
fn unit_at(json: &str, at: usize) -> Option<u16> {
    let hex = json.get(at..at + ESCAPE_LEN)?.strip_prefix("\\u")?;
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
    fn replaces_only_lone_surrogates() {
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
            assert_eq!(replace_lone_surrogates(json), shown, "{json}");
        }
        assert!(matches!(replace_lone_surrogates(r#""\u00e9""#), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn the_result_always_parses_and_keeps_its_length(
            parts in proptest::collection::vec(
                proptest::sample::select(&["\\ud83d", "\\ude9a", "\\\\", "\\n", "é", "a", "\\u0041", "\\\""][..]), 0..12),
        ) {
            let json = format!("\"{}\"", parts.concat());
            let replaced = replace_lone_surrogates(&json);
            prop_assert_eq!(replaced.len(), json.len());
            prop_assert!(serde_json::from_str::<String>(&replaced).is_ok(), "{}", replaced);
            if serde_json::from_str::<String>(&json).is_ok() {
                prop_assert_eq!(&*replaced, &json);
            }
        }
    }
}
