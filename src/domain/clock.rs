//! Wall time compared with monotonic time (contract 9.5).
//!
//! [`Clocks`] compares the two and detects a jump of the wall clock. [`Gaps`] are spans of wall time that did not pass:
//! a jump forward makes one. No alert runs out in a gap. [`Mark`] and [`ClockRecord`] carry both across a restart.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::digest::Digest;
use crate::domain::time::{later, signed};

/// Smallest difference that is a jump. A smaller one is slewing, or the time between two readings.
pub const SMALLEST_JUMP: SignedDuration = SignedDuration::from_secs(1);
/// Smallest jump that is logged.
pub const MIN_LOGGED_JUMP: SignedDuration = SignedDuration::from_secs(5);
/// Number of gaps that are kept.
const MAX_GAPS: usize = 64;

/// A jump of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The wall time without the jump.
    pub from: Timestamp,
    /// The wall time after the jump.
    pub to: Timestamp,
}

impl Jump {
    /// Returns the length of the jump; positive: forward.
    pub fn by(self) -> SignedDuration {
        self.to.duration_since(self.from)
    }
}

/// A reading of the wall clock and of the time since boot, which no setting of the clock changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub wall: Timestamp,
    pub uptime: Duration,
    /// Digest of the machine's id and name; `None`: it has none.
    pub machine: Option<Digest>,
}

impl Mark {
    /// Returns how far the wall clock jumped until `now`; zero for slewing, and if the machine was started in between.
    /// If the machine was restarted and has now run for longer than at the earlier reading, the restart is not detected
    /// and looks like a jump forward. Requests then count for up to a minute longer.
    pub fn jump_until(self, now: Self) -> SignedDuration {
        let Some(passed) = now.uptime.checked_sub(self.uptime) else { return SignedDuration::ZERO };
        let jump = now.wall.duration_since(self.wall).saturating_sub(signed(passed));
        if jump.abs() < SMALLEST_JUMP { SignedDuration::ZERO } else { jump }
    }

    /// Returns how far the wall clock jumped from the end of a run to the start of the next. If the machine is another
    /// one or was started in between, the uptime proves nothing, and a jump back is as long as the wall clock shows.
    pub fn jump_between_runs(self, now: Self) -> SignedDuration {
        let same_machine = self.machine.is_some() && self.machine == now.machine;
        if same_machine && now.uptime >= self.uptime {
            return self.jump_until(now);
        }
        let jump = now.wall.duration_since(self.wall).min(SignedDuration::ZERO);
        if jump.abs() < SMALLEST_JUMP { SignedDuration::ZERO } else { jump }
    }
}

/// Record of a run, for the next one.
#[derive(Clone, Debug, PartialEq)]
pub struct ClockRecord {
    pub mark: Mark,
    pub gaps: Arc<Gaps>,
}

/// Result of a comparison of the clock between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BetweenRuns {
    Nothing,
    Jumped(Jump),
    /// Nothing ran for a long time; after a start of the machine, the clock may have jumped.
    Away(SignedDuration),
}

/// A longer time between two runs is logged.
const LONG_AWAY: SignedDuration = SignedDuration::from_hours(1);

impl ClockRecord {
    /// Continues the last run at `now`, after a `jump` between the two. Adds the time that did not pass, or in which
    /// no daemon ran, to the gaps.
    pub fn continue_at(&mut self, now: Mark, jump: SignedDuration) -> BetweenRuns {
        let last = self.mark.wall;
        let away = now.wall.duration_since(last);
        let gaps = Arc::make_mut(&mut self.gaps);
        self.mark = now;
        let back = jump.min(away);
        if back <= -MIN_LOGGED_JUMP {
            let jump = Jump { from: later(now.wall, back.abs()), to: now.wall };
            gaps.add_jump(jump);
            return BetweenRuns::Jumped(jump);
        }
        if away >= LONG_AWAY {
            gaps.add_jump(Jump { from: last, to: now.wall });
        }
        if jump >= MIN_LOGGED_JUMP {
            let jump = Jump { from: later(now.wall, -jump), to: now.wall };
            if away < LONG_AWAY {
                gaps.add_jump(jump);
            }
            return BetweenRuns::Jumped(jump);
        }
        if away >= LONG_AWAY { BetweenRuns::Away(away) } else { BetweenRuns::Nothing }
    }
}

/// Returns the seconds by which counted requests are moved with a jump: the next larger whole second, so that none looks
/// older than it is.
pub fn seconds_of(jump: SignedDuration) -> i64 {
    i64::try_from(jump.as_millis().div_euclid(1000) + 1).unwrap_or_default()
}

/// Returns how far the clock was set back since the last step of a worker, if it was.
pub fn set_back_by(last: Option<Timestamp>, now: Timestamp) -> Option<SignedDuration> {
    last.map(|last| last.duration_since(now)).filter(|by| *by >= SMALLEST_JUMP)
}

/// Wall clock compared with the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Wall time at monotonic zero, as of the last reading.
    base: Timestamp,
}

impl Clocks {
    pub fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { base: wall.saturating_sub(signed(monotonic)).unwrap_or(Timestamp::MIN) }
    }

    /// Applies a reading. Returns the jump if the wall clock jumped since the last reading.
    pub fn read(&mut self, wall: Timestamp, monotonic: Duration) -> Option<Jump> {
        let from = later(self.base, signed(monotonic));
        let jump = Jump { from, to: wall };
        // Also without a jump, so that slewing does not add up to one.
        *self = Self::new(wall, monotonic);
        (jump.by().abs() >= SMALLEST_JUMP).then_some(jump)
    }
}

/// Spans of wall time that did not pass, in the order of detection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps(Vec<(Timestamp, Timestamp)>);

impl Gaps {
    /// Adds a jump. After a jump back, the part of a gap in the future is removed, because that time will pass.
    pub fn add_jump(&mut self, jump: Jump) {
        if jump.by() >= MIN_LOGGED_JUMP {
            if self.0.len() == MAX_GAPS {
                self.0.remove(0);
            }
            self.0.push((jump.from, jump.to));
        } else if jump.by() < SignedDuration::ZERO {
            self.0.iter_mut().for_each(|(from, to)| *to = jump.to.min(*to).max(*from));
            self.0.retain(|(from, to)| from < to);
        }
    }

    pub fn new(gaps: Vec<(Timestamp, Timestamp)>) -> Self {
        Self(gaps)
    }

    /// Start and end of each gap.
    pub fn iter(&self) -> impl Iterator<Item = &(Timestamp, Timestamp)> {
        self.0.iter()
    }

    /// Returns how much of the time between the two did not pass.
    pub fn between(&self, since: Timestamp, until: Timestamp) -> SignedDuration {
        let within = |(from, to): &(Timestamp, Timestamp)| {
            let (from, to) = ((*from).max(since), (*to).min(until));
            if from < to { to.duration_since(from) } else { SignedDuration::ZERO }
        };
        self.0.iter().map(within).fold(SignedDuration::ZERO, SignedDuration::saturating_add)
    }

    /// Returns when something that is due at `at` by the calendar is due: later by the length of the gap that contains
    /// `at`.
    pub fn defer(&self, at: Timestamp) -> Timestamp {
        let hit = self.0.iter().rev().find(|(from, to)| (*from..=*to).contains(&at));
        hit.map_or(at, |(from, to)| later(at, to.duration_since(*from)))
    }

    /// Returns the time at which something that began at `since` would have begun if all time had passed; at the latest
    /// `now`.
    pub fn moved(&self, since: Timestamp, now: Timestamp) -> Timestamp {
        later(since, self.between(since, now)).min(now)
    }
}

#[cfg(test)]
mod tests;
