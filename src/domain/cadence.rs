//! When to look again: a table, and a pure function over it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::tracking::StatusCode;

/// The rows of the table (contract 4.1). `DE` and `SP` have none: they end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowName {
    Status(StatusCode),
    /// Shows only in details; see [`super::tracking::Tracking::is_out_for_delivery`].
    OutForDelivery,
    /// The estimated delivery day and the day after, not yet out for delivery.
    EstimateDay,
}

impl RowName {
    pub const ALL: [Self; 8] = [
        Self::Status(StatusCode::Unknown),
        Self::Status(StatusCode::NotYetInSystem),
        Self::Status(StatusCode::Accepted),
        Self::Status(StatusCode::InTransit),
        Self::Status(StatusCode::DeliveryAttempt),
        Self::Status(StatusCode::Exception),
        Self::OutForDelivery,
        Self::EstimateDay,
    ];

    /// The `X` of `[cadence.X]`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(code) => code.as_str(),
            Self::OutForDelivery => "out_for_delivery",
            Self::EstimateDay => "estimate_day",
        }
    }
}

/// One row: how long to wait while nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The wait after the change, after the first unchanged poll, … The last one repeats. Never empty.
    pub intervals: Vec<Duration>,
    /// (quiet for, interval): once quiet that long, this interval. Ascending.
    pub slow_after: Vec<(Duration, Duration)>,
    /// At the destination; outside of it the row does not apply.
    pub hours: Option<Hours>,
}

/// A span of the day, from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    pub start: Time,
    /// Midnight at the end of the day is `00:00`.
    pub end: Time,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    pub rows: BTreeMap<RowName, Row>,
    /// Without any change for so long: expired.
    pub give_up_after: Duration,
    /// Further looks so long after `DE` or `SP`. Ascending.
    pub settle: Vec<Duration>,
}

/// What the cadence looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// `None`: never answered, or a code we don't know.
    pub status: Option<StatusCode>,
    pub out_for_delivery: bool,
    /// The estimated delivery's calendar day.
    pub estimate: Option<Date>,
    /// Hours east of UTC at the destination, as good a guess as there is.
    pub utc_offset: Offset,
    /// When *we* saw the last change, else when the label was registered; the carrier's times are not to be trusted.
    pub quiet_since: Timestamp,
    /// Unchanged polls in a row.
    pub unchanged: u32,
    /// The moment a terminal status was seen, if one was.
    pub finished_at: Option<Timestamp>,
    /// Only one answer was seen so far: the phase is spread by [`spread`] of the label.
    pub first: Option<f64>,
}

/// What the cadence says.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// Again at `at`.
    Again(Next),
    /// Finished, and no further look is wanted.
    Never,
    /// Nothing changed for `give_up_after`.
    GiveUp,
}

/// The next poll and why it is then.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    pub at: Timestamp,
    pub row: &'static str,
    /// The table's interval, before stretch and jitter.
    pub interval: Duration,
    pub reasons: Vec<String>,
}

/// How far jitter moves an interval, as a share of it.
pub const JITTER: f64 = 0.08;

/// The row of the looks after a terminal status.
pub const SETTLE_ROW: &str = "settle";

impl Cadence {
    /// When to look again. `stretch` (at least 1) is the account's, `jitter` is from -1 to 1.
    pub fn next(&self, situation: &Situation, now: Timestamp, stretch: f64, jitter: f64) -> Look {
        if let Some(finished_at) = situation.finished_at {
            return self.settle(finished_at, now);
        }
        let quiet = now.duration_since(situation.quiet_since).unsigned_abs();
        if now >= situation.quiet_since && quiet >= self.give_up_after {
            return Look::GiveUp;
        }
        let local = situation.utc_offset.to_datetime(now);
        let (name, row, opens) = self.row(situation, local);
        let (interval, why) = row.interval(situation.unchanged, quiet);

        let mut reasons = vec![format!("row {}: {why}", name.as_str())];
        let mut wait = interval.mul_f64(stretch.max(1.0));
        if stretch > 1.0 {
            reasons.push(format!("stretched {stretch:.2} times, to fit the account's quota"));
        }
        if let Some(phase) = situation.first {
            wait = wait.mul_f64(0.5 + phase / 2.0);
            reasons.push("first wait shortened by the label's own phase".to_owned());
        }
        wait = wait.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0));
        let mut at = later(now, wait);
        if let Some((opening, row)) = opens
            && opening < at
            && opening > now
        {
            // Spread over the first minutes, or a whole region would be asked for at the same second.
            at = later(opening, Duration::from_secs_f64(150.0 * (jitter.clamp(-1.0, 1.0) + 1.0)));
            reasons.push(format!("brought forward to the hours of row {}", row.as_str()));
        }
        let end = later(situation.quiet_since, self.give_up_after);
        if at > end && end > now {
            at = end;
            reasons.push("one last look before giving up".to_owned());
        }
        Look::Again(Next { at, row: name.as_str(), interval, reasons })
    }

    fn settle(&self, finished_at: Timestamp, now: Timestamp) -> Look {
        let next = self.settle.iter().copied().find(|after| later(finished_at, *after) > now);
        match next {
            Some(after) => Look::Again(Next {
                at: later(finished_at, after),
                row: SETTLE_ROW,
                interval: after,
                reasons: vec![format!("row {SETTLE_ROW}: a further look {after:?} after the end")],
            }),
            None => Look::Never,
        }
    }

    /// The row that applies at `local` time, and the next opening of a denser one whose hours have not come yet.
    fn row(&self, situation: &Situation, local: DateTime) -> (RowName, &Row, Option<(Timestamp, RowName)>) {
        let status = situation.status.unwrap_or(StatusCode::Unknown);
        let fallback = if status.is_terminal() { StatusCode::InTransit } else { status };
        // Out for delivery, but outside of its hours: the IT row, whatever the status.
        let plain =
            RowName::Status(if situation.out_for_delivery { StatusCode::InTransit } else { fallback });
        let dense = if situation.out_for_delivery {
            Some((RowName::OutForDelivery, None))
        } else {
            let estimated = matches!(fallback, StatusCode::InTransit | StatusCode::Accepted);
            situation.estimate.filter(|_| estimated).map(|day| (RowName::EstimateDay, Some(day)))
        };
        let plain_row = &self.rows[&plain];
        let Some((name, day)) = dense else { return (plain, plain_row, None) };
        let row = &self.rows[&name];
        let days = day.map(|day| [day, day.tomorrow().unwrap_or(day)]);
        let on_day = |date: Date| days.is_none_or(|days| days.contains(&date));
        let Some(hours) = row.hours else {
            return if on_day(local.date()) { (name, row, None) } else { (plain, plain_row, None) };
        };
        if on_day(local.date()) && hours.contain(local.time()) {
            return (name, row, None);
        }
        let opening = [local.date(), local.date().tomorrow().unwrap_or(local.date())]
            .into_iter()
            .filter(|date| on_day(*date))
            .map(|date| date.to_datetime(hours.start))
            .find(|opening| *opening > local)
            .and_then(|opening| situation.utc_offset.to_timestamp(opening).ok());
        (plain, plain_row, opening.map(|at| (at, name)))
    }
}

impl Row {
    /// The interval after `unchanged` polls and `quiet` time, and why.
    fn interval(&self, unchanged: u32, quiet: Duration) -> (Duration, String) {
        let step = (unchanged as usize).min(self.intervals.len().saturating_sub(1));
        let stepped = self.intervals.get(step).copied().unwrap_or(Duration::from_secs(3600));
        let slowed = self.slow_after.iter().rev().find(|(after, _)| quiet >= *after);
        match slowed {
            Some((after, interval)) if *interval > stepped => {
                (*interval, format!("quiet for over {after:?}, so every {interval:?}"))
            }
            _ => (stepped, format!("{unchanged} unchanged polls in a row, so {stepped:?}")),
        }
    }
}

impl Hours {
    pub fn contain(self, time: Time) -> bool {
        if self.end == Time::midnight() {
            time >= self.start
        } else if self.start <= self.end {
            time >= self.start && time < self.end
        } else {
            time >= self.start || time < self.end
        }
    }
}

fn later(at: Timestamp, wait: Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// A number from 0 to 1 that is a label's own: a hash of its id, so that ten thousand labels registered at once do not
/// march in step.
pub fn spread(text: &str) -> f64 {
    // FNV-1a: any fixed, well-mixed hash does; std's is not fixed.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// The destination's offset from UTC: from a longitude (15 degrees an hour), else from the country, else UTC-6.
pub fn guess_offset(longitude: Option<f64>, country: Option<&str>) -> Offset {
    let hours = match (longitude, country.map(|code| code.trim().to_ascii_uppercase())) {
        (Some(degrees), _) if (-180.0..=180.0).contains(&degrees) => (degrees / 15.0).round() as i8,
        (_, Some(code)) => match code.as_str() {
            "GB" | "IE" | "PT" | "IS" => 0,
            "DE" | "FR" | "ES" | "IT" | "NL" | "BE" | "AT" | "CH" | "PL" | "SE" | "NO" | "DK" | "CZ" => 1,
            "FI" | "GR" | "RO" | "BG" | "ZA" | "IL" => 2,
            "IN" => 5,
            "CN" | "SG" | "HK" => 8,
            "JP" | "KR" => 9,
            "AU" => 10,
            "NZ" => 12,
            "BR" | "AR" => -3,
            _ => -6,
        },
        _ => -6,
    };
    Offset::constant(hours)
}

/// The calendar day of an estimate, as spelled: its zone is not to be trusted, its day is.
pub fn estimate_day(text: &str) -> Option<Date> {
    let text = text.trim();
    match text.get(..10).and_then(|day| day.parse::<Date>().ok()) {
        Some(day) => Some(day),
        None => us_date(text),
    }
}

/// `8/4/2021`, as old answers have it.
fn us_date(text: &str) -> Option<Date> {
    let mut parts = text.split([' ', 'T']).next()?.split('/');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn cadence() -> Cadence {
        let row = |hours: &[u64]| Row {
            intervals: hours.iter().map(|h| HOUR * *h as u32).collect(),
            slow_after: vec![(HOUR * 96, HOUR * 12), (HOUR * 240, HOUR * 24)],
            hours: None,
        };
        let mut rows: BTreeMap<RowName, Row> =
            RowName::ALL.into_iter().map(|name| (name, row(&[3, 4, 6]))).collect();
        rows.insert(
            RowName::OutForDelivery,
            Row {
                intervals: vec![HOUR / 3],
                slow_after: vec![(HOUR * 16, HOUR * 2), (HOUR * 24, HOUR * 6)],
                hours: Some(Hours { start: Time::constant(7, 0, 0, 0), end: Time::constant(21, 0, 0, 0) }),
            },
        );
        rows.insert(
            RowName::EstimateDay,
            Row {
                intervals: vec![Duration::from_secs(45 * 60)],
                slow_after: vec![],
                hours: Some(Hours { start: Time::constant(6, 30, 0, 0), end: Time::constant(11, 0, 0, 0) }),
            },
        );
        Cadence { rows, give_up_after: HOUR * 24 * 60, settle: vec![] }
    }

    fn situation(quiet_since: &str) -> Situation {
        Situation {
            status: Some(StatusCode::InTransit),
            out_for_delivery: false,
            estimate: None,
            utc_offset: Offset::constant(-5),
            quiet_since: quiet_since.parse().unwrap(),
            unchanged: 0,
            finished_at: None,
            first: None,
        }
    }

    fn next(situation: &Situation, now: &str) -> Next {
        match cadence().next(situation, now.parse().unwrap(), 1.0, 0.0) {
            Look::Again(next) => next,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_interval_repeats() {
        for (unchanged, hours) in [(0, 3), (1, 4), (2, 6), (3, 6), (300, 6)] {
            let situation = Situation { unchanged, ..situation("2026-11-01T00:00:00Z") };
            assert_eq!(next(&situation, "2026-11-01T12:00:00Z").interval, HOUR * hours);
        }
    }

    #[test]
    fn silence_slows_it_down() {
        let situation = Situation { unchanged: 9, ..situation("2026-11-01T00:00:00Z") };
        assert_eq!(next(&situation, "2026-11-05T00:00:00Z").interval, HOUR * 12);
        assert_eq!(next(&situation, "2026-11-11T00:00:00Z").interval, HOUR * 24);
    }

    #[test]
    fn out_for_delivery_is_dense_by_day_and_waits_for_morning() {
        let out = Situation { out_for_delivery: true, ..situation("2026-11-01T12:00:00Z") };
        let by_day = next(&out, "2026-11-01T14:00:00Z");
        assert_eq!((by_day.row, by_day.interval), ("out_for_delivery", HOUR / 3));
        // 04:30 at the destination: the IT row would say 07:30, but the hours open at 07:00.
        let by_night = next(
            &Situation { quiet_since: "2026-11-01T09:00:00Z".parse().unwrap(), ..out },
            "2026-11-01T09:30:00Z",
        );
        assert_eq!(by_night.row, "IT");
        assert_eq!(by_night.at, "2026-11-01T12:02:30Z".parse().unwrap());
    }

    #[test]
    fn the_estimated_day_and_the_next_are_dense_in_the_morning() {
        let estimated =
            Situation { estimate: "2026-11-03".parse().ok(), ..situation("2026-11-02T00:00:00Z") };
        assert_eq!(next(&estimated, "2026-11-02T13:00:00Z").row, "IT");
        assert_eq!(next(&estimated, "2026-11-03T13:00:00Z").row, "estimate_day");
        assert_eq!(next(&estimated, "2026-11-04T13:00:00Z").row, "estimate_day");
        assert_eq!(next(&estimated, "2026-11-04T17:00:00Z").row, "IT");
        assert_eq!(next(&estimated, "2026-11-05T13:00:00Z").row, "IT");
    }

    #[test]
    fn stretch_and_jitter_move_it() {
        let it = situation("2026-11-01T00:00:00Z");
        let now: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let wait = |stretch, jitter| match cadence().next(&it, now, stretch, jitter) {
            Look::Again(next) => next.at.duration_since(now).as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(2.0, 0.0), 6 * 3600);
        assert_eq!(wait(1.0, 1.0), 11_664);
        assert_eq!(wait(1.0, -1.0), 9_936);
    }

    #[test]
    fn patience_ends_with_a_last_look() {
        let old = situation("2026-09-01T00:00:00Z");
        assert_eq!(next(&old, "2026-10-30T23:00:00Z").at, "2026-10-31T00:00:00Z".parse().unwrap());
        let now = "2026-10-31T00:00:00Z".parse().unwrap();
        assert_eq!(cadence().next(&old, now, 1.0, 0.0), Look::GiveUp);
    }

    #[test]
    fn the_end_is_the_end_unless_settling() {
        let finished = Situation {
            status: Some(StatusCode::Delivered),
            finished_at: "2026-11-01T00:00:00Z".parse().ok(),
            ..situation("2026-11-01T00:00:00Z")
        };
        let now = "2026-11-01T02:00:00Z".parse().unwrap();
        assert_eq!(cadence().next(&finished, now, 1.0, 0.0), Look::Never);
        let settling = Cadence { settle: vec![HOUR, HOUR * 6], ..cadence() };
        match settling.next(&finished, now, 1.0, 0.0) {
            Look::Again(next) => assert_eq!(next.at, "2026-11-01T06:00:00Z".parse().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn estimates_are_days_however_spelled() {
        let day = "2026-08-27".parse().ok();
        for text in ["2026-08-27T10:00:00", "2026-08-27T10:00:00Z", "2026-08-27", "8/27/2026"] {
            assert_eq!(estimate_day(text), day, "{text}");
        }
        assert_eq!(estimate_day("soon"), None);
    }

    #[test]
    fn phases_are_spread() {
        let mut phases: Vec<f64> = (0..1000).map(|n| spread(&format!("se-{n}"))).collect();
        phases.sort_by(f64::total_cmp);
        assert!(phases.iter().enumerate().all(|(n, phase)| (phase - n as f64 / 1000.0).abs() < 0.06));
    }
}
