//! The cadence: a table of intervals, and a pure function that returns the next poll (contract 4.1).
//!
//! The table decides how often a label is polled. A [`Suggestion`] may move the polls to hours and ages in which
//! changes are likelier. The cadence does not know where the suggestion comes from.

mod offset;
mod situation;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};

use super::reason::{CadenceReason, Learned, PollReason};
use crate::domain::time::{after, millis};
use crate::domain::tracking::StatusCode;

pub use offset::{guess_offset, phase};
pub use situation::{CadenceFields, Situation};

/// The rows of the table. `DE` and `SP` have none, because they end polling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowName {
    Status(StatusCode),
    /// Found only in the details of an answer; see [`crate::domain::tracking::Tracking::is_out_for_delivery`].
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

/// One row: the waits while nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The wait after the change, after the first unchanged poll, … The last one repeats. Never empty.
    pub intervals: Vec<Duration>,
    /// Pairs of quiet time and interval: after that quiet time the interval applies. Ascending.
    pub slow_after: Vec<(Duration, Duration)>,
    /// Hours at the destination in which the row applies; `None`: always.
    pub hours: Option<Hours>,
    /// Whether learned rates may move the polls of this row.
    pub learn: bool,
}

/// A span within one day: `start` included, `end` excluded.
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
    /// A label without any change for this long expires.
    pub give_up_after: Duration,
    /// Further polls this long after `DE` or `SP`. Ascending.
    pub settle: Vec<Duration>,
}

/// The decision of the cadence.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the common one")]
pub enum NextPoll {
    At(PlannedPoll),
    /// The label is finished, and no further poll is wanted.
    Never,
    /// The label expires: nothing changed for `give_up_after`.
    GiveUp,
}

/// The next poll.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedPoll {
    pub at: Timestamp,
    /// Expected interval between polls at that time. Labels are served by lateness as a fraction of it.
    pub pace: Duration,
    pub reason: PollReason,
}

/// A wait that learned rates suggest instead of the interval of the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    pub wait: Duration,
    /// Expected interval between polls at the end of the wait.
    pub pace: Duration,
    /// Weight of the suggestion, from 0 (the table decides) to 1 (the suggestion decides).
    pub weight: f64,
    pub learned: Learned,
    /// The rows with hours of their own about which enough was learned.
    pub known_rows: Vec<RowName>,
}

/// The largest fraction of an interval by which jitter moves it.
pub const POLL_JITTER: f64 = 0.08;

impl Cadence {
    /// A cadence of one interval for every label, as a baseline to compare with.
    pub fn flat(interval: Duration, give_up_after: Duration) -> Self {
        let row = Row { intervals: vec![interval], slow_after: Vec::new(), hours: None, learn: false };
        let rows = RowName::ALL.into_iter().map(|name| (name, row.clone())).collect();
        Self { rows, give_up_after, settle: Vec::new() }
    }

    /// Returns the next poll of a label. `jitter` is from -1 to 1.
    pub fn next(
        &self,
        situation: &Situation,
        suggestion: Option<Suggestion>,
        now: Timestamp,
        jitter: f64,
    ) -> NextPoll {
        if let Some(finished_at) = situation.finished_at {
            return self.settle(finished_at, now);
        }
        let quiet = now.duration_since(situation.quiet_since).unsigned_abs();
        if now >= situation.quiet_since && quiet >= self.give_up_after {
            return NextPoll::GiveUp;
        }
        let local = situation.utc_offset.to_datetime(now);
        let (name, row, opening) = self.row(situation, local);
        let (table, slowed) = row.interval(situation.unchanged, quiet);
        let (mut interval, mut pace) = (table, table);
        let next_row = opening.map(|(_, row)| row);
        let opening = opening.and_then(|(at, row)| {
            let wait = Duration::try_from(at.duration_since(now)).ok()?;
            (wait < table).then_some((at, row, wait))
        });
        if let Some((_, dense, wait)) = opening {
            (interval, pace) = (wait, self.rows[&dense].interval(0, Duration::ZERO).0);
        }
        // If the next row with hours was not learned, a longer suggestion would miss the start of its hours.
        let suggestion = suggestion.filter(|_| row.learn).map(|suggestion| suggestion.blended(interval));
        let suggestion = suggestion.filter(|suggestion| {
            next_row.is_none_or(|row| suggestion.known_rows.contains(&row)) || suggestion.wait < interval
        });
        if let Some(suggestion) = &suggestion {
            (interval, pace) = (suggestion.wait, suggestion.pace);
        }
        let opening = opening.filter(|_| suggestion.is_none());
        let opening_at = opening.map(|(at, _, _)| at);
        let phase = situation.phase.filter(|_| opening_at.is_none());
        let wait = phase.map_or(interval, |phase| interval.mul_f64(0.5 + phase / 2.0));
        let jitter = jitter.clamp(-1.0, 1.0);
        let at = match opening_at {
            // Spread over five minutes, so that the labels of a region are not due in the same second.
            Some(opening_at) => after(opening_at, Duration::from_secs_f64(150.0 * (jitter + 1.0))),
            None => after(now, wait.mul_f64(1.0 + POLL_JITTER * jitter)),
        };
        let end = after(situation.quiet_since, self.give_up_after);
        let last = at > end && end > now;
        let reason = PollReason::Cadence(CadenceReason {
            row: name.as_str().into(),
            interval_ms: millis(interval),
            table_ms: millis(table),
            unchanged: situation.unchanged,
            slowed_ms: slowed.map(millis),
            opens: opening.map(|(_, row, _)| row.as_str().into()),
            learned: suggestion.map(|suggestion| suggestion.learned),
            first: phase.is_some(),
            last,
            alert: false,
        });
        NextPoll::At(PlannedPoll { at: if last { end } else { at }, pace, reason })
    }

    fn settle(&self, finished_at: Timestamp, now: Timestamp) -> NextPoll {
        let next = self.settle.iter().copied().find(|wait| after(finished_at, *wait) > now);
        next.map_or(NextPoll::Never, |wait| {
            NextPoll::At(PlannedPoll {
                at: after(finished_at, wait),
                pace: wait,
                reason: PollReason::Settle { interval_ms: millis(wait) },
            })
        })
    }

    /// Returns the row that applies at `local` time, and the start of the next hours of a denser row.
    fn row(&self, situation: &Situation, local: DateTime) -> (RowName, &Row, Option<(Timestamp, RowName)>) {
        // Out for delivery outside of the hours of its row: the IT row applies, for any status.
        let plain = RowName::Status(if situation.out_for_delivery {
            StatusCode::InTransit
        } else {
            situation.row_status()
        });
        let dense = if situation.out_for_delivery {
            Some((RowName::OutForDelivery, None))
        } else {
            situation.estimate_days().map(|days| (RowName::EstimateDay, Some(days)))
        };
        let plain_row = &self.rows[&plain];
        let Some((name, days)) = dense else { return (plain, plain_row, None) };
        let row = &self.rows[&name];
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
    /// Returns the interval after `unchanged` polls and `quiet` time, and the entry of `slow_after` that set it, if
    /// any.
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

impl Suggestion {
    /// Returns the suggestion with wait and pace between the table's and its own, by its weight. The mean is geometric,
    /// because waits differ by factors.
    pub(super) fn blended(mut self, table: Duration) -> Self {
        let table = table.as_secs_f64().max(1.0);
        let blend = |learned: Duration| {
            Duration::from_secs_f64(table * (learned.as_secs_f64().max(1.0) / table).powf(self.weight))
        };
        (self.wait, self.pace) = (blend(self.wait), blend(self.pace));
        self
    }
}

impl Hours {
    pub fn contain(self, time: Time) -> bool {
        time >= self.start && (time < self.end || self.end == Time::midnight())
    }
}

#[cfg(test)]
mod tests;
