//! The two sides of a comparison: the history and the answer, with the keys of their events.

use std::cell::{Cell, OnceCell};

use jiff::Timestamp;

use super::canonical::Fingerprint;
use super::event_id::EventId;
use super::event_key::{EventKey, TimeKey};
use super::known_event::KnownEvent;
use super::local_time::{LocalTime, instant_of};
use crate::domain::tracking::TrackingEvent;

/// History and answer. `old` is an index into `known`, `new` one into `answer`. An old event is parsed when its key is
/// first needed, which is never for an unchanged answer.
pub struct Sides<'a> {
    pub known: &'a [KnownEvent],
    pub answer: &'a [TrackingEvent],
    old_keys: Vec<OnceCell<EventKey>>,
    matched_span: Cell<Option<Span>>,
}

/// Oldest and newest of several times.
pub type Span = (LocalTime, LocalTime);

pub fn span(times: impl Iterator<Item = LocalTime>) -> Option<Span> {
    times.fold(None, |span, time| match span {
        None => Some((time, time)),
        Some((oldest, newest)) => Some((time.min(oldest), time.max(newest))),
    })
}

impl<'a> Sides<'a> {
    pub fn new(known: &'a [KnownEvent], answer: &'a [TrackingEvent]) -> Self {
        let old_keys = std::iter::repeat_with(OnceCell::new).take(known.len()).collect();
        Self { known, answer, old_keys, matched_span: Cell::new(None) }
    }

    /// Sets the time span of the events matched by fingerprint or by time and code. [`Self::jumps`] needs it.
    pub fn set_matched_span(&self, matched: &[(usize, usize)]) {
        self.matched_span.set(span(matched.iter().filter_map(|&(_, new)| self.new_key(new).time)));
    }

    /// Whether the old event is older than all matched events and the new one is newer. Then the old event fell off the
    /// end of the list and the new one was added at its head, even if they are similar.
    pub fn jumps(&self, old: usize, new: usize) -> bool {
        let Some((oldest, newest)) = self.matched_span.get() else { return false };
        self.old_key(old).time.is_some_and(|time| time < oldest)
            && self.new_key(new).time.is_some_and(|time| time > newest)
    }

    pub fn old_key(&self, old: usize) -> &EventKey {
        self.old_keys[old].get_or_init(|| EventKey::of(&self.known[old].raw))
    }

    pub fn new_key(&self, new: usize) -> &EventKey {
        &self.answer[new].key
    }

    /// Returns the names of the fields that differ in the raw events. Different fingerprints do not prove a change,
    /// because another version of trackpost may have stored them.
    pub fn changed_fields(&self, old: usize, new: usize) -> Vec<String> {
        if self.known[old].fingerprint() == Some(self.answer[new].fingerprint) {
            return Vec::new();
        }
        self.old_key(old).canonical.changed_fields(&self.new_key(new).canonical)
    }

    pub fn old_instant(&self, old: usize) -> Option<Timestamp> {
        instant_of(&self.known[old].raw)
    }

    pub fn new_instant(&self, new: usize) -> Option<Timestamp> {
        self.answer[new].instant()
    }

    /// Order among old events of equal content: events seen in the last poll come first.
    pub fn twin_rank(&self, old: usize) -> (u32, EventId) {
        (self.known[old].missing_polls, self.known[old].event_id)
    }

    /// Total order that resolves ambiguities among old events.
    pub fn old_rank(
        &self,
        old: usize,
    ) -> (TimeKey<'_>, Option<LocalTime>, Option<Fingerprint>, (u32, EventId)) {
        let key = self.old_key(old);
        (key.time_key(), key.time, self.known[old].fingerprint(), self.twin_rank(old))
    }

    /// Total order that resolves ambiguities among new events. Equal ranks mean equal bytes.
    pub fn new_rank(&self, new: usize) -> (TimeKey<'_>, Option<LocalTime>, Fingerprint, &str) {
        let key = self.new_key(new);
        (key.time_key(), key.time, self.answer[new].fingerprint, &self.answer[new].raw)
    }
}
