//! The order of polls, by the daemon's queues.

use jiff::Timestamp;

use crate::domain::polling::pace::Pace;
use crate::domain::polling::schedule::Queues;

/// Labels that wait for a poll, by number.
#[derive(Debug, Default)]
pub(super) struct PollOrder(Queues);

impl PollOrder {
    pub(super) fn push(&mut self, label: u32, at: Timestamp, pace: Pace) {
        self.0.insert(0, pace, at.as_millisecond(), label);
    }

    /// Returns when the next label is due, at the earliest `now`.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.0.next_due_ms()?).ok().map(|at| at.max(now))
    }

    /// Returns the label to poll at `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<u32> {
        self.0.pop(now)
    }
}
