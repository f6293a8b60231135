//! Who is asked about next: labels in the order of their due times, and while the quota holds them up in the order of
//! how late they are for their own interval.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

/// Labels that wait to be asked about.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Not due yet: (due, interval, label).
    ahead: BinaryHeap<Reverse<(Timestamp, Duration, usize)>>,
    /// Due, by interval; the longest overdue first.
    due: BTreeMap<Duration, VecDeque<(Timestamp, usize)>>,
}

impl Line {
    /// `interval` zero: it has never been asked about, and goes before all others.
    pub(super) fn push(&mut self, label: usize, at: Timestamp, interval: Duration) {
        self.ahead.push(Reverse((at, interval, label)));
    }

    /// When the next label falls due that is not due at `now`.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.advance(now);
        match self.due.is_empty() {
            true => self.ahead.peek().map(|Reverse((at, ..))| *at),
            false => Some(now),
        }
    }

    /// The label to be asked about at `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<usize> {
        self.advance(now);
        let lateness = |interval: &Duration, due: &Timestamp| {
            now.duration_since(*due).as_secs_f64() / interval.as_secs_f64().max(1e-9)
        };
        let interval = self
            .due
            .iter()
            .filter_map(|(interval, line)| Some((*interval, lateness(interval, &line.front()?.0))))
            .max_by(|one, other| one.1.total_cmp(&other.1))
            .map(|(interval, _)| interval)?;
        let line = self.due.get_mut(&interval)?;
        let (_, label) = line.pop_front()?;
        if line.is_empty() {
            self.due.remove(&interval);
        }
        Some(label)
    }

    fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse((at, interval, label))) =
            self.ahead.peek().copied().filter(|next| next.0.0 <= now)
        {
            self.ahead.pop();
            self.due.entry(interval).or_default().push_back((at, label));
        }
    }
}
