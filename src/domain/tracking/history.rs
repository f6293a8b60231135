//! A label's history after an answer: what is to be written of its events, and what is to be told of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::matching::{EventId, Form, KnownEvent, Matching, Update};

/// One carrier event as a message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldEvent {
    pub event_id: EventId,
    pub revision: u32,
    /// Older than the newest event known when it was first seen.
    pub late: bool,
    /// Older than the newest event known now; not told.
    pub behind: bool,
    /// Back after it was retracted.
    pub returned: bool,
    /// The event's own object, byte for byte.
    pub raw: Arc<str>,
    /// What it was before, for a revision.
    pub previous: Option<Arc<str>>,
    /// The names of the fields that differ from before.
    pub changed: Vec<String>,
    /// What it says, in canonical form.
    pub form: Option<Form>,
    /// Its place in the answer, if it is there; not told.
    pub place: Option<usize>,
}

/// The events of a poll, ready to be told.
#[derive(Clone, Debug, Default)]
pub struct ToldEvents {
    /// New and returned ones, oldest first.
    pub added: Vec<ToldEvent>,
    pub revised: Vec<ToldEvent>,
    pub retracted: Vec<ToldEvent>,
    /// The id of each event of the answer, by its place there.
    pub ids: Vec<(usize, EventId)>,
}

/// What is to be written of a label's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventWrites {
    /// Never seen before; recorded behind all others, oldest first.
    pub added: Vec<KnownEvent>,
    pub updated: Vec<ChangedEvent>,
    /// Events that this answer lacks and that are not retracted.
    pub missing_after: u32,
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
        before: Arc<str>,
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
    /// `fields` are those that a revision changed.
    fn of(update: &Update, known: &[KnownEvent], fields: &[String]) -> Self {
        let (before, becomes) = (&known[update.known], update.becomes.clone());
        let mut steps = Vec::new();
        if before.retracted && !becomes.retracted {
            steps.push(Step::Returned);
        }
        if becomes.revision > before.revision {
            steps.push(Step::Revised { fields: fields.to_vec(), before: before.raw.clone() });
        }
        if becomes.retracted && !before.retracted {
            steps.push(Step::Retracted);
        }
        Self { becomes, steps }
    }
}

/// Reads a matching as writes and as news.
pub fn settle(known: &[KnownEvent], matching: &Matching) -> (EventWrites, ToldEvents) {
    let revised = matching.revised.iter().map(|revised| (revised.known, revised.changed.as_slice()));
    let returned =
        matching.added.iter().filter_map(|added| Some((added.returned?, added.changed.as_slice())));
    let fields: HashMap<usize, &[String]> = revised.chain(returned).collect();
    let updated = matching.updates.iter().map(|update| {
        let fields = fields.get(&update.known).copied().unwrap_or_default();
        ChangedEvent::of(update, known, fields)
    });
    let updated = updated.collect();
    let unseen = matching.added.iter().filter(|added| added.returned.is_none());
    let added = unseen.map(|added| added.record.clone()).collect();
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
        let update = matching.updates.binary_search_by_key(&index, |update| update.known);
        update.map_or(&known[index], |at| &matching.updates[at].becomes)
    };
    let added = matching
        .added
        .iter()
        .map(|added| {
            let was = added.returned.map(|old| &known[old]);
            ToldEvent {
                behind: added.behind,
                returned: was.is_some(),
                previous: was
                    .filter(|was| was.revision < added.record.revision)
                    .map(|was| Arc::clone(&was.raw)),
                changed: added.changed.clone(),
                place: Some(added.new),
                ..telling(&added.record)
            }
        })
        .collect();
    let revised = matching
        .revised
        .iter()
        .map(|revised| ToldEvent {
            previous: Some(Arc::clone(&known[revised.known].raw)),
            changed: revised.changed.clone(),
            place: Some(revised.new),
            ..telling(becomes(revised.known))
        })
        .collect();
    let retracted = matching.retracted.iter().map(|retracted| telling(becomes(*retracted))).collect();
    let live = matching.same.iter().chain(&matching.flapped).copied();
    let live = live.chain(matching.revised.iter().map(|revised| (revised.known, revised.new)));
    let live = live.map(|(old, new)| (new, known[old].event_id));
    let all = live.chain(matching.added.iter().map(|added| (added.new, added.record.event_id)));
    ToldEvents { added, revised, retracted, ids: all.collect() }
}

fn telling(record: &KnownEvent) -> ToldEvent {
    ToldEvent {
        event_id: record.event_id,
        revision: record.revision,
        late: record.late,
        behind: false,
        returned: false,
        raw: Arc::clone(&record.raw),
        previous: None,
        changed: Vec::new(),
        form: record.form(),
        place: None,
    }
}
