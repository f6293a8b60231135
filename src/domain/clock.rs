//! Wall time held against monotonic time (contract 9.5).
//!
//! [`Clocks`] compares the two and notices a jump of the wall clock. [`Gaps`] are spans of wall time that did not pass:
//! a jump forward makes one. AlertSettings (stalled, late, expired, unavailable) does not run in a gap, since nobody waited.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::{later, signed};

/// A smaller difference is the clock being slewed, or the time between two readings.
pub const SMALLEST_JUMP: SignedDuration = SignedDuration::from_secs(1);
/// A smaller jump is not worth a line in the log.
pub const WORTH_TELLING: SignedDuration = SignedDuration::from_secs(5);
/// Gaps that are remembered.
const GAPS: usize = 64;

/// A jump of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// What the wall clock would have shown.
    pub from: Timestamp,
    /// What it shows.
    pub to: Timestamp,
}

impl Jump {
    /// Above zero: forward.
    pub fn by(self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

/// By how much the clock was set back since the last step of a worker, if it was.
pub fn set_back_by(last: Option<Timestamp>, now: Timestamp) -> Option<SignedDuration> {
    last.map(|last| last.duration_since(now)).filter(|by| *by >= SMALLEST_JUMP)
}

/// The wall clock and the monotonic clock as they were read together.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The wall clock when the monotonic one showed zero, and no jump since.
    base: Timestamp,
}

impl Clocks {
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { base: wall.saturating_sub(signed(monotonic)).unwrap_or(Timestamp::MIN) }
    }

    /// Reads both clocks; `Some` if the wall clock jumped since the last reading.
    pub fn read(&mut self, wall: Timestamp, monotonic: Duration) -> Option<Jump> {
        let from = later(self.base, signed(monotonic));
        let jump = Jump { from, to: wall };
        if jump.by().abs() < SMALLEST_JUMP {
            // Slewing adds up to no jump.
            *self = Self::new(wall, monotonic);
            return None;
        }
        *self = Self::new(wall, monotonic);
        Some(jump)
    }
}

/// Spans of wall time that did not pass, in the order in which they were noticed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<(Timestamp, Timestamp)>);

impl Gaps {
    /// Takes in a jump. After one back, what lies ahead is time that will pass.
    pub fn jumped(&mut self, jump: Jump) {
        if jump.by() >= WORTH_TELLING {
            if self.0.len() == GAPS {
                self.0.remove(0);
            }
            self.0.push((jump.from, jump.to));
        } else if jump.by() < SignedDuration::ZERO {
            self.0.iter_mut().for_each(|(from, to)| *to = jump.to.min(*to).max(*from));
            self.0.retain(|(from, to)| from < to);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much of the time between the two did not pass.
    pub fn between(&self, since: Timestamp, until: Timestamp) -> SignedDuration {
        let within = |(from, to): &(Timestamp, Timestamp)| {
            let (from, to) = ((*from).max(since), (*to).min(until));
            if from < to { to.duration_since(from) } else { SignedDuration::ZERO }
        };
        self.0.iter().map(within).fold(SignedDuration::ZERO, SignedDuration::saturating_add)
    }

    /// When what is due at `at` by the calendar is due: later by the length of the gap in which that lies.
    pub fn defer(&self, at: Timestamp) -> Timestamp {
        let hit = self.0.iter().rev().find(|(from, to)| (*from..=*to).contains(&at));
        hit.map_or(at, |(from, to)| later(at, to.duration_since(*from)))
    }

    /// The instant at which what began at `since` would have begun, had all time passed; no later than `now`.
    pub fn moved(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        later(since, self.between(since, now)).min(now)
    }
}

#[cfg(test)]
mod tests;
