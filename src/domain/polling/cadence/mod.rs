//! When to look again: a table, and a pure function over it.

mod situation;
mod surroundings;
mod why;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};

use crate::domain::polling::learning::Suggestion;
use crate::domain::time::after;
use crate::domain::tracking::StatusCode;

pub use situation::{Sight, Situation};
pub use surroundings::{guess_offset, spread};
pub use why::Why;

/// The rows of the table (contract 4.1). `DE` and `SP` have none: they end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowName {
    Status(StatusCode),
    /// Shows only in details; see [`crate::domain::tracking::Tracking::is_out_for_delivery`].
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

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.as_str() == name)
    }

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
    /// Whether the rhythm of one's own parcels may move its looks; the row says how many there are.
    pub learn: bool,
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
    /// The row that asks for it.
    pub row: &'static str,
    /// The wait before jitter.
    pub interval: Duration,
    /// How often it would be looked at at that time: who is late by as many of these is as late as anybody else.
    pub pace: Duration,
    pub why: Why,
}

/// How far jitter moves an interval, as a share of it.
pub const JITTER: f64 = 0.08;

/// The row of the looks after a terminal status.
pub const SETTLE_ROW: &str = "settle";

impl Cadence {
    /// The same interval whatever is known of a label: what most pollers do, to compare with.
    pub fn flat(interval: Duration, give_up_after: Duration) -> Self {
        let row = Row { intervals: vec![interval], slow_after: Vec::new(), hours: None, learn: false };
        let rows = RowName::ALL.into_iter().map(|name| (name, row.clone())).collect();
        Self { rows, give_up_after, settle: Vec::new() }
    }

    /// When to look again; `jitter` is from -1 to 1.
    pub fn next(&self, situation: &Situation, learnt: Suggestion<'_>, now: Timestamp, jitter: f64) -> Look {
        if let Some(finished_at) = situation.finished_at {
            return self.settle(finished_at, now);
        }
        let quiet = now.duration_since(situation.quiet_since).unsigned_abs();
        if now >= situation.quiet_since && quiet >= self.give_up_after {
            return Look::GiveUp;
        }
        let local = situation.utc_offset.to_datetime(now);
        let (name, row, opens) = self.row(situation, local);
        let (table, slowed) = row.interval(situation.unchanged, quiet);
        let (mut interval, mut pace) = (table, table);
        let mut why = Why { table, slowed, unchanged: situation.unchanged, ..Why::default() };
        let mut opening = None;
        if let Some((opens_at, dense)) = opens
            && let Ok(wait) = Duration::try_from(opens_at.duration_since(now))
            && wait < table
        {
            opening = Some(opens_at);
            why.opens = Some(dense.as_str());
            (interval, pace) = (wait, self.rows[&dense].interval(0, Duration::ZERO).0);
        }
        if let Some(found) = learnt.wait(self, situation, now, interval).filter(|_| row.learn) {
            // Who knows nothing of the dense row to come does not sleep through its opening.
            let sleeps = opens.is_none_or(|(_, dense)| learnt.knows(self, dense)) || found.wait < interval;
            if sleeps {
                (interval, pace) = (found.wait, found.pace);
                opening = None;
                why.learnt = Some(found.lesson);
            }
        }
        let mut wait = interval;
        if let Some(phase) = situation.first.filter(|_| opening.is_none()) {
            wait = wait.mul_f64(0.5 + phase / 2.0);
            why.first = true;
        }
        let jitter = jitter.clamp(-1.0, 1.0);
        let mut at = match opening {
            // Spread over the first minutes, or a whole region would be asked for at the same second.
            Some(opens_at) => after(opens_at, Duration::from_secs_f64(150.0 * (jitter + 1.0))),
            None => after(now, wait.mul_f64(1.0 + JITTER * jitter)),
        };
        let end = after(situation.quiet_since, self.give_up_after);
        if at > end && end > now {
            at = end;
            why.last = true;
        }
        Look::Again(Next { at, row: name.as_str(), interval, pace, why })
    }

    fn settle(&self, finished_at: Timestamp, now: Timestamp) -> Look {
        let next = self.settle.iter().copied().find(|wait| after(finished_at, *wait) > now);
        match next {
            Some(wait) => Look::Again(Next {
                at: after(finished_at, wait),
                row: SETTLE_ROW,
                interval: wait,
                pace: wait,
                why: Why { table: wait, ..Why::default() },
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
    /// The interval after `unchanged` polls and `quiet` time, and the quiet time that slowed it down, if one did.
    pub(super) fn interval(&self, unchanged: u32, quiet: Duration) -> (Duration, Option<Duration>) {
        let step = (unchanged as usize).min(self.intervals.len().saturating_sub(1));
        let stepped = self.intervals.get(step).copied().unwrap_or(Duration::from_secs(3600));
        let slowed = self.slow_after.iter().rev().find(|(after, _)| quiet >= *after);
        match slowed {
            Some((after, interval)) if *interval > stepped => (*interval, Some(*after)),
            _ => (stepped, None),
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

#[cfg(test)]
mod tests;
