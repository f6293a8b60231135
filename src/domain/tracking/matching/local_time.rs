//! Times of carrier events: local times without a zone, and instants.
//!
//! The zone of a carrier event cannot be trusted: `Z` is often wrong, one answer mixes several offsets, and some times
//! have none. A corrected zone leaves the local time as it is, so events are identified by local time. An instant is read
//! only where a time names a zone that can be trusted ([`instant_of`]).
//!
//! `jiff` parses instants. It cannot parse the local times: it refuses a civil time with `Z`, has no format for the mixed
//! spellings of [`LocalTime::parse`], and accepts texts that must stay texts, such as a date with an hour only.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use serde::Deserialize;

use crate::domain::tracking::Text;

/// Date and time without a zone. Times of different zones compare as if they were of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalTime(DateTime);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl LocalTime {
    /// Parses all spellings seen so far: `2026-09-03T11:45:00` with or without fraction, seconds, `Z`, offset or time, and
    /// `8/4/2021` (month first) with or without a time. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(time) = Self::parse_plain(text.as_bytes()) {
            return Some(time);
        }
        let text = text.trim();
        let (date, rest) = iso_date(text).or_else(|| us_date(text))?;
        let (hour, minute, second, nanosecond) = match rest.trim_start_matches(['T', 't', ' ']) {
            "" => (0, 0, 0, 0),
            time if time.len() < rest.len() => time_of_day(time)?,
            _ => return None,
        };
        let time = Time::new(hour, minute, second, nanosecond).ok()?;
        Some(Self(date.to_datetime(time)))
    }

    /// Parses the usual spelling, `2026-09-03T11:45:00` with or without `Z`.
    fn parse_plain(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"Z").unwrap_or(text);
        let &[y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2] =
            text
        else {
            return None;
        };
        let two = |tens: u8, ones: u8| {
            let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
            is_number.then(|| (tens - b'0') as i8 * 10 + (ones - b'0') as i8)
        };
        let year = i16::from(two(y1, y2)?) * 100 + i16::from(two(y3, y4)?);
        let time = [two(h1, h2)?, two(mi1, mi2)?, two(s1, s2)?];
        DateTime::new(year, two(mo1, mo2)?, two(d1, d2)?, time[0], time[1], time[2], 0).ok().map(Self)
    }

    /// Appends the time in `text` as [`fmt::Display`] writes it; returns `false` if there is none.
    pub fn normalize(text: &str, out: &mut String) -> bool {
        if Self::parse_plain(text.as_bytes()).is_some() {
            // Without its zone, the usual spelling is the normal form.
            out.push_str(text.strip_suffix('Z').unwrap_or(text));
            return true;
        }
        let time = Self::parse(text);
        out.extend(time.map(|time| time.to_string()));
        time.is_some()
    }

    pub fn civil(self) -> DateTime {
        self.0
    }

    pub fn date(self) -> Date {
        self.0.date()
    }

    /// Whether the time is exactly midnight. A date without a time is parsed so, and feeds send dates so.
    pub fn is_midnight(self) -> bool {
        self.0.time() == Time::midnight()
    }

    /// Whether a scan may have this time. Years such as 1, 1900 and 1970 stand for an unknown time.
    pub fn is_plausible(self) -> bool {
        self.0.year() >= 2000
    }

    /// Whole minutes since 1970-01-01T00:00 local time.
    pub fn minute(self) -> i64 {
        self.0.duration_since(EPOCH).as_secs().div_euclid(60)
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `2026-09-03…`
fn iso_date(text: &str) -> Option<(Date, &str)> {
    let (year, rest) = digits(text, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    Some((date(year, month, day)?, rest))
}

/// `8/4/2021…`, month first.
pub fn us_date(text: &str) -> Option<(Date, &str)> {
    let (month, rest) = digits(text, 1, 2)?;
    let (day, rest) = digits(rest.strip_prefix('/')?, 1, 2)?;
    let (year, rest) = digits(rest.strip_prefix('/')?, 4, 4)?;
    Some((date(year, month, day)?, rest))
}

fn date(year: u32, month: u32, day: u32) -> Option<Date> {
    Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()
}

/// `11:45`, `11:45:00`, `11:45:00.289`, `1:05 PM`, each with an optional zone, which is ignored.
fn time_of_day(text: &str) -> Option<(i8, i8, i8, i32)> {
    let (mut hour, rest) = digits(text, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
    let (second, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2, 2)?,
        None => (0, rest),
    };
    let (nanosecond, rest) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    let zone = match rest.trim().to_ascii_uppercase() {
        half if half.starts_with("AM") || half.starts_with("PM") => {
            if !(1..=12).contains(&hour) {
                return None;
            }
            hour = hour % 12 + if half.starts_with("PM") { 12 } else { 0 };
            half[2..].trim_start().to_owned()
        }
        zone => zone,
    };
    if !is_zone(&zone) {
        return None;
    }
    let second = if second == 60 { 59 } else { second };
    Some((hour.try_into().ok()?, minute.try_into().ok()?, second.try_into().ok()?, nanosecond))
}

/// An empty text, `Z`, `UTC`, `GMT`, `+07`, `+0700`, `-07:00`.
fn is_zone(text: &str) -> bool {
    let Some(offset) = text.strip_prefix(['+', '-']) else {
        return matches!(text, "" | "Z" | "UTC" | "GMT");
    };
    let Some((_, rest)) = digits(offset, 2, 2) else { return false };
    rest.is_empty()
        || digits(rest.strip_prefix(':').unwrap_or(rest), 2, 2).is_some_and(|(_, end)| end.is_empty())
}

fn digits(text: &str, at_least: usize, at_most: usize) -> Option<(u32, &str)> {
    let count = text.bytes().take(at_most).take_while(u8::is_ascii_digit).count();
    if count < at_least {
        return None;
    }
    let (number, rest) = text.split_at(count);
    Some((number.parse().ok()?, rest))
}

/// Nanoseconds of a fraction. Digits after the ninth are ignored.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let nanosecond = text.bytes().take(count).chain(std::iter::repeat(b'0')).take(9);
    let nanosecond = nanosecond.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    (count > 0).then(|| (nanosecond, &text[count..]))
}

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    occurred_at: Text,
    #[serde(default)]
    carrier_occurred_at: Text,
}

/// Returns the instant of the event `raw`, a JSON object as received; `None` if the event names no zone to trust.
///
/// A numeric offset of `carrier_occurred_at` is trusted first. `Z` there is wrong too often. `occurred_at` is second, the
/// API's best effort at UTC: for pulled USPS rows it is seven hours later than the row's own offset says.
pub fn instant_of(raw: &str) -> Option<Timestamp> {
    let times: Times = serde_json::from_str(raw).ok()?;
    let with_offset = times.carrier_occurred_at.as_deref().and_then(instant_with_offset);
    with_offset.or_else(|| parse_instant(times.occurred_at.as_deref()?))
}

fn parse_instant(text: &str) -> Option<Timestamp> {
    text.trim().parse().ok()
}

/// Parses a time with a numeric offset other than zero.
fn instant_with_offset(text: &str) -> Option<Timestamp> {
    let (at, local) = (parse_instant(text)?, LocalTime::parse(text)?);
    (at.as_second().div_euclid(60) != local.minute()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_spelling_seen() {
        for (text, shown) in [
            ("2026-09-03T11:45:00Z", "2026-09-03T11:45:00"),
            ("2026-09-03T11:45:00", "2026-09-03T11:45:00"),
            ("2026-09-03T11:45:00.000Z", "2026-09-03T11:45:00"),
            ("2026-09-03T11:45:00.289Z", "2026-09-03T11:45:00.289"),
            ("2026-09-03T11:45:00.8Z", "2026-09-03T11:45:00.8"),
            ("2026-09-03T11:45:00-07:00", "2026-09-03T11:45:00"),
            ("2026-09-03T11:45:00+0530", "2026-09-03T11:45:00"),
            ("2026-09-03 11:45 UTC", "2026-09-03T11:45:00"),
            (" 2026-09-03t11:45:00z ", "2026-09-03T11:45:00"),
            ("2026-09-03", "2026-09-03T00:00:00"),
            ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59"),
            ("8/4/2021", "2021-08-04T00:00:00"),
            ("08/04/2021 1:05:09 PM", "2021-08-04T13:05:09"),
            ("8/4/2021 12:00 am", "2021-08-04T00:00:00"),
        ] {
            assert_eq!(LocalTime::parse(text).map(|time| time.to_string()).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn refuses_other_texts() {
        for text in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-30",
            "2026-09-03T25:00:00",
            "2026-09-03T11",
            "2026-09-0311:45",
            "2026-09-03T11:45:00.Z",
            "2026-09-03T11:45:00 somewhere",
            "2026-09-03T11:45:00+7",
            "20/20/2021",
            "8/4/21",
            "8/4/2021 13:00 PM",
            "٢٠٢٦-09-03",
            "2026-09-03Té",
        ] {
            assert_eq!(LocalTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn minutes_before_1970_are_negative() {
        assert_eq!(LocalTime::parse("1970-01-01T00:01:59").map(LocalTime::minute), Some(1));
        assert_eq!(LocalTime::parse("1969-12-31T23:59:59").map(LocalTime::minute), Some(-1));
    }

    fn instant(carrier: &str, occurred: &str) -> Option<String> {
        let raw = format!(r#"{{"carrier_occurred_at":{carrier},"occurred_at":{occurred}}}"#);
        instant_of(&raw).map(|at| at.to_string())
    }

    #[test]
    fn a_numeric_offset_is_trusted_and_the_carriers_z_is_not() {
        let of = |carrier, occurred| instant(carrier, occurred).unwrap_or_default();
        let pulled = of(r#""2026-06-24T04:20:00-07:00""#, r#""2026-06-24T18:20:00Z""#);
        assert_eq!(pulled, "2026-06-24T11:20:00Z", "seven hours before what occurred_at says");
        for carrier in [r#""2026-06-24T07:20:00Z""#, r#""2026-06-24T07:20:00""#, "null", "\"soon\""] {
            assert_eq!(of(carrier, r#""2026-06-24T11:20:00.5Z""#), "2026-06-24T11:20:00.5Z", "{carrier}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_not_an_instant() {
        assert_eq!(instant("null", r#""2026-06-24T11:20:00""#), None);
        assert_eq!(instant(r#""2026-06-24T11:20:00Z""#, "null"), None);
        assert_eq!(instant("7", "\"\""), None);
        assert_eq!(instant_of("[]"), None);
    }
}
