//! Converts a matching to event rows to write and events for messages.

use std::collections::HashMap;
use std::sync::Arc;

use super::matching::{EventId, Fingerprint, KnownEvent, Matching, Update};

/// A carrier event for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageEvent {
    pub event_id: EventId,
    pub revision: u32,
    /// Whether it was older than the newest known event when it was first seen.
    pub late: bool,
    /// Whether it is older than the newest event known now; not in the message.
    pub late_now: bool,
    /// Whether it returned after it was retracted.
    pub returned: bool,
    /// JSON object of the event, byte for byte.
    pub raw: Arc<str>,
    /// JSON object before the revision.
    pub previous: Option<Arc<str>>,
    /// Names of the fields that differ from `previous`.
    pub changed: Vec<String>,
    pub fingerprint: Option<Fingerprint>,
    /// Index in the answer, if it is there; not in the message.
    pub index: Option<usize>,
}

/// Events of a poll for messages.
#[derive(Clone, Debug, Default)]
pub struct MessageEvents {
    /// New and returned events, oldest first.
    pub added: Vec<MessageEvent>,
    pub revised: Vec<MessageEvent>,
    pub retracted: Vec<MessageEvent>,
    /// Index in the answer and id of each event of the answer.
    pub ids: Vec<(usize, EventId)>,
}

/// Event rows of a label to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventWrites {
    /// New events, oldest first; they are stored after all known ones.
    pub added: Vec<KnownEvent>,
    pub updated: Vec<UpdatedEvent>,
    /// Number of events that are missing in the answer and not retracted.
    pub missing_after: u32,
}

/// A known event whose record changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatedEvent {
    pub record: KnownEvent,
    /// Changes to record, in order; often none.
    pub changes: Vec<EventChange>,
}

/// Recorded change of an event after it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventChange {
    Returned,
    Revised { fields: Vec<String>, before: Arc<str> },
    Retracted,
}

impl EventChange {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Revised { .. } => "revised",
            Self::Retracted => "retracted",
        }
    }
}

impl UpdatedEvent {
    /// `fields`: names of the fields that a revision changed.
    fn of(update: &Update, known: &[KnownEvent], fields: &[String]) -> Self {
        let (before, record) = (&known[update.known], update.record.clone());
        let mut changes = Vec::new();
        if before.retracted && !record.retracted {
            changes.push(EventChange::Returned);
        }
        if record.revision > before.revision {
            changes.push(EventChange::Revised { fields: fields.to_vec(), before: before.raw.clone() });
        }
        if record.retracted && !before.retracted {
            changes.push(EventChange::Retracted);
        }
        Self { record, changes }
    }
}

/// Returns the rows to write and the events for messages.
pub fn plan(known: &[KnownEvent], matching: &Matching) -> (EventWrites, MessageEvents) {
    let revised = matching.revised.iter().map(|revised| (revised.known, revised.changed.as_slice()));
    let returned =
        matching.added.iter().filter_map(|added| Some((added.returned?, added.changed.as_slice())));
    let fields: HashMap<usize, &[String]> = revised.chain(returned).collect();
    let updated = matching.updates.iter().map(|update| {
        let fields = fields.get(&update.known).copied().unwrap_or_default();
        UpdatedEvent::of(update, known, fields)
    });
    let updated = updated.collect();
    let unseen = matching.added.iter().filter(|added| added.returned.is_none());
    let added = unseen.map(|added| added.record.clone()).collect();
    let missing_after = if matching.empty_after_full {
        // An empty list changes nothing, so missing events stay missing.
        known.iter().filter(|event| event.missing_polls > 0 && !event.retracted).count()
    } else {
        matching.missing.len()
    };
    let writes =
        EventWrites { added, updated, missing_after: u32::try_from(missing_after).unwrap_or(u32::MAX) };
    (writes, message_events(known, matching))
}

fn message_events(known: &[KnownEvent], matching: &Matching) -> MessageEvents {
    let record = |index: usize| {
        let update = matching.updates.binary_search_by_key(&index, |update| update.known);
        update.map_or(&known[index], |at| &matching.updates[at].record)
    };
    let added = matching
        .added
        .iter()
        .map(|added| {
            let was = added.returned.map(|old| &known[old]);
            MessageEvent {
                late_now: added.late_now,
                returned: was.is_some(),
                previous: was
                    .filter(|was| was.revision < added.record.revision)
                    .map(|was| Arc::clone(&was.raw)),
                changed: added.changed.clone(),
                index: Some(added.new),
                ..unchanged(&added.record)
            }
        })
        .collect();
    let revised = matching
        .revised
        .iter()
        .map(|revised| MessageEvent {
            previous: Some(Arc::clone(&known[revised.known].raw)),
            changed: revised.changed.clone(),
            index: Some(revised.new),
            ..unchanged(record(revised.known))
        })
        .collect();
    let retracted = matching.retracted.iter().map(|retracted| unchanged(record(*retracted))).collect();
    let live = matching.same.iter().chain(&matching.flapped).copied();
    let live = live.chain(matching.revised.iter().map(|revised| (revised.known, revised.new)));
    let live = live.map(|(old, new)| (new, known[old].event_id));
    let all = live.chain(matching.added.iter().map(|added| (added.new, added.record.event_id)));
    MessageEvents { added, revised, retracted, ids: all.collect() }
}

/// The event of `record` without a change.
fn unchanged(record: &KnownEvent) -> MessageEvent {
    MessageEvent {
        event_id: record.event_id,
        revision: record.revision,
        late: record.late,
        late_now: false,
        returned: false,
        raw: Arc::clone(&record.raw),
        previous: None,
        changed: Vec::new(),
        fingerprint: record.fingerprint(),
        index: None,
    }
}
