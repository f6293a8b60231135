//! Reads the times of carrier events as what a clock on the wall showed.
//!
//! The zone of a carrier event is not to be trusted: `Z` is often false, one answer mixes several offsets, and some
//! times have none. The hands of the clock are what stays the same when a zone is corrected, so they are all we read.
//! This module does not know any instant; it cannot say how long ago something was.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};

/// A wall clock reading. Ordered; two readings from different zones compare as if they were from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WallClock(DateTime);

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl WallClock {
    /// Reads every spelling seen: `2026-09-03T11:45:00` with or without fraction, seconds, `Z`, offset or even time,
    /// and `8/4/2021` (month first) with or without a time. `None` is everything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(clock) = Self::parse_plain(text.as_bytes()) {
            return Some(clock);
        }
        let text = text.trim();
        let (date, rest) = iso_date(text).or_else(|| us_date(text))?;
        let (hour, minute, second, nanosecond) = match rest.trim_start_matches(['T', 't', ' ']) {
            "" => (0, 0, 0, 0),
            time if time.len() < rest.len() => time_of_day(time)?,
            _ => return None,
        };
        DateTime::new(date.0, date.1, date.2, hour, minute, second, nanosecond).ok().map(Self)
    }

    /// The usual spelling, `2026-09-03T11:45:00` with or without `Z`.
    fn parse_plain(text: &[u8]) -> Option<Self> {
        let text = text.strip_suffix(b"Z").unwrap_or(text);
        let &[m, c, y, z, b'-', mo, nth, b'-', d, ay, b'T', h, our, b':', mi, nute, b':', s, econd] = text
        else {
            return None;
        };
        let two = |tens: u8, ones: u8| {
            let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
            is_number.then(|| (tens - b'0') as i8 * 10 + (ones - b'0') as i8)
        };
        let year = i16::from(two(m, c)?) * 100 + i16::from(two(y, z)?);
        let time = [two(h, our)?, two(mi, nute)?, two(s, econd)?];
        DateTime::new(year, two(mo, nth)?, two(d, ay)?, time[0], time[1], time[2], 0).ok().map(Self)
    }

    /// Appends the reading that `text` spells, as [`fmt::Display`] shows it. `false` if it spells none.
    pub fn respell(text: &str, shown: &mut String) -> bool {
        if Self::parse_plain(text.as_bytes()).is_some() {
            // But for the zone, the usual spelling is ours.
            shown.push_str(text.strip_suffix('Z').unwrap_or(text));
            return true;
        }
        let clock = Self::parse(text);
        shown.extend(clock.map(|clock| clock.to_string()));
        clock.is_some()
    }

    /// The reading itself. What instant it was depends on a zone nobody told us.
    pub fn civil(self) -> DateTime {
        self.0
    }

    /// The day it shows.
    pub fn day(self) -> Date {
        self.0.date()
    }

    /// Midnight to the second: what a date without a time is read as, and what feeds make of one.
    pub fn is_midnight(self) -> bool {
        self.0.time() == Time::midnight()
    }

    /// Whether it can be a scan's at all: year 1, 1900 and 1970 stand for a time that nobody knows.
    pub fn is_plausible(self) -> bool {
        self.0.year() >= 2000
    }

    /// Whole minutes since 1970, as that clock counts them.
    pub fn minute(self) -> i64 {
        self.0.duration_since(EPOCH).as_secs().div_euclid(60)
    }
}

impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

type Ymd = (i16, i8, i8);

/// `2026-09-03…`
fn iso_date(text: &str) -> Option<(Ymd, &str)> {
    let (year, rest) = digits(text, 4, 4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 2, 2)?;
    Some((date(year, month, day)?, rest))
}

/// `8/4/2021…`
fn us_date(text: &str) -> Option<(Ymd, &str)> {
    let (month, rest) = digits(text, 1, 2)?;
    let (day, rest) = digits(rest.strip_prefix('/')?, 1, 2)?;
    let (year, rest) = digits(rest.strip_prefix('/')?, 4, 4)?;
    Some((date(year, month, day)?, rest))
}

fn date(year: u32, month: u32, day: u32) -> Option<Ymd> {
    Some((year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?))
}

/// `11:45`, `11:45:00`, `11:45:00.289`, `1:05 PM`, each with a zone behind it that is read and forgotten.
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

/// Nothing, `Z`, `UTC`, `GMT`, `+07`, `+0700`, `-07:00`.
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

/// Any number of digits; the first nine count.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let count = text.bytes().take_while(u8::is_ascii_digit).count();
    let nanosecond = text.bytes().take(count).chain(std::iter::repeat(b'0')).take(9);
    let nanosecond = nanosecond.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    (count > 0).then(|| (nanosecond, &text[count..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_seen_is_read() {
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
            assert_eq!(WallClock::parse(text).map(|read| read.to_string()).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn garbage_is_no_time() {
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
            assert_eq!(WallClock::parse(text), None, "{text}");
        }
    }

    #[test]
    fn minutes_count_before_1970_too() {
        assert_eq!(WallClock::parse("1970-01-01T00:01:59").map(WallClock::minute), Some(1));
        assert_eq!(WallClock::parse("1969-12-31T23:59:59").map(WallClock::minute), Some(-1));
    }
}
