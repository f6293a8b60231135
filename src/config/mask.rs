//! Masks text that looks like a secret, such as a secret under a wrong key or as the name of a variable.

/// Text in place of a secret.
const MASK: &str = "…";
/// Minimum length of a run of letters and digits that counts as a secret and not as a word.
const MIN_SECRET_LEN: usize = 16;

/// Returns `text` with everything masked that looks like a secret.
pub(super) fn secrets(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_+=-".contains(c);
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..].find(|c| !is_part(c)).map_or(rest.len(), |length| start + length);
        masked.push_str(&rest[..start]);
        let word = &rest[start..end];
        rest = &rest[end..];
        match prefix(word) {
            Some(prefix) => {
                masked.push_str(prefix);
                masked.push_str(MASK);
                // A slash is part of Base64.
                rest = rest.trim_start_matches(|c| is_part(c) || c == '/');
            }
            None if is_random(word) => masked.push_str(MASK),
            None => masked.push_str(word),
        }
    }
    masked + rest
}

/// The prefix that marks a word as a secret.
fn prefix(word: &str) -> Option<&'static str> {
    let begins = |prefix: &&str| word.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= 4);
    ["whsec_", "TEST_", "sk_"].into_iter().find(begins)
}

/// Whether a run contains letters and digits, and is longer than any word.
fn is_random(word: &str) -> bool {
    word.split(['-', '_']).any(|run| {
        let both =
            run.contains(|c: char| c.is_ascii_digit()) && run.contains(|c: char| c.is_ascii_alphabetic());
        run.len() >= MIN_SECRET_LEN && both
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_secrets_are_masked() {
        for (text, expected) in [
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_…"),
            ("https://whsec_AAAA/BBB+C==/x", "https://whsec_…"),
            ("is not a valid URL: whsec_AAAA.", "is not a valid URL: whsec_…."),
            ("TEST_0123456789", "TEST_…"),
            ("9f86d081884c7d659a2feaa0c55ad015", "…"),
            ("keys/xKn5pQ8rT2vW4yZ6aB8c.txt", "keys/….txt"),
            (
                "/var/lib/trackpost-2026/labels-export-2026-11-27.csv",
                "/var/lib/trackpost-2026/labels-export-2026-11-27.csv",
            ),
            ("shipstation-api-key", "shipstation-api-key"),
            ("tracking.delivered", "tracking.delivered"),
            ("SHIPSTATION_API_KEY_2", "SHIPSTATION_API_KEY_2"),
            ("whsec_", "whsec_"),
            ("se-1234567890123456789012", "se-1234567890123456789012"),
            ("é…", "é…"),
        ] {
            assert_eq!(secrets(text), expected, "{text}");
        }
    }
}
