//! A label's history after an answer: what is to be written of its events, and what is to be told of them.

use super::change::ToldEvents;
use super::digest;
use super::event::{KnownEvent, Matching};
use super::message::news::ToldEvent;

/// What is to be written of a label's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventWrites {
    /// Never seen before; recorded behind all others, oldest first.
    pub added: Vec<NewEvent>,
    pub updated: Vec<ChangedEvent>,
    /// Events that this answer lacks and that are not retracted.
    pub missing_after: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    pub record: KnownEvent,
    pub late: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedEvent {
    pub becomes: KnownEvent,
    /// What it was, if this is a new revision of it.
    pub replaced: Option<Replaced>,
    pub retracted_now: bool,
}

/// An earlier revision, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub revision: u32,
    pub raw: String,
}

/// Reads a matching as writes and as news.
pub fn settle(known: &[KnownEvent], matching: &Matching) -> (EventWrites, ToldEvents) {
    let updated: Vec<ChangedEvent> = matching
        .updates
        .iter()
        .map(|update| {
            let before = &known[update.known];
            ChangedEvent {
                becomes: update.becomes.clone(),
                replaced: (update.becomes.revision > before.revision)
                    .then(|| Replaced { revision: before.revision, raw: before.raw.clone() }),
                retracted_now: update.becomes.retracted && !before.retracted,
            }
        })
        .collect();
    let added = matching
        .added
        .iter()
        .filter(|added| added.returned.is_none())
        .map(|added| NewEvent { record: added.record.clone(), late: added.late })
        .collect();
    let missing_after = if matching.empty_after_full {
        // Nothing follows of an empty list: who was missing is so still.
        known.iter().filter(|event| event.missing_polls > 0 && !event.retracted).count()
    } else {
        matching.missing.len()
    };
    let writes =
        EventWrites { added, updated, missing_after: u32::try_from(missing_after).unwrap_or(u32::MAX) };
    (writes, told(known, matching))
}

fn told(known: &[KnownEvent], matching: &Matching) -> ToldEvents {
    let becomes = |index: usize| {
        matching
            .updates
            .iter()
            .find(|update| update.known == index)
            .map_or(&known[index], |update| &update.becomes)
    };
    let added = matching
        .added
        .iter()
        .map(|added| ToldEvent {
            late: added.late,
            returned: added.returned.is_some(),
            ..telling(&added.record)
        })
        .collect();
    let revised = matching
        .revised
        .iter()
        .map(|revised| ToldEvent {
            previous: Some(known[revised.known].raw.clone()),
            changed: revised.changed.clone(),
            ..telling(becomes(revised.known))
        })
        .collect();
    let retracted = matching.retracted.iter().map(|retracted| telling(becomes(*retracted))).collect();
    ToldEvents { added, revised, retracted }
}

fn telling(record: &KnownEvent) -> ToldEvent {
    ToldEvent {
        event_id: record.event_id,
        revision: record.revision,
        late: false,
        returned: false,
        raw: record.raw.clone(),
        previous: None,
        changed: Vec::new(),
        form: record.form().map(|form| digest::hex(form.as_bytes())).unwrap_or_default(),
    }
}
