//! Carrier events: which one is which, and what is new about them.
//!
//! The API sends the whole list of a label's events every time, without ids, and rewrites what it said before. Receivers
//! trust us as far as we neither repeat an event, nor invent one, nor lose one, nor ever change an id. [`match_events`]
//! decides that for one good answer, and its [`Matching`] holds finished values: what to store, what to announce.
//!
//! It knows no messages, no status of the label and no store, and it never alters an event: what is recorded is raw.

use std::sync::Arc;

use crate::domain::tracking::TrackingEvent;

mod canonical;
mod choice;
mod compare;
mod identity;
mod instant;
mod layout;
mod memory;
mod pairing;
mod sighting;
mod text;
mod value;
mod wall;

#[cfg(test)]
mod tests;

pub use canonical::Form;
pub use compare::{RETRACT_AFTER, match_events, oldest_first};
pub use identity::{EventId, NotAnEventId};
pub use instant::instant_of;
pub use layout::Layouts;
pub use memory::REMEMBERED;
pub use sighting::Sighting;
pub use value::read as read_value;
pub use wall::WallClock;

/// An event as the history has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    pub event_id: EventId,
    /// 1 at first, one more with every announced revision.
    pub revision: u32,
    /// Older than the newest event known when it was first seen.
    pub late: bool,
    /// The event's JSON object as it was announced with this revision. Other spellings of it, and forms adopted in
    /// silence, leave it alone: a revision has one content for ever.
    pub raw: Arc<str>,
    /// Every form announced of it, up to [`REMEMBERED`] and the first: the first in front, that of `raw` last.
    pub forms: Vec<Form>,
    /// A return to an earlier form has been announced; later ones are not.
    pub flapped: bool,
    /// Good polls in a row without it.
    pub missing_polls: u32,
    pub retracted: bool,
    /// It was the oldest, and the carrier's list no longer reaches back to it: nothing to tell, and nothing to look
    /// for. Should the list reach back again, it is as if it had been there all the time.
    pub fell_off: bool,
}

impl KnownEvent {
    fn first_seen(event_id: EventId, event: &TrackingEvent, late: bool) -> Self {
        Self {
            event_id,
            revision: 1,
            late,
            raw: Arc::clone(&event.raw),
            forms: vec![event.form],
            flapped: false,
            missing_polls: 0,
            retracted: false,
            fell_off: false,
        }
    }
}

/// What one good answer says beyond the history. `known` and `new` are indices into the two lists compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// To announce, oldest first: events never seen, and retracted ones that came back.
    pub added: Vec<Added>,
    /// To announce in one message, oldest first.
    pub revised: Vec<Revised>,
    /// To announce in one message: missing in [`RETRACT_AFTER`] good polls in a row.
    pub retracted: Vec<usize>,
    /// Nothing to say: no other form than recorded, though perhaps another spelling.
    pub same: Vec<(usize, usize)>,
    /// Nothing to say any more: back at a form it had before, again.
    pub flapped: Vec<(usize, usize)>,
    /// Nothing to say yet: the first good poll without it.
    pub missing: Vec<usize>,
    /// Nothing to say at all: the oldest, which the list no longer reaches back to while newer ones stand.
    pub fell_off: Vec<usize>,
    /// Nothing to say after all: was missing once, is back. These are also in `same`, `flapped` or `revised`.
    pub reappeared: Vec<usize>,
    /// An empty list where there were events: an anomaly, of which nothing follows.
    pub empty_after_full: bool,
    /// Every event of the history whose record changes, whatever of the above it is, and the whole record it becomes; in
    /// the order of the history.
    /// New records are in `added`, where `returned` is `None`.
    pub updates: Vec<Update>,
}

/// An event that is there now and was not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub new: usize,
    /// What to store, if `returned` is `None`; else `updates` has it too.
    pub record: KnownEvent,
    /// Older than the newest event known. For one never seen that is what `record.late` keeps.
    pub behind: bool,
    /// The retracted event that came back under its old id.
    pub returned: Option<usize>,
    /// Of one that came back saying something else: the names of the fields that differ, sorted.
    pub changed: Vec<String>,
}

/// An event that says something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revised {
    pub known: usize,
    pub new: usize,
    pub revision: u32,
    /// The names of the fields that differ beyond spelling, sorted.
    pub changed: Vec<String>,
}

/// A record that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub known: usize,
    pub becomes: KnownEvent,
}

impl Matching {
    /// Whether nobody needs to be told anything.
    pub fn is_quiet(&self) -> bool {
        self.added.is_empty() && self.revised.is_empty() && self.retracted.is_empty()
    }

    /// The history with this answer in it: what a store holds after writing `updates` and the new of `added`.
    pub fn apply(&self, mut known: Vec<KnownEvent>) -> Vec<KnownEvent> {
        for update in &self.updates {
            if let Some(record) = known.get_mut(update.known) {
                *record = update.becomes.clone();
            }
        }
        known.extend(
            self.added.iter().filter(|added| added.returned.is_none()).map(|added| added.record.clone()),
        );
        known
    }
}
