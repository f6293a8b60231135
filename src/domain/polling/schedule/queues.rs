//! Which label is polled next when more are due than the quota lets through.
//!
//! For a given rate of requests the mean delay is least if all waits are longer by one common factor (contract 4.2).
//! The label that is latest *in relation to its planned wait* is served first. So all waits stretch alike, whatever the
//! load does, and nothing is rescheduled when the load changes.
//!
//! Labels of one group (a carrier) and one [`Pace`] form a queue, ordered by due time. Only the heads of the queues are
//! compared.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::domain::polling::pace::Pace;

/// One turn in so many is for the newest label that is due without a wait: a new one is polled soon, however long the
/// queues are.
pub const NEWEST_EVERY: u64 = 4;
/// One turn in so many is for the longest overdue of all, by the clock: whatever comes in meanwhile, no label starves.
pub const OLDEST_EVERY: u64 = 128;

/// The most labels in one set of queues: a place fits into 24 bits.
pub const MOST: usize = 1 << 24;

/// The instant from which due times are counted, in milliseconds since 1970: 2020-01-01. With 40 bits of milliseconds
/// they reach into 2054; what lies outside is cut to the nearest end.
const EPOCH: i64 = 1_577_836_800_000;

/// A due time and a place, packed into one number that sorts by due time and then by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

impl Ticket {
    fn new(due_ms: i64, place: u32) -> Self {
        let due = (due_ms - EPOCH).clamp(0, (1 << 40) - 1).unsigned_abs();
        Self(due << 24 | u64::from(place))
    }

    fn due_ms(self) -> i64 {
        (self.0 >> 24).cast_signed() + EPOCH
    }

    fn place(self) -> u32 {
        (self.0 & 0xff_ffff) as u32
    }
}

/// The waiting labels of an account, by group and pace. A label is known by its place, a number below [`MOST`].
#[derive(Debug, Default)]
pub struct Queues {
    queues: BTreeMap<(u16, Pace), BTreeSet<Ticket>>,
    /// Groups that wait as a whole, and until when (ms).
    held: BTreeMap<u16, i64>,
    /// Labels served so far.
    turn: u64,
    len: usize,
}

impl Queues {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn insert(&mut self, group: u16, pace: Pace, due_ms: i64, place: u32) {
        let inserted = self.queues.entry((group, pace)).or_default().insert(Ticket::new(due_ms, place));
        self.len += usize::from(inserted);
    }

    /// Removes a label that was inserted with these values.
    pub fn remove(&mut self, group: u16, pace: Pace, due_ms: i64, place: u32) {
        let Some(queue) = self.queues.get_mut(&(group, pace)) else { return };
        self.len -= usize::from(queue.remove(&Ticket::new(due_ms, place)));
        if queue.is_empty() {
            self.queues.remove(&(group, pace));
        }
    }

    /// The labels of `group` wait until then.
    pub fn hold(&mut self, group: u16, until_ms: i64) {
        let held = self.held.entry(group).or_insert(until_ms);
        *held = until_ms.max(*held);
    }

    /// Groups that wait do so until so much earlier.
    pub fn pull_holds_in(&mut self, by_ms: i64) {
        self.held.values_mut().for_each(|until| *until = until.saturating_sub(by_ms));
    }

    /// Takes the label whose turn it is at `now`, if one is due.
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
                let lateness = |pace: Pace, head: Ticket| pace.lateness_ms(now - head.due_ms());
                lateness(a.1, *first).total_cmp(&lateness(b.1, *second))
            })?,
        };
        self.turn = turn;
        self.take(key, ticket);
        Some(ticket.place())
    }

    /// When the next label is due, as far as no hold keeps it.
    pub fn next_due_ms(&self) -> Option<i64> {
        let due = |((group, _), queue): (&(u16, Pace), &BTreeSet<Ticket>)| {
            let head = queue.first()?.due_ms();
            Some(self.held.get(group).map_or(head, |until| head.max(*until)))
        };
        self.queues.iter().filter_map(due).min()
    }

    /// How many labels wait that were never planned: new ones, and those asked for by hand.
    pub fn without_wait(&self) -> usize {
        self.queues.iter().filter(|((_, pace), _)| *pace == Pace::NONE).map(|(_, queue)| queue.len()).sum()
    }

    /// How many labels are due at `now`. Counts those of queues that are due in part one by one.
    pub fn due(&self, now: Timestamp) -> usize {
        let until = Ticket::new(now.as_millisecond().saturating_add(1), 0);
        let due = |queue: &BTreeSet<Ticket>| match queue.last() {
            Some(last) if *last < until => queue.len(),
            _ => queue.range(..until).count(),
        };
        self.queues.values().map(due).sum()
    }

    fn heads(&self, now: i64) -> impl Iterator<Item = ((u16, Pace), Ticket)> {
        let open = self.queues.iter().filter(|((group, _), _)| !self.held.contains_key(group));
        let heads = open.filter_map(|(key, queue)| Some((*key, *queue.first()?)));
        heads.filter(move |(_, head)| head.due_ms() <= now)
    }

    /// The newest due label without a wait.
    fn newest(&self, now: i64) -> Option<((u16, Pace), Ticket)> {
        let until = Ticket::new(now.saturating_add(1), 0);
        let fresh = self
            .queues
            .iter()
            .filter(|((group, pace), _)| *pace == Pace::NONE && !self.held.contains_key(group));
        fresh
            .filter_map(|(key, queue)| Some((*key, *queue.range(..until).next_back()?)))
            .max_by_key(|(_, t)| *t)
    }

    fn take(&mut self, key: (u16, Pace), ticket: Ticket) {
        let Some(queue) = self.queues.get_mut(&key) else { return };
        self.len -= usize::from(queue.remove(&ticket));
        if queue.is_empty() {
            self.queues.remove(&key);
        }
    }
}
