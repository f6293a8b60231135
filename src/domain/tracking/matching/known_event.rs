//! An event of the history, its revisions and the fingerprints it has had.
//!
//! A feed may flap between two spellings of a fact at every poll. The first return to an earlier fingerprint is announced
//! as a revision. Later returns are silent: the last announced revision stands. The history keeps
//! [`MAX_FINGERPRINTS`] fingerprints per event; an older one counts as new.

use std::sync::Arc;

use super::canonical::Fingerprint;
use super::event_id::EventId;
use crate::domain::tracking::TrackingEvent;

/// Fingerprints kept per event besides the first one.
pub const MAX_FINGERPRINTS: usize = 16;

/// An event of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    pub event_id: EventId,
    /// 1 at first; each announced revision adds 1.
    pub revision: u32,
    /// Whether the event was older than the newest known event when it was first seen.
    pub late: bool,
    /// JSON object of the event as announced with this revision. Other spellings and silent flaps do not change it: a
    /// revision has one content for ever.
    pub raw: Arc<str>,
    /// Announced fingerprints: the very first one, then up to [`MAX_FINGERPRINTS`] others; the fingerprint of `raw` is last.
    pub fingerprints: Vec<Fingerprint>,
    /// Whether a return to an earlier fingerprint has been announced. Later returns are silent.
    pub flapped: bool,
    /// Good polls in a row without this event.
    pub missing_polls: u32,
    pub retracted: bool,
    /// Whether the carrier's list stopped reaching back to this event, which was the oldest. Such an event is neither
    /// missing nor retracted. When the list reaches back again, nothing is announced.
    pub fell_off: bool,
}

impl KnownEvent {
    pub(super) fn first_seen(event_id: EventId, event: &TrackingEvent, late: bool) -> Self {
        Self {
            event_id,
            revision: 1,
            late,
            raw: Arc::clone(&event.raw),
            fingerprints: vec![event.fingerprint],
            flapped: false,
            missing_polls: 0,
            retracted: false,
            fell_off: false,
        }
    }

    /// Fingerprint of the last announced revision.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprints.last().copied()
    }

    /// Returns the record of an event that was seen again without a change to announce; `None` if the record stays as it
    /// is. `fingerprint`, if given, becomes the current one.
    pub(super) fn seen_again(&self, fingerprint: Option<Fingerprint>) -> Option<Self> {
        let new_fingerprint = fingerprint.filter(|&new| self.fingerprint() != Some(new));
        (self.missing_polls > 0 || self.fell_off || new_fingerprint.is_some()).then(|| {
            let mut seen = Self { missing_polls: 0, fell_off: false, ..self.clone() };
            new_fingerprint.into_iter().for_each(|new| seen.add_fingerprint(new));
            seen
        })
    }

    /// Returns the record of the event's next revision; `None` if the event only flaps back to a fingerprint it had
    /// before, and such a return has been announced already.
    pub(super) fn revised(&self, event: &TrackingEvent) -> Option<Self> {
        let returning = self.fingerprints.contains(&event.fingerprint);
        if returning && self.flapped {
            return None;
        }
        let mut fingerprints = Vec::with_capacity(self.fingerprints.len() + 1);
        fingerprints.extend_from_slice(&self.fingerprints);
        let mut revised = Self {
            event_id: self.event_id,
            revision: self.revision,
            late: self.late,
            raw: Arc::clone(&event.raw),
            fingerprints,
            flapped: self.flapped || returning,
            missing_polls: 0,
            retracted: false,
            fell_off: false,
        };
        revised.start_revision(&event.raw);
        revised.add_fingerprint(event.fingerprint);
        Some(revised)
    }

    /// Starts the next revision, with `raw` as its content.
    pub(super) fn start_revision(&mut self, raw: &Arc<str>) {
        self.raw = Arc::clone(raw);
        self.revision = self.revision.saturating_add(1);
    }

    /// Makes `fingerprint` the current one. The very first fingerprint stays in front. The others follow without
    /// duplicates, in the order in which they were last current.
    pub(super) fn add_fingerprint(&mut self, fingerprint: Fingerprint) {
        if self.fingerprint() == Some(fingerprint) {
            return;
        }
        // The first one may be there twice: in front, and as the current one.
        if let Some(before) = self.fingerprints.iter().skip(1).position(|&other| other == fingerprint) {
            self.fingerprints.remove(before + 1);
        }
        if let [first, .., last] = self.fingerprints[..]
            && first == last
        {
            self.fingerprints.pop();
        }
        self.fingerprints.push(fingerprint);
        if self.fingerprints.len() > MAX_FINGERPRINTS + 1 {
            self.fingerprints.remove(1);
        }
    }
}
