//! Durations as people write them: `300ms`, `90s`, `5m`, `1h30m`, `180d`.
//!
//! One spelling for the configuration, the command line and what is shown. It knows no months or years, whose length
//! depends on when they start, and no fractions.

use std::time::Duration;

/// The shortest duration anybody may configure: below it a poll or a retry would be a busy loop.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// The longest: a century, so that adding one to an instant never overflows.
pub const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// Units in milliseconds, the largest first, as they must follow each other.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("is no duration")]
    Malformed,
    #[error("is shorter than 100ms")]
    TooShort,
    #[error("is longer than 36500d")]
    TooLong,
}

/// The duration that `text` spells: whole numbers with units d, h, m, s, ms, the largest first, each at most once.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let mut rest = text.trim();
    let mut units = UNITS.iter();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(DurationError::Malformed)?;
        let (number, tail) = rest.split_at(digits);
        let unit = &tail[..tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len())];
        if number.is_empty() || unit.is_empty() {
            return Err(DurationError::Malformed);
        }
        let (_, scale) = units.find(|(name, _)| *name == unit).ok_or(DurationError::Malformed)?;
        let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
        total = number
            .checked_mul(*scale)
            .and_then(|part| total.checked_add(part))
            .ok_or(DurationError::TooLong)?;
        rest = &tail[unit.len()..];
    }
    let duration = Duration::from_millis(total);
    if duration < SHORTEST {
        Err(DurationError::TooShort)
    } else if duration > LONGEST {
        Err(DurationError::TooLong)
    } else {
        Ok(duration)
    }
}

/// The shortest spelling that [`parse`] reads back to the same milliseconds: `1h30m`, `1d12h`, `0s`.
pub fn format(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, scale) in UNITS {
        if rest >= scale {
            text.push_str(&format!("{}{name}", rest / scale));
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("300ms", 300),
            ("100ms", 100),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m30s500ms", 90_500),
            ("180d", 180 * 86_400_000),
            (" 2h ", 7_200_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        for text in [
            "", "5", "m", "5 m", "1.5h", "-5m", "5M", "1m1h", "1h1h", "5min", "1w", "5m!", "é", "5é",
            "1h 30m",
        ] {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text:?}");
        }
        for text in ["0s", "99ms", "0d"] {
            assert_eq!(parse(text), Err(DurationError::TooShort), "{text:?}");
        }
        for text in ["36501d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["300ms", "1m30s", "5m", "1h30m", "1d", "180d", "1d1h1m1s1ms"] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(text));
        }
        assert_eq!(format(Duration::ZERO), "0s");
    }
}
