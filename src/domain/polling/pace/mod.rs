//! Paces of labels, and the factor by which the quota stretches all waits.
//!
//! Labels with about the same interval between polls share one [`Pace`]. Lateness is measured by it (see
//! [`super::schedule`]). The cadence decides when a label is due.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::budget::Budget;
use crate::domain::polling::adaptive_limit::AdaptiveLimit;
use crate::domain::time::later;

/// An interval between polls, rounded to three binary digits: at most an eighth off, with four paces for each doubling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pace(i64);

impl Pace {
    /// Due without a wait: a label that was never polled, or one requested by hand.
    pub const NONE: Self = Self(0);

    /// Returns the pace of a wait; at least a millisecond.
    pub fn of(wait: Duration) -> Self {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 56);
        let coarse = ms.ilog2().saturating_sub(2);
        let half = (1 << coarse) >> 1;
        Self((((ms + half) >> coarse) << coarse).cast_signed())
    }

    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the pace as a number of eight bits: the exponent, and two bits after the leading one.
    pub fn code(self) -> u8 {
        let Some(log) = self.0.unsigned_abs().checked_ilog2() else { return 0 };
        let coarse = self.0.unsigned_abs() >> log.saturating_sub(2);
        1 + (log as u8) * 4 + (coarse & 3) as u8
    }

    /// Returns the pace of a [`Self::code`].
    pub fn from_code(code: u8) -> Self {
        let Some(code) = code.checked_sub(1) else { return Self::NONE };
        let (log, coarse) = (u32::from(code / 4), i64::from(code % 4));
        Self(if log < 2 { coarse.max(1) } else { (4 + coarse) << (log - 2) })
    }

    /// Returns the lateness of a label that was due this many milliseconds ago, as a fraction of its interval.
    pub fn lateness_of(self, overdue_ms: i64) -> f64 {
        overdue_ms as f64 / self.measure() as f64
    }

    /// The wait by which lateness is measured. Labels without a wait count as if they had waited for an hour: a
    /// thousand new labels do not delay labels that are polled every minute, and soon pass labels that are polled
    /// daily.
    fn measure(self) -> i64 {
        if self == Self::NONE { 3_600_000 } else { self.0 }
    }

    /// Returns the lateness of a label at `now`, as a fraction of its interval.
    pub fn lateness(self, due_at: Timestamp, now: Timestamp) -> f64 {
        self.lateness_of(now.as_millisecond() - due_at.as_millisecond())
    }
}

/// Returns the requests a second that an account may send: the lesser of its adaptive limit and the rest of
/// its month.
pub fn allowed(requests_per_minute: u32, limit: &AdaptiveLimit, budget: &Budget, now: Timestamp) -> f64 {
    let by_minute = f64::from(limit.of(requests_per_minute, now)) / 60.0;
    budget.rate().map_or(by_minute, |by_month| by_month.min(by_minute))
}

/// Returns the factor by which all waits stretch: the demand of the labels divided by the allowed requests a second, at
/// least 1. Infinite if none is allowed.
pub fn stretch(demand: f64, allowed: f64) -> f64 {
    if allowed > 0.0 { (demand / allowed).max(1.0) } else { f64::INFINITY }
}

/// Returns the expected time of the poll of a label that is due at `due_at` after a wait of `wait`: after the stretched
/// wait, and not before `open_at`.
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

/// Whether a stretch is logged when `logged` was logged last: when it leaves 1, when it returns to 1, and when it
/// changes by a quarter in between.
pub fn is_worth_logging(logged: f64, stretch: f64) -> bool {
    match (logged > 1.0, stretch > 1.0) {
        (false, false) => false,
        // Slightly above 1 is not logged, or it would be logged again and again.
        (false, true) => stretch > 1.05,
        (true, false) => true,
        (true, true) => stretch / logged >= 1.25 || logged / stretch >= 1.25,
    }
}

#[cfg(test)]
mod tests;
