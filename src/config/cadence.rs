//! `[cadence]` and `[alerts]`: how often labels are polled, and when a quiet one is reported.
//!
//! [`crate::domain::polling::cadence`] explains the rows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;
use serde::Deserialize;

use super::bounded_int::BoundedInt;
use super::duration::{self, ConfigDuration};
use super::fault::known_here;
use super::table::At;
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::polling::cadence::{Cadence, Hours, Row, RowName};
use crate::domain::tracking::StatusCode;

/// `[cadence]` as written.
#[derive(Deserialize)]
#[expect(non_snake_case, reason = "status codes")]
pub(super) struct CadenceSection {
    give_up_after: ConfigDuration,
    settle: Vec<ConfigDuration>,
    UN: RowSection,
    NY: RowSection,
    AC: RowSection,
    IT: RowSection,
    AT: RowSection,
    EX: RowSection,
    out_for_delivery: RowSection,
    estimate_day: RowSection,
}

/// `[cadence.X]` as written.
#[derive(Deserialize)]
struct RowSection {
    intervals: Vec<ConfigDuration>,
    #[serde(default)]
    slow_after: BTreeMap<String, ConfigDuration>,
    hours: Option<DayPart>,
    #[serde(default)]
    learn: bool,
}

/// Rows with shorter intervals are not learned, because moving their polls gains nothing.
const MIN_LEARNED_INTERVAL: Duration = Duration::from_secs(300);

impl CadenceSection {
    pub(super) fn check(self, at: &At<'_>) -> Cadence {
        let rows =
            [self.UN, self.NY, self.AC, self.IT, self.AT, self.EX, self.out_for_delivery, self.estimate_day];
        let rows = RowName::ALL.into_iter().zip(rows);
        let mut settle: Vec<Duration> = self.settle.into_iter().map(|ConfigDuration(after)| after).collect();
        settle.sort();
        settle.dedup();
        let rows = rows.map(|(name, row)| (name, row.check(&at.key(name.as_str()), name))).collect();
        Cadence { rows, give_up_after: self.give_up_after.0, settle }
    }
}

impl RowSection {
    fn check(self, at: &At<'_>, name: RowName) -> Row {
        if self.intervals.is_empty() {
            at.key("intervals").fault("is empty", "write at least one interval; the last one repeats");
        }
        if self.hours.is_some() && matches!(name, RowName::Status(_)) {
            let hint = "remove hours, or write them into out_for_delivery or estimate_day";
            at.key("hours").fault("is not allowed in the row of a status code", hint);
        }
        if self.learn
            && self.intervals.iter().any(|ConfigDuration(interval)| *interval < MIN_LEARNED_INTERVAL)
        {
            at.key("learn").fault_of("true", "is not allowed with intervals under 5m", "remove learn");
        }
        Row {
            intervals: self.intervals.into_iter().map(|ConfigDuration(wait)| wait).collect(),
            slow_after: slow_after(&at.key("slow_after"), self.slow_after),
            hours: self.hours.map(|DayPart(hours)| hours),
            learn: self.learn,
        }
    }
}

fn slow_after(at: &At<'_>, written: BTreeMap<String, ConfigDuration>) -> Vec<(Duration, Duration)> {
    let mut steps: Vec<(Duration, Duration)> = Vec::new();
    for (quiet, ConfigDuration(interval)) in written {
        let hint = "write { \"time without a change\" = \"interval\" }, as in { \"4d\" = \"12h\" }";
        match duration::parse(&quiet) {
            Err(error) => at.key(&quiet).fault(format!("{quiet:?} {error}"), hint),
            Ok(quiet_for) if steps.iter().any(|(other, _)| *other == quiet_for) => {
                at.key(&quiet).fault("is given twice", hint);
            }
            Ok(quiet_for) => steps.push((quiet_for, interval)),
        }
    }
    steps.sort();
    steps
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct DayPart(Hours);

impl TryFrom<String> for DayPart {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "is not a part of the day\nwrite start and end within one day, as in \"07-21\" or \"06:30-11:00\"";
        hours(&text).map(Self).ok_or(WRONG)
    }
}

fn hours(text: &str) -> Option<Hours> {
    let (start, end) = text.split_once('-')?;
    let (start, to_midnight) = (time(start)?, matches!(end.trim(), "24" | "24:00"));
    let end = if to_midnight { Time::midnight() } else { time(end)? };
    (start < end || to_midnight).then_some(Hours { start, end })
}

/// `7`, `07` or `06:30`.
fn time(text: &str) -> Option<Time> {
    let text = text.trim();
    Time::strptime("%H:%M", text).or_else(|_| Time::strptime("%H:%M", format!("{text}:00"))).ok()
}

/// `[alerts]` as written.
#[derive(Deserialize)]
pub(super) struct AlertsSection {
    stalled_after: BTreeMap<String, Days>,
    late_after: Days,
}

type Days = BoundedInt<0, 365>;

impl AlertsSection {
    pub(super) fn check(self, at: &At<'_>) -> AlertSettings {
        let mut stalled_after = BTreeMap::new();
        let known = StatusCode::ALL.into_iter().filter(|code| !code.is_terminal());
        for (name, days) in self.stalled_after {
            match known.clone().find(|code| code.as_str().eq_ignore_ascii_case(&name)) {
                Some(status) => {
                    stalled_after.insert(status, days.u32());
                }
                None => {
                    let hint = known_here(&name, known.clone().map(StatusCode::as_str));
                    at.key("stalled_after").key(&name).fault("is not a status code that can stall", hint);
                }
            }
        }
        AlertSettings { stalled_after, late_after: self.late_after.u32() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil;

    use super::*;

    #[test]
    fn hours_of_the_day() {
        let at = |hour, minute| civil::time(hour, minute, 0, 0);
        for (text, expected) in [
            ("7-21", Some((at(7, 0), at(21, 0)))),
            ("07-21", Some((at(7, 0), at(21, 0)))),
            ("06:30-11:00", Some((at(6, 30), at(11, 0)))),
            (" 6 - 24 ", Some((at(6, 0), at(0, 0)))),
            ("0-24:00", Some((at(0, 0), at(0, 0)))),
            ("0-24:01", None),
            ("0-00", None),
            ("24-24", None),
            ("21-7", None),
            ("7-25", None),
            ("06:60-7", None),
            ("7", None),
            ("-7", None),
            ("+6-7", None),
            ("006-7", None),
        ] {
            assert_eq!(hours(text), expected.map(|(start, end)| Hours { start, end }), "{text:?}");
        }
    }
}
