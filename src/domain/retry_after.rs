//! Parsing of `Retry-After` in all forms that RFC 9110 requires: seconds, and dates in three spellings.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::domain::time::elapsed;

/// The longest `Retry-After` that is honoured (contract 3 and 7.4).
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Longest wait that is returned; longer ones are cut to it, so that they fit into the database.
const MAX_WAIT: Duration = Duration::from_secs(31 * 86_400);

/// Returns the wait from `now`; `None` for another text. A past date gives a wait of zero; more than a month is cut to
/// a month. A decimal, which servers send against the RFC, is rounded up.
pub fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = seconds(text) {
        return Some(Duration::from_secs(seconds).min(MAX_WAIT));
    }
    let at = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok();
    let at = at.or_else(|| rfc_850(text, now)).or_else(|| asctime(text))?;
    Some(elapsed(now, at).min(MAX_WAIT))
}

/// Parses `120` or `4.5`, saturating.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let up = fraction.bytes().any(|digit| digit != b'0');
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(u64::from(up)))
}

/// Parses `Sunday, 06-Nov-94 08:49:37 GMT`. A year more than fifty years ahead belongs to the last century.
fn rfc_850(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (_, date) = text.split_once(", ")?;
    let at = DateTime::strptime("%d-%b-%y %H:%M:%S GMT", date).ok()?;
    let this_century = now.to_zoned(TimeZone::UTC).year() / 100 * 100;
    let at = at.with().year(this_century + at.year() % 100).build().ok()?;
    let at = at.to_zoned(TimeZone::UTC).ok()?;
    let latest = now.to_zoned(TimeZone::UTC).checked_add(50.years()).ok()?;
    let at = if at > latest { at.checked_sub(100.years()).ok()? } else { at };
    Some(at.timestamp())
}

/// Parses `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<Timestamp> {
    let (_, date) = text.split_once(' ')?;
    let words: Vec<&str> = date.split_whitespace().collect();
    let at = DateTime::strptime("%b %d %H:%M:%S %Y", words.join(" ")).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_seconds_and_dates() {
        let now = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(parse("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse("9999999999999999", now), Some(MAX_WAIT));
        assert_eq!(parse("Tue, 31 Dec 2999 23:59:59 GMT", now), Some(MAX_WAIT));
        assert_eq!(parse("99999999999999999999999", now), Some(MAX_WAIT));
        assert_eq!(parse("Sunday, 06-Nov-94 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(parse("Sun Nov  6 08:50:37 1994", now), Some(Duration::from_secs(60)));
        assert_eq!(parse("Sun Nov 16 08:49:37 1994", now), Some(Duration::from_secs(864_000)));
        for (decimal, seconds) in [("4.5", 5), ("4.0", 4), ("0.001", 1), ("120.000", 120)] {
            assert_eq!(parse(decimal, now), Some(Duration::from_secs(seconds)), "{decimal}");
        }
        for illegible in ["4,5", ".5", "4.", "1e3", "5s", "Sunday, 31-Feb-94 08:49:37 GMT"] {
            assert_eq!(parse(illegible, now), None, "{illegible}");
        }
        assert_eq!(parse("", now), None);
        assert_eq!(parse("soon", now), None);
        assert_eq!(parse("-5", now), None);
    }

    #[test]
    fn a_two_digit_year_is_at_most_fifty_years_ahead() {
        for (now, text, seconds) in [
            ("2026-11-22T00:00:00Z", "Sunday, 22-Nov-26 00:00:04 GMT", 4),
            ("2099-12-31T23:59:58Z", "Friday, 01-Jan-00 00:00:02 GMT", 0),
            ("2026-11-22T00:00:00Z", "Sunday, 06-Nov-94 08:49:37 GMT", 0),
            ("2030-03-04T12:00:00Z", "Monday, 04-Mar-30 12:01:30 GMT", 90),
        ] {
            let waited = parse(text, now.parse().unwrap());
            assert_eq!(waited, Some(Duration::from_secs(seconds)), "{text} at {now}");
        }
    }
}
