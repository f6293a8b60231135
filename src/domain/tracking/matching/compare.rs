//! Compares an answer with the label's history.
//!
//! An answer is a whole list without ids, and earlier entries may change. Live events are matched first:
//! 1. equal fingerprint;
//! 2. equal time, code and location;
//! 3. a refined time, a shifted time or a changed code, where the choice is unambiguous;
//! 4. an unmatched event of the answer is added;
//! 5. an unmatched event of the history is missing, and retracted once it is missing twice in a row. If it was the oldest
//!    and newer ones are there, it fell off instead: some carriers send only the last scans.
//!
//! Before step 4, unmatched events of the answer are compared with retracted and fallen-off events, by steps 1 and 2
//! only. Step 3 would be wrong there: a shift is evidence only if the unshifted event has just vanished.
//!
//! The result is a value; its writer decides nothing.

use std::cell::LazyCell;

use super::event_id::EventIds;
use super::known_event::KnownEvent;
use super::local_time::LocalTime;
use super::pairing::Pairing;
use super::sides::{Sides, Span, span};
use crate::domain::label::LabelKey;
use crate::domain::tracking::TrackingEvent;

/// An event is retracted after this many good polls in a row without it.
pub const RETRACT_AFTER: u32 = 2;

/// Differences between the history and one good answer. `known` is an index into the history, `new` one into the
/// answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// New events, and retracted ones that returned, oldest first. Each is announced in a message of its own.
    pub added: Vec<Added>,
    /// Revised events, oldest first. They are announced in one message.
    pub revised: Vec<Revised>,
    /// Events missing in [`RETRACT_AFTER`] good polls in a row. They are announced in one message.
    pub retracted: Vec<usize>,
    /// Unchanged events. Their spelling may differ.
    pub same: Vec<(usize, usize)>,
    /// Events back at an earlier fingerprint, of which such a return was announced before. They are not announced.
    pub flapped: Vec<(usize, usize)>,
    /// Events missing for the first time.
    pub missing: Vec<usize>,
    /// The oldest events, which the list does not reach back to, while newer ones are there.
    pub fell_off: Vec<usize>,
    /// Whether the list is empty although the history has events: an anomaly that changes nothing (contract 5.1).
    pub empty_after_full: bool,
    /// Records of the history that change, in the order of the history. Records of new events are in `added`, where
    /// `returned` is `None`.
    pub updates: Vec<Update>,
}

/// An event of the answer that was not there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub new: usize,
    /// Record to store. For a returned event `updates` has it too.
    pub record: KnownEvent,
    /// Whether the event is older than the newest known event. `record.late` keeps this for a new event.
    pub late_now: bool,
    /// The retracted event that returned, under its old id.
    pub returned: Option<usize>,
    /// Names of the fields that differ, sorted, for a returned event.
    pub changed: Vec<String>,
}

/// An event whose content changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revised {
    pub known: usize,
    pub new: usize,
    pub revision: u32,
    /// Names of the fields that differ in more than spelling, sorted.
    pub changed: Vec<String>,
}

/// A changed record of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub known: usize,
    pub record: KnownEvent,
}

/// Compares `answer` (newest first, as received) with `known` (all events ever recorded for the label).
///
/// Total and deterministic. The order of the two lists does not matter, except for the order of announcements: equal or
/// unreadable times keep the order of the answer.
pub fn match_events(label: &LabelKey, known: &[KnownEvent], answer: &[TrackingEvent]) -> Matching {
    let is_gone = |old: usize| known[old].retracted || known[old].fell_off;
    let (gone, live): (Vec<_>, Vec<_>) = (0..known.len()).partition(|&old| is_gone(old));
    if answer.is_empty() {
        let empty_after_full = known.iter().any(|event| !event.retracted);
        return Matching { empty_after_full, ..Matching::default() };
    }
    let sides = Sides::new(known, answer);

    let mut live = Pairing::new(live, (0..answer.len()).collect());
    live.by_bytes(&sides);
    live.by_fingerprint(&sides);
    live.by_earlier_fingerprint(&sides);
    live.by_time_and_code(&sides);
    sides.set_matched_span(&live.pairs);
    live.by_refined_time(&sides);
    live.by_shift(&sides);
    live.by_time_and_location(&sides);
    live.by_day_and_code(&sides);

    let mut gone = Pairing::new(gone, std::mem::take(&mut live.new));
    gone.by_bytes(&sides);
    gone.by_fingerprint(&sides);
    gone.by_earlier_fingerprint(&sides);
    gone.by_time_and_code(&sides);
    let (returned, back_in_list): (Vec<_>, Vec<_>) =
        gone.pairs.into_iter().partition(|&(old, _)| known[old].retracted);

    let mut matching = Matching::default();
    for &(old, new) in live.pairs.iter().chain(&back_in_list) {
        matching.add_present(&sides, old, new);
    }
    let answer_span =
        LazyCell::new(|| span(answer.iter().filter_map(LocalTime::of).filter(|time| time.is_plausible())));
    for &old in &live.old {
        let is_oldest = |(oldest, newest): Span| {
            let time = sides.old_key(old).time.filter(|time| time.is_plausible());
            time.is_some_and(|time| time <= oldest && time < newest)
        };
        if answer_span.is_some_and(is_oldest) {
            matching.add_fallen_off(&known[old], old);
        } else {
            matching.add_missing(&known[old], old);
        }
    }
    let newest = LazyCell::new(|| newest_known(&sides, &live));
    let late = |new: usize| {
        LocalTime::of(&answer[new]).is_some_and(|time| newest.is_some_and(|newest| time < newest))
    };
    for &(old, new) in &returned {
        matching.add_returned(&sides, old, new, late(new));
    }
    let mut unknown = gone.new;
    unknown.sort_unstable_by_key(|&new| (answer[new].fingerprint, &answer[new].raw));
    let mut ids = EventIds::new(label, known.iter().map(|event| event.event_id));
    for new in unknown {
        let late_now = late(new);
        let record = KnownEvent::first_seen(ids.allocate(answer[new].fingerprint), &answer[new], late_now);
        matching.added.push(Added { new, record, late_now, returned: None, changed: Vec::new() });
    }
    matching.sort(answer);
    matching
}

/// Returns the newest time of the live history, as this answer corrects it.
fn newest_known(sides: &Sides<'_>, live: &Pairing) -> Option<LocalTime> {
    let seen = live.pairs.iter().filter_map(|&(_, new)| LocalTime::of(&sides.answer[new]));
    let missing = live.old.iter().filter_map(|&old| sides.old_key(old).time);
    seen.chain(missing).max()
}

impl Matching {
    /// Returns the history after this answer, as the store holds it once `updates` and the new events are written.
    pub fn apply(&self, mut known: Vec<KnownEvent>) -> Vec<KnownEvent> {
        for update in &self.updates {
            if let Some(record) = known.get_mut(update.known) {
                *record = update.record.clone();
            }
        }
        known.extend(
            self.added.iter().filter(|added| added.returned.is_none()).map(|added| added.record.clone()),
        );
        known
    }

    /// Adds a live event that is in the answer.
    fn add_present(&mut self, sides: &Sides<'_>, old: usize, new: usize) {
        let (before, raw) = (&sides.known[old], &sides.answer[new].raw);
        let (changed, fingerprint) = if before.raw == *raw {
            (Vec::new(), before.fingerprint())
        } else {
            (sides.changed_fields(old, new), Some(sides.answer[new].fingerprint))
        };
        let record = if changed.is_empty() {
            self.same.push((old, new));
            before.seen_again(fingerprint)
        } else if let Some(record) = before.revised(&sides.answer[new]) {
            self.revised.push(Revised { known: old, new, revision: record.revision, changed });
            Some(record)
        } else {
            self.flapped.push((old, new));
            before.seen_again(None)
        };
        self.updates.extend(record.map(|record| Update { known: old, record }));
    }

    /// Adds a live event that the list does not reach back to.
    fn add_fallen_off(&mut self, before: &KnownEvent, old: usize) {
        self.fell_off.push(old);
        let record = KnownEvent { missing_polls: 0, fell_off: true, ..before.clone() };
        self.updates.push(Update { known: old, record });
    }

    /// Adds a live event that is missing in the answer.
    fn add_missing(&mut self, before: &KnownEvent, old: usize) {
        let missing_polls = before.missing_polls.saturating_add(1);
        let retracted = missing_polls >= RETRACT_AFTER;
        if retracted {
            self.retracted.push(old);
        } else {
            self.missing.push(old);
        }
        let record = KnownEvent { missing_polls, retracted, ..before.clone() };
        self.updates.push(Update { known: old, record });
    }

    /// Adds a retracted event that is in the answer again. It is announced in any case, so a change of its content is
    /// announced with it, even if the event flapped before.
    fn add_returned(&mut self, sides: &Sides<'_>, old: usize, new: usize, late_now: bool) {
        let changed = sides.changed_fields(old, new);
        let mut record = sides.known[old].clone();
        if !changed.is_empty() {
            record.start_revision(&sides.answer[new].raw);
        }
        record.add_fingerprint(sides.answer[new].fingerprint);
        (record.missing_polls, record.retracted) = (0, false);
        self.updates.push(Update { known: old, record: record.clone() });
        self.added.push(Added { new, record, late_now, returned: Some(old), changed });
    }

    /// Sorts announcements by [`oldest_first`], and the rest by index.
    fn sort(&mut self, answer: &[TrackingEvent]) {
        if self.added.len() + self.revised.len() > 1 {
            let mut rank = vec![0; answer.len()];
            for (at, new) in oldest_first(answer).into_iter().enumerate() {
                rank[new] = at;
            }
            self.added.sort_unstable_by_key(|added| rank[added.new]);
            self.revised.sort_unstable_by_key(|revised| rank[revised.new]);
        }
        self.same.sort_unstable();
        self.flapped.sort_unstable();
        self.missing.sort_unstable();
        self.fell_off.sort_unstable();
        self.retracted.sort_unstable();
        self.updates.sort_unstable_by_key(|update| update.known);
    }
}

/// Returns the indices of `answer` (newest first) from the oldest event to the newest, by local time. Equal times keep
/// the order of the answer. An event with an unreadable time takes the time of the next older event in the list.
pub fn oldest_first(answer: &[TrackingEvent]) -> Vec<usize> {
    let mut previous = None;
    let mut order: Vec<_> = (0..answer.len())
        .rev()
        .enumerate()
        .map(|(from_end, new)| {
            previous = LocalTime::of(&answer[new]).or(previous);
            (previous, from_end, new)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, new)| new).collect()
}

impl LocalTime {
    /// Local time of an event: `carrier_occurred_at`, else `occurred_at`, else `None`.
    pub fn of(event: &TrackingEvent) -> Option<Self> {
        event.key.time
    }
}
