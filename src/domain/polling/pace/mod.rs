//! Paces, and how far the quota stretches all waits.
//!
//! Labels of about the same planned wait have one [`Pace`]; lateness is measured by it (see [`super::schedule`]). When a
//! label is due is decided by the cadence.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::budget::Budget;
use crate::domain::polling::adaptive_limit::Share;
use crate::domain::time::later;

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

    /// A number that stands for the pace in eight bits: two bits behind the leading one, and its place.
    pub fn code(self) -> u8 {
        let Some(log) = self.0.unsigned_abs().checked_ilog2() else { return 0 };
        let coarse = self.0.unsigned_abs() >> log.saturating_sub(2);
        1 + (log as u8) * 4 + (coarse & 3) as u8
    }

    /// The pace of a [`Self::code`].
    pub fn from_code(code: u8) -> Self {
        let Some(code) = code.checked_sub(1) else { return Self::NONE };
        let (log, coarse) = (u32::from(code / 4), i64::from(code % 4));
        Self(if log < 2 { coarse.max(1) } else { (4 + coarse) << (log - 2) })
    }

    /// How late a label of this pace is that was due so many milliseconds ago, as a share of its wait.
    pub fn lateness_ms(self, overdue_ms: i64) -> f64 {
        overdue_ms as f64 / self.measure() as f64
    }

    /// What lateness is measured by. What is due without a wait competes as if it had waited for an hour: a thousand
    /// new labels don't hold up those of every minute, and are soon ahead of those of every day.
    fn measure(self) -> i64 {
        if self == Self::NONE { 3_600_000 } else { self.0 }
    }

    /// How late a label of this pace is at `now`, as a share of its wait.
    pub fn lateness(self, due_at: Timestamp, now: Timestamp) -> f64 {
        self.lateness_ms(now.as_millisecond() - due_at.as_millisecond())
    }
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
