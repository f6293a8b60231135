//! The schedule of an account: all labels that are polled, in memory.
//!
//! It selects the next label, sums up the demand of all labels, and holds what an unchanged answer needs, so that such
//! an answer needs no database access. A label takes about 90 bytes: an [`Entry`], a ticket in a queue and a
//! slot in the hash table by row. The database is the truth: the schedule is read from it at start and after each change
//! of the registry.

mod entry;
mod queues;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use jiff::{SignedDuration, Timestamp};

use super::pace::Pace;
use crate::domain::label::LabelId;
use crate::domain::polling::account_status::due_after_outage;
use crate::domain::polling::label_record::LabelRecord;
pub use entry::{Entry, prefix};
use entry::{FAILING, IN_FLIGHT, VACANT};
pub use queues::{MAX_LABELS, NEWEST_EVERY, OLDEST_EVERY, Queues};

/// The index of a label in the schedule.
pub type EntryIndex = u32;

/// Number of labels that are searched for a suitable probe.
const MAX_CANDIDATES: usize = 64;

/// The labels of an account that are polled.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
    vacant: Vec<EntryIndex>,
    by_row: HashTable<EntryIndex>,
    hasher: RandomState,
    queues: Queues,
    texts: Texts,
    /// Ids that are not `se-` and a plain number.
    odd_ids: HashMap<EntryIndex, LabelId>,
    /// Demand of all labels, in billionths of a request per second.
    nanohertz: i64,
}

/// Carriers and services by number; 0: none.
#[derive(Debug, Default)]
struct Texts {
    texts: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Texts {
    /// Returns the number of a text; 0 if all numbers are used.
    fn number(&mut self, text: Option<&str>) -> u16 {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return 0 };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.texts.len() + 1) else { return 0 };
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        number
    }

    fn text(&self, number: u16) -> Option<Arc<str>> {
        self.texts.get(usize::from(number).checked_sub(1)?).cloned()
    }
}

impl Schedule {
    /// Labels that are polled.
    pub fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Demand of all labels in requests per second: the sum of 1/wait.
    pub fn demand(&self) -> f64 {
        self.nanohertz as f64 / 1e9
    }

    /// Number of labels that wait for their first poll or for a poll requested by hand.
    pub fn first_poll_count(&self) -> usize {
        self.queues.without_wait()
    }

    /// Number of labels due at `now`. Counts them one by one.
    pub fn due_count(&self, now: Timestamp) -> usize {
        self.queues.due_count(now)
    }

    /// Returns when the next label is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.queues.next_due_ms()?).ok()
    }

    /// Inserts or replaces a label, or removes it if it has no next poll. It is due after its whole wait from `now` at
    /// the latest, because the clock may have been ahead when the wait was planned. A label in flight stays in flight;
    /// the result of its poll decides. `alert_at`: when an alert may be due next. Returns `false` if the schedule is full.
    pub fn put(&mut self, label: &LabelRecord, alert_at: Option<Timestamp>, now: Timestamp) -> bool {
        let index = self.index_of(label.row);
        if label.poll_state.next_poll_at.is_none() {
            index.into_iter().for_each(|index| self.remove(index));
            return true;
        }
        let carrier = self.texts.number(label.poll_state.carrier_code.as_deref());
        let service = self.texts.number(label.service());
        let number = plain_number(&label.key.id);
        let mut entry = Entry::new(label, alert_at, number.unwrap_or(u64::MAX), carrier, service);
        entry.due_ms = entry.due_ms.min(entry.latest_ms(now));
        let index = match index {
            Some(index) => {
                entry.set(IN_FLIGHT, self.entries[index as usize].has(IN_FLIGHT));
                self.dequeue(index);
                self.nanohertz += entry.nanohertz() - self.entries[index as usize].nanohertz();
                self.entries[index as usize] = entry;
                index
            }
            None => match self.add(entry) {
                Some(index) => index,
                None => return false,
            },
        };
        match number {
            Some(_) => drop(self.odd_ids.remove(&index)),
            None => drop(self.odd_ids.insert(index, label.key.id.clone())),
        }
        self.enqueue(index);
        true
    }

    /// Returns the next label to poll at `now`, if one is due. It is in flight until [`Self::end`] or
    /// [`Self::end_unchanged`].
    pub fn pop(&mut self, now: Timestamp) -> Option<EntryIndex> {
        let index = self.queues.pop(now)?;
        let entry = &mut self.entries[index as usize];
        entry.set(IN_FLIGHT, true);
        Some(index)
    }

    /// As [`Self::pop`], for the probe of an account that is not ok. The best probe is a label whose last poll succeeded
    /// and whose row is not `status_changed_by`, which changed the account's status: a label that fails by itself proves
    /// nothing.
    pub fn pop_probe(&mut self, status_changed_by: Option<i64>, now: Timestamp) -> Option<EntryIndex> {
        let mut passed = Vec::new();
        let mut found = None;
        while found.is_none() && passed.len() < MAX_CANDIDATES {
            let Some(index) = self.pop(now) else { break };
            let entry = self.entry(index);
            if entry.is_failing() || Some(entry.row) == status_changed_by {
                passed.push(index);
            } else {
                found = Some(index);
            }
        }
        let probe = found.or(passed.first().copied());
        passed.into_iter().filter(|index| Some(*index) != probe).for_each(|index| self.end(index));
        probe
    }

    pub fn entry(&self, index: EntryIndex) -> &Entry {
        &self.entries[index as usize]
    }

    pub fn id(&self, index: EntryIndex) -> LabelId {
        match self.odd_ids.get(&index) {
            Some(id) => id.clone(),
            None => LabelId::numbered(self.entry(index).number),
        }
    }

    pub fn carrier(&self, entry: &Entry) -> Option<Arc<str>> {
        self.texts.text(entry.carrier)
    }

    pub fn service(&self, entry: &Entry) -> Option<Arc<str>> {
        self.texts.text(entry.service)
    }

    /// Ends the poll of a label. It is due as before; [`Self::put`] applies the changes.
    pub fn end(&mut self, index: EntryIndex) {
        let entry = &mut self.entries[index as usize];
        if !entry.has(IN_FLIGHT) {
            return;
        }
        entry.set(IN_FLIGHT, false);
        if entry.has(VACANT) {
            self.vacant.push(index);
        } else {
            self.enqueue(index);
        }
    }

    /// Ends the poll of a label with an unchanged answer at `now`. The next poll is due at `due_at`, after `wait_ms`.
    pub fn end_unchanged(
        &mut self,
        index: EntryIndex,
        due_at: Timestamp,
        wait_ms: u32,
        pace: Pace,
        now: Timestamp,
    ) {
        let entry = &mut self.entries[index as usize];
        if !entry.has(VACANT) {
            self.nanohertz -= entry.nanohertz();
            entry.answer_unchanged(due_at.as_millisecond(), wait_ms, pace, now);
            self.nanohertz += entry.nanohertz();
        }
        self.end(index);
    }

    /// Lets the labels of `carrier` wait until `until`.
    pub fn hold(&mut self, carrier: &str, until: Timestamp) {
        let number = self.texts.number(Some(carrier));
        if number > 0 {
            self.queues.hold(number, until.as_millisecond());
        }
    }

    /// Applies a clock that was set back by `by`: each label is due after its whole wait from `now` at the latest, and
    /// the wait of a carrier keeps its length.
    pub fn set_back(&mut self, by: SignedDuration, now: Timestamp) {
        self.queues.shorten_holds(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
        self.pull_in(|entry| Some(entry.latest_ms(now)));
    }

    /// Ends the backoff of labels whose last poll failed, after an outage.
    pub fn make_failing_due(&mut self, now: Timestamp) {
        let due_ms = |entry: &Entry| due_after_outage(entry.due_at(), now).as_millisecond();
        self.pull_in(|entry| entry.has(FAILING).then(|| due_ms(entry)));
    }

    /// Makes each label due at `latest_ms` at the latest; `None` leaves it as it is.
    fn pull_in(&mut self, latest_ms: impl Fn(&Entry) -> Option<i64>) {
        for index in 0..self.entries.len() as EntryIndex {
            let entry = self.entries[index as usize];
            let Some(due_ms) = latest_ms(&entry).filter(|latest| entry.due_ms > *latest) else { continue };
            if !entry.has(VACANT) {
                self.dequeue(index);
                self.entries[index as usize].due_ms = due_ms;
                self.enqueue(index);
            }
        }
    }

    fn index_of(&self, row: i64) -> Option<EntryIndex> {
        let hash = self.hasher.hash_one(row);
        self.by_row.find(hash, |index| self.entries[*index as usize].row == row).copied()
    }

    fn add(&mut self, entry: Entry) -> Option<EntryIndex> {
        let index = match self.vacant.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None if self.entries.len() >= MAX_LABELS => return None,
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as EntryIndex
            }
        };
        let Self { entries, by_row, hasher, .. } = self;
        let hash = |index: &EntryIndex| hasher.hash_one(entries[*index as usize].row);
        by_row.insert_unique(hasher.hash_one(entry.row), index, hash);
        self.nanohertz += entry.nanohertz();
        Some(index)
    }

    fn remove(&mut self, index: EntryIndex) {
        self.dequeue(index);
        let row = self.entries[index as usize].row;
        let hash = self.hasher.hash_one(row);
        if let Ok(found) = self.by_row.find_entry(hash, |other| *other == index) {
            found.remove();
        }
        self.odd_ids.remove(&index);
        let entry = &mut self.entries[index as usize];
        self.nanohertz -= entry.nanohertz();
        entry.set(VACANT, true);
        // The index of a label in flight becomes free when its poll ends.
        if !entry.has(IN_FLIGHT) {
            self.vacant.push(index);
        }
    }

    fn enqueue(&mut self, index: EntryIndex) {
        let entry = self.entries[index as usize];
        if !entry.has(IN_FLIGHT) {
            self.queues.insert(entry.carrier, entry.pace(), entry.due_ms, index);
        }
    }

    fn dequeue(&mut self, index: EntryIndex) {
        let entry = self.entries[index as usize];
        if !entry.has(IN_FLIGHT) {
            self.queues.remove(entry.carrier, entry.pace(), entry.due_ms, index);
        }
    }
}

/// Returns the number of an id that is exactly `se-` and a plain number.
fn plain_number(id: &LabelId) -> Option<u64> {
    let digits = id.as_str().strip_prefix("se-")?;
    let number: u64 = digits.parse().ok().filter(|number| *number < u64::MAX)?;
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests;
