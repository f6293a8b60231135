//! Selection of the next label when more labels are due than the quota allows.
//!
//! For a given rate of requests the mean delay is smallest if all waits stretch by one common factor (contract 4.2). So
//! the label that is latest in relation to its planned wait is polled first. Under any load all waits stretch alike,
//! and nothing is rescheduled when the load changes.
//!
//! Labels of one carrier and one [`Pace`] form a queue, ordered by due time. Only the heads of the queues are
//! compared.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::polling::pace::Pace;

/// Every fourth turn polls the newest label that is due without a wait, so that a new label is polled soon.
pub const NEWEST_EVERY: u64 = 4;
/// Every 128th turn polls the label that is overdue longest by the clock, so that no label starves.
pub const OLDEST_EVERY: u64 = 128;

/// Number of bits of an index.
const INDEX_BITS: u32 = 22;
/// Maximum number of labels.
pub const MAX_LABELS: usize = 1 << INDEX_BITS;

/// A due time (ms since 1970, below 2^42, which is in the year 2109) and an index, packed into one number that sorts by due
/// time and then by index. Other times are cut to the nearest end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

impl Ticket {
    fn new(due_ms: i64, index: u32) -> Self {
        let due = due_ms.clamp(0, (1 << (u64::BITS - INDEX_BITS)) - 1).unsigned_abs();
        Self(due << INDEX_BITS | u64::from(index))
    }

    fn due_ms(self) -> i64 {
        (self.0 >> INDEX_BITS).cast_signed()
    }

    fn index(self) -> u32 {
        (self.0 % MAX_LABELS as u64) as u32
    }
}

/// Waiting labels of an account, by carrier and pace. An index below [`MAX_LABELS`] identifies a label.
#[derive(Debug, Default)]
pub struct Queues {
    queues: BTreeMap<(u16, Pace), BTreeSet<Ticket>>,
    /// Carriers whose labels wait, with the end of the wait (ms).
    held: BTreeMap<u16, i64>,
    /// Number of labels polled so far.
    turn: u64,
}

impl Queues {
    pub fn insert(&mut self, carrier: u16, pace: Pace, due_ms: i64, index: u32) {
        self.queues.entry((carrier, pace)).or_default().insert(Ticket::new(due_ms, index));
    }

    /// Removes a label that was inserted with these values.
    pub fn remove(&mut self, carrier: u16, pace: Pace, due_ms: i64, index: u32) {
        self.take((carrier, pace), Ticket::new(due_ms, index));
    }

    /// Lets the labels of `carrier` wait until `until_ms`.
    pub fn hold(&mut self, carrier: u16, until_ms: i64) {
        let held = self.held.entry(carrier).or_insert(until_ms);
        *held = until_ms.max(*held);
    }

    /// Ends the waits of all carriers earlier by `by_ms`.
    pub fn shorten_holds(&mut self, by_ms: i64) {
        self.held.values_mut().for_each(|until| *until = until.saturating_sub(by_ms));
    }

    /// Removes and returns the next label to poll at `now`, if one is due.
    pub fn pop(&mut self, now: Timestamp) -> Option<u32> {
        let now = now.as_millisecond();
        self.held.retain(|_, until| *until > now);
        let turn = self.turn + 1;
        let mut next = None;
        if turn.is_multiple_of(NEWEST_EVERY) {
            next = self.newest(now);
        }
        let (key, ticket) = match next {
            Some(next) => next,
            None if turn % OLDEST_EVERY == 1 => self.heads(now).min_by_key(|(_, head)| head.due_ms())?,
            None => self.heads(now).max_by(|(a, first), (b, second)| {
                let lateness = |pace: Pace, head: Ticket| pace.lateness_of(now - head.due_ms());
                lateness(a.1, *first).total_cmp(&lateness(b.1, *second))
            })?,
        };
        self.turn = turn;
        self.take(key, ticket);
        Some(ticket.index())
    }

    /// Returns when the next label may be polled. The wait of a carrier delays its labels.
    pub fn next_due_ms(&self) -> Option<i64> {
        let due = |((carrier, _), queue): (&(u16, Pace), &BTreeSet<Ticket>)| {
            let head = queue.first()?.due_ms();
            Some(self.held.get(carrier).map_or(head, |until| head.max(*until)))
        };
        self.queues.iter().filter_map(due).min()
    }

    /// Number of labels without a planned wait: new labels, and labels requested by hand.
    pub fn without_wait(&self) -> usize {
        self.queues.iter().filter(|((_, pace), _)| *pace == Pace::NONE).map(|(_, queue)| queue.len()).sum()
    }

    /// Number of labels due at `now`. Counts one by one in queues that are partly due.
    pub fn due_count(&self, now: Timestamp) -> usize {
        let until = Ticket::new(now.as_millisecond().saturating_add(1), 0);
        let due = |queue: &BTreeSet<Ticket>| match queue.last() {
            Some(last) if *last < until => queue.len(),
            _ => queue.range(..until).count(),
        };
        self.queues.values().map(due).sum()
    }

    fn heads(&self, now: i64) -> impl Iterator<Item = ((u16, Pace), Ticket)> {
        let open = self.queues.iter().filter(|((carrier, _), _)| !self.held.contains_key(carrier));
        let heads = open.filter_map(|(key, queue)| Some((*key, *queue.first()?)));
        heads.filter(move |(_, head)| head.due_ms() <= now)
    }

    /// Returns the newest due label without a wait.
    fn newest(&self, now: i64) -> Option<((u16, Pace), Ticket)> {
        let until = Ticket::new(now.saturating_add(1), 0);
        let fresh = self
            .queues
            .iter()
            .filter(|((carrier, pace), _)| *pace == Pace::NONE && !self.held.contains_key(carrier));
        fresh
            .filter_map(|(key, queue)| Some((*key, *queue.range(..until).next_back()?)))
            .max_by_key(|(_, t)| *t)
    }

    fn take(&mut self, key: (u16, Pace), ticket: Ticket) {
        let Some(queue) = self.queues.get_mut(&key) else { return };
        queue.remove(&ticket);
        if queue.is_empty() {
            self.queues.remove(&key);
        }
    }
}
