//! Who is asked about first when more labels are due than the quota lets through, and how far that stretches all waits.
//!
//! For a given rate of requests the mean delay is least if all waits are longer by one common factor (contract 4.2).
//! Nobody computes that factor to get there: the label that is latest *in relation to its planned wait* is served first,
//! so all waits stretch alike, whatever the load does, and nothing is rescheduled when the load changes.
//!
//! Labels of about the same wait have one [`Pace`]. Within a pace the longest overdue comes first, so only the heads of
//! each have to be compared. It decides nothing about when a label is due: that is the cadence's.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::budget::Budget;
use super::share::Share;
use super::span::later;

/// A planned wait, rounded to three binary digits: off by an eighth at most, and four of them to a doubling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pace(i64);

impl Pace {
    /// Due without a wait: a label nobody has asked about yet, or one that somebody asks for by hand.
    pub const NONE: Self = Self(0);

    /// The pace of a wait; one of less than a millisecond is one of a millisecond.
    pub fn of(wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 56);
        let coarse = ms.ilog2().saturating_sub(2);
        let half = (1 << coarse) >> 1;
        Self((((ms + half) >> coarse) << coarse).cast_signed())
    }

    pub fn from_millis(ms: i64) -> Self {
        Self(ms.max(0))
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// What lateness is measured by. What is due without a wait competes as if it had waited for an hour: a thousand
    /// new labels don't hold up those of every minute, and are soon ahead of those of every day.
    fn measure(self) -> i64 {
        if self == Self::NONE { 3_600_000 } else { self.0 }
    }

    /// How late a label of this pace is at `now`, as a share of its wait.
    pub fn lateness(self, due_at: Timestamp, now: Timestamp) -> f64 {
        now.duration_since(due_at).as_secs_f64() * 1000.0 / self.measure() as f64
    }
}

/// A label that is due: its key, and since when.
pub type Due = (i64, Timestamp);

/// The labels of one pace that are due.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub pace: Pace,
    /// The longest overdue first.
    pub heads: Vec<Due>,
    /// More of them may be due behind the heads.
    pub more: bool,
    /// The newest of those without a pace, in any order; they are among the heads or behind them.
    pub newest: Vec<Due>,
}

/// One turn in so many is for the newest label that is due without a wait: a new one is looked at soon, however long the
/// queues are.
pub const NEWEST_EVERY: u64 = 4;
/// One turn in so many is for the longest overdue of all, by the clock: whatever comes in meanwhile, nobody starves.
pub const OLDEST_EVERY: u64 = 128;

/// Up to `count` labels in the order in which they are served from turn `turn` on; turns are counted over the life of an
/// account, one a request. It is shorter if what is behind the heads has to be seen first.
pub fn order(queues: &[Queue], turn: u64, now: Timestamp, count: usize) -> Vec<i64> {
    let mut left: Vec<&[Due]> = queues.iter().map(|queue| queue.heads.as_slice()).collect();
    let mut newest: Vec<Due> = queues.iter().flat_map(|queue| queue.newest.iter().copied()).collect();
    newest.sort_unstable_by_key(|(row, due_at)| (*due_at, *row));
    let mut ordered: Vec<i64> = Vec::with_capacity(count);
    let mut taken = HashSet::with_capacity(count);
    while ordered.len() < count {
        let turn = turn + ordered.len() as u64 + 1;
        if turn.is_multiple_of(NEWEST_EVERY)
            && let Some((row, _)) = std::iter::from_fn(|| newest.pop()).find(|(row, _)| !taken.contains(row))
        {
            taken.insert(row);
            ordered.push(row);
            continue;
        }
        let lateness = |index: &usize| queues[*index].pace.lateness(left[*index][0].1, now);
        let waiting = (0..left.len()).filter(|index| !left[*index].is_empty());
        let next = if turn % OLDEST_EVERY == 1 {
            waiting.min_by_key(|index| left[*index][0].1)
        } else {
            waiting.max_by(|a, b| lateness(a).total_cmp(&lateness(b)))
        };
        // The newest are among the heads or behind them.
        let Some(next) = next else { break };
        let (row, _) = left[next][0];
        left[next] = &left[next][1..];
        if taken.insert(row) {
            ordered.push(row);
        }
        if left[next].is_empty() && queues[next].more {
            break;
        }
    }
    ordered
}

/// What a wait asks for, in billionths of a request per second: the time's mean of 1/wait is the rate of requests.
pub fn nanohertz(wait: Duration) -> i64 {
    let ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX).max(1);
    1_000_000_000_000 / ms
}

/// What an account may ask, in requests per second: the least of its limit a minute, as far as it is used, and what is
/// left of its month.
pub fn allowed(requests_per_minute: u32, share: &Share, budget: &Budget, now: Timestamp) -> f64 {
    let by_minute = f64::from(share.of(requests_per_minute, now)) / 60.0;
    budget.rate().map_or(by_minute, |by_month| by_month.min(by_minute))
}

/// By how much all waits of an account stretch: what its labels ask for over what it may, both in requests per second,
/// and at least 1. Infinite if it may nothing.
pub fn stretch(demand: f64, allowed: f64) -> f64 {
    if allowed > 0.0 { (demand / allowed).max(1.0) } else { f64::INFINITY }
}

/// When a label that was planned for `due_at`, after a wait of `wait`, is to be expected: after the stretched wait, and
/// not before `open_at`, until when no call goes out.
pub fn expected_at(
    due_at: Timestamp,
    wait: Option<Duration>,
    stretch: f64,
    open_at: Option<Timestamp>,
) -> Timestamp {
    let longer = wait.filter(|_| stretch.is_finite()).unwrap_or_default().as_secs_f64() * (stretch - 1.0);
    let longer = if longer.is_finite() { SignedDuration::try_from_secs_f64(longer).ok() } else { None };
    let at = later(due_at, longer.unwrap_or_default());
    open_at.map_or(at, |open_at| at.max(open_at))
}

/// Whether a factor is to be told, and not only kept, after `told` was: when it leaves 1 or comes back, and between when
/// it has changed by a quarter.
pub fn is_worth_telling(told: f64, stretch: f64) -> bool {
    match (told > 1.0, stretch > 1.0) {
        (false, false) => false,
        // A little over is not told, or it would be told again and again.
        (false, true) => stretch > 1.05,
        (true, false) => true,
        (true, true) => stretch / told >= 1.25 || told / stretch >= 1.25,
    }
}

#[cfg(test)]
mod tests;
