//! Durations as people write them: `300ms`, `90s`, `5m`, `1h30m`, `180d`.
//!
//! Configuration, command line and output use the same spelling: the friendly format of jiff. A day has 24 hours;
//! months and years have no fixed length and are refused.

use std::time::Duration;

use jiff::fmt::friendly::{Designator, Spacing, SpanParser, SpanPrinter};
use jiff::{Span as JiffSpan, SpanRelativeTo, SpanRound, Unit};

/// Minimum of a duration: a shorter poll interval or retry wait would be a busy loop.
const MIN_DURATION: Duration = Duration::from_millis(100);

/// Maximum of a duration, a century: added to an instant, it does not overflow.
const MAX_DURATION: Duration = Duration::from_secs(36_500 * 86_400);

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("is not a duration like 90s")]
    Malformed,
    #[error("is shorter than 100ms")]
    TooShort,
    #[error("is longer than 36500d")]
    TooLong,
}

/// Parses a duration from 100 ms to 36500 days.
///
/// # Errors
/// If it is not a duration, or out of range.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let parser = SpanParser::new();
    let span = parser.parse_span(text.trim()).map_err(|_| {
        // The parser also refuses numbers that are too large. If the text parses with each number replaced by 1, a
        // number was too large.
        let mut small = String::new();
        for c in text.trim().chars().map(|c| if c.is_ascii_digit() { '1' } else { c }) {
            if c != '1' || !small.ends_with('1') {
                small.push(c);
            }
        }
        parser.parse_span(&small).map_or(DurationError::Malformed, |_| DurationError::TooLong)
    })?;
    let length = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .and_then(Duration::try_from)
        .map_err(|_| DurationError::Malformed)?;
    match length {
        length if length < MIN_DURATION => Err(DurationError::TooShort),
        length if length > MAX_DURATION => Err(DurationError::TooLong),
        length => Ok(length),
    }
}

/// A duration of the configuration.
#[derive(PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub(super) struct ConfigDuration(pub(super) Duration);

impl TryFrom<String> for ConfigDuration {
    /// The problem, and the hint on a second line.
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hint = "write a duration such as \"300ms\", \"90s\", \"5m\", \"1h30m\" or \"180d\", from 100ms to 36500d";
        parse(&text).map(Self).map_err(|error| format!("{error}\n{hint}"))
    }
}

/// The shortest spelling that [`parse`] reads back to the same milliseconds: `1h30m`, `1d12h`, `0s`.
pub fn format(duration: Duration) -> String {
    const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None).designator(Designator::Compact);
    let rounding = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let milliseconds = i64::try_from(duration.min(MAX_DURATION).as_millis()).unwrap_or(i64::MAX);
    let span = JiffSpan::new().try_milliseconds(milliseconds).and_then(|span| span.round(rounding));
    PRINTER.span_to_string(&span.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_durations() {
        for (text, millis) in [
            ("300ms", 300),
            ("100ms", 100),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1m30s500ms", 90_500),
            ("180d", 180 * 86_400_000),
            (" 2h ", 7_200_000),
            ("1h 30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("2 hours", 7_200_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_other_texts_with_a_reason() {
        for text in
            ["", "5", "m", "-5m", "5M", "1m1h", "1h1h", "1mo", "1y", "PT5M", "5m ago", "5m!", "é", "5é"]
        {
            assert_eq!(parse(text), Err(DurationError::Malformed), "{text:?}");
        }
        for text in ["0s", "99ms", "0d"] {
            assert_eq!(parse(text), Err(DurationError::TooShort), "{text:?}");
        }
        for text in [
            "36501d",
            "7000000d",
            "99999999d",
            "99999999999999999999s",
            "18446744073709551615d",
            "1d99999999999h",
        ] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text:?}");
        }
    }

    #[test]
    fn formats_what_it_parses() {
        for text in ["300ms", "1m30s", "5m", "1h30m", "1d", "180d", "1d1h1m1s1ms"] {
            assert_eq!(parse(text).map(format).as_deref(), Ok(text));
        }
        assert_eq!(format(Duration::ZERO), "0s");
    }
}
