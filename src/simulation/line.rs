//! Who is asked about next: labels in the order of their due times; where the quota holds several up, in the daemon's own
//! order of lateness.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use jiff::Timestamp;

use crate::domain::pace::{self, Due, Pace, Queue};

/// Labels that wait to be asked about.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Not due yet.
    ahead: BinaryHeap<Reverse<(Timestamp, Pace, i64)>>,
    /// Due, by pace; the longest overdue first.
    due: BTreeMap<Pace, VecDeque<Due>>,
    turn: u64,
}

impl Line {
    pub(super) fn push(&mut self, label: i64, at: Timestamp, pace: Pace) {
        self.ahead.push(Reverse((at, pace, label)));
    }

    /// When there is somebody to be asked about: `now`, or later.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.advance(now);
        match self.due.is_empty() {
            true => self.ahead.peek().map(|Reverse((at, ..))| *at),
            false => Some(now),
        }
    }

    /// The label to be asked about at `now`.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<i64> {
        self.advance(now);
        let queue = |(pace, line): (&Pace, &VecDeque<Due>)| Queue {
            pace: *pace,
            heads: line.front().copied().into_iter().collect(),
            more: line.len() > 1,
            newest: line.back().copied().filter(|_| *pace == Pace::NONE).into_iter().collect(),
        };
        let queues: Vec<Queue> = self.due.iter().map(queue).collect();
        let label = *pace::order(&queues, self.turn, now, 1).first()?;
        self.turn += 1;
        for line in self.due.values_mut() {
            if line.front().is_some_and(|(head, _)| *head == label) {
                line.pop_front();
            } else if line.back().is_some_and(|(newest, _)| *newest == label) {
                line.pop_back();
            }
        }
        self.due.retain(|_, line| !line.is_empty());
        Some(label)
    }

    fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse((at, pace, label))) = self.ahead.peek().copied().filter(|next| next.0.0 <= now)
        {
            self.ahead.pop();
            self.due.entry(pace).or_default().push_back((label, at));
        }
    }
}
