//! `[cadence]`: the table of how often to look.
//!
//! Reads the rows; what they mean is [`crate::domain::polling::cadence`]'s.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;

use super::duration;
use super::fault::meant;
use super::reader::{Entry, dotted};
use crate::domain::polling::cadence::{Cadence, Hours, Row, RowName};
use crate::domain::tracking::StatusCode;

pub(super) fn read(section: &Entry<'_>) -> Option<Cadence> {
    let (mut rows, mut give_up_after, mut settle) = (BTreeMap::new(), None, None);
    for (name, entry) in &section.named()? {
        match (*name, RowName::ALL.into_iter().find(|row| row.as_str() == *name)) {
            ("give_up_after", _) => give_up_after = entry.duration(),
            ("settle", _) => settle = entry.durations(),
            (_, Some(name)) => {
                row(name, entry).map(|row| rows.insert(name, row));
            }
            (_, None) => unknown(name, entry),
        }
    }
    let mut settle = settle?;
    settle.sort();
    settle.dedup();
    Some(Cadence { rows, give_up_after: give_up_after?, settle })
}

/// Looks that come more often are not worth moving.
const SHORTEST_LEARNT: Duration = Duration::from_secs(300);

fn unknown(name: &str, entry: &Entry<'_>) {
    let ends = ["DE", "SP"].iter().any(|code| code.eq_ignore_ascii_case(name));
    let known: Vec<&str> =
        RowName::ALL.iter().map(|row| row.as_str()).chain(["give_up_after", "settle"]).collect();
    let meant = meant(name, known.iter().copied());
    let hint = if ends {
        "DE and SP end the polling; `settle` asks for further looks".to_owned()
    } else {
        format!("{meant}Known here: {}", known.join(", "))
    };
    entry.fault_unshown::<()>("is no row of the cadence", hint);
}

fn row(name: RowName, entry: &Entry<'_>) -> Option<Row> {
    let table = entry.table(&["intervals", "slow_after", "hours", "learn"])?;
    let intervals = table.required("intervals", "intervals = [\"3h\", \"4h\", \"6h\"]").and_then(intervals);
    let slow_after = table.get("slow_after").map_or_else(|| Some(Vec::new()), slow_after);
    let hours = match table.get("hours") {
        None => Some(None),
        Some(entry) if name == RowName::Status(StatusCode::InTransit) => {
            entry.fault("is not for this row", "outside the hours of a row the IT row holds, so IT has none")
        }
        Some(entry) => hours(entry).map(Some),
    };
    let learn = table.get("learn").map_or(Some(false), |entry| {
        let learn = entry.flag()?;
        let dense = intervals.iter().flatten().any(|interval| *interval < SHORTEST_LEARNT);
        if learn && dense {
            return entry
                .fault("is not for intervals under 5m", "such a row is kept to the letter; leave learn out");
        }
        Some(learn)
    });
    Some(Row { intervals: intervals?, slow_after: slow_after?, hours: hours?, learn: learn? })
}

fn intervals(entry: &Entry<'_>) -> Option<Vec<Duration>> {
    let intervals = entry.durations()?;
    if intervals.is_empty() {
        return entry.fault_unshown("is empty", "at least one; the last one repeats");
    }
    Some(intervals)
}

fn slow_after(entry: &Entry<'_>) -> Option<Vec<(Duration, Duration)>> {
    let named = entry.named()?;
    let steps: Vec<Option<(Duration, Duration)>> = named
        .iter()
        .map(|(quiet, interval)| {
            let quiet_for = duration::parse(quiet).map_or_else(
                |error| {
                    let hint = "quiet for so long = this interval, as in { \"4d\" = \"12h\" }";
                    interval.fault_unshown(format!("{quiet:?} {error}"), hint)
                },
                Some,
            );
            let interval = interval.duration();
            Some((quiet_for?, interval?))
        })
        .collect();
    let mut steps: Vec<(Duration, Duration)> = steps.into_iter().collect::<Option<_>>()?;
    steps.sort();
    match steps.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => {
            let twice = dotted(&entry.key, &duration::format(pair[0].0));
            entry.fault_unshown(format!("{twice} is there twice"), "each quiet time once")
        }
        None => Some(steps),
    }
}

fn hours(entry: &Entry<'_>) -> Option<Hours> {
    const HINT: &str = "from and up to, as in \"07-21\" or \"06:30-11:00\", within one day";
    let text = entry.text()?;
    let span = text.split_once('-').and_then(|(start, end)| {
        let (start, end) = (minutes(start)?, minutes(end)?);
        (start < end).then_some(Hours { start: time(start)?, end: time(end % (24 * 60))? })
    });
    span.or_else(|| entry.fault("is no part of the day", HINT))
}

/// `7`, `07` or `06:30` as minutes since midnight, 24:00 included.
fn minutes(text: &str) -> Option<i16> {
    let (hour, minute) = text.trim().split_once(':').unwrap_or((text.trim(), "0"));
    let number = |digits: &str, most: i16| {
        let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<i16>().ok().filter(|number| plain && *number <= most)
    };
    let total = number(hour, 24)? * 60 + number(minute, 59)?;
    (total <= 24 * 60).then_some(total)
}

fn time(minutes: i16) -> Option<Time> {
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
    Time::new(hour, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_the_day() {
        for (text, expected) in [
            ("7", Some(420)),
            ("07", Some(420)),
            ("06:30", Some(390)),
            (" 24 ", Some(1440)),
            ("24:00", Some(1440)),
            ("24:01", None),
            ("25", None),
            ("06:60", None),
            ("", None),
            ("+7", None),
            ("007", None),
        ] {
            assert_eq!(minutes(text), expected, "{text:?}");
        }
    }
}
