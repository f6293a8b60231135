//! `Retry-After`, in both of its forms: seconds, or an HTTP date.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// Nobody means more than this, and what is stored must fit.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// How long to wait from `now`, if `text` is one of the two forms. A date that has passed is no wait at all; more than
/// a month is a month.
pub fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What doesn't fit is long.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let at = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_seconds_and_dates() {
        let now = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(parse("120", now), Some(Duration::from_secs(120)));
        assert_eq!(parse(" 0 ", now), Some(Duration::ZERO));
        assert_eq!(parse("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse("9999999999999999", now), Some(LONGEST));
        assert_eq!(parse("Tue, 31 Dec 2999 23:59:59 GMT", now), Some(LONGEST));
        assert_eq!(parse("99999999999999999999999", now), Some(LONGEST));
        assert_eq!(parse("", now), None);
        assert_eq!(parse("soon", now), None);
        assert_eq!(parse("-5", now), None);
    }
}
