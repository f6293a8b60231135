//! A label's history after an answer: what is to be written of its events, and what is to be told of them.

use super::change::ToldEvents;
use super::digest;
use super::event::{KnownEvent, Matching, Update};
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
    /// What is worth remembering of the change, in the order in which it happened; often nothing.
    pub steps: Vec<Step>,
}

/// A step in an event's life after it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Returned,
    /// It says something else than before.
    Revised {
        fields: Vec<String>,
        before: String,
    },
    Retracted,
}

impl Step {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Revised { .. } => "revised",
            Self::Retracted => "retracted",
        }
    }
}

impl ChangedEvent {
    fn of(update: &Update, known: &[KnownEvent], matching: &Matching) -> Self {
        let (before, becomes) = (&known[update.known], update.becomes.clone());
        let mut steps = Vec::new();
        if before.retracted && !becomes.retracted {
            steps.push(Step::Returned);
        }
        if becomes.revision > before.revision {
            let revised = matching.revised.iter().find(|revised| revised.known == update.known);
            let fields = revised.map(|revised| revised.changed.clone()).unwrap_or_default();
            steps.push(Step::Revised { fields, before: before.raw.clone() });
        }
        if becomes.retracted && !before.retracted {
            steps.push(Step::Retracted);
        }
        Self { becomes, steps }
    }
}

/// Reads a matching as writes and as news.
pub fn settle(known: &[KnownEvent], matching: &Matching) -> (EventWrites, ToldEvents) {
    let updated = matching.updates.iter().map(|update| ChangedEvent::of(update, known, matching)).collect();
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
