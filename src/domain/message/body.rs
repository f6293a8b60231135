//! The standard bodies (contract 6.3): `{"type", "timestamp", "data"}`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::splice::ObjectWriter;
use super::{Message, MessageType, label_message_id};
use crate::domain::event::EventId;
use crate::domain::label::{AccountName, LabelKey, Metadata};
use crate::domain::tracking::StatusCode;

/// What every message of a label says about it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub label: &'a LabelKey,
    pub metadata: &'a Metadata,
    pub tracking_number: Option<&'a str>,
    pub carrier_code: Option<&'a str>,
    pub status_code: Option<&'a str>,
    pub status_description: Option<&'a str>,
}

/// One carrier event as a message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldEvent {
    pub event_id: EventId,
    pub revision: u32,
    pub late: bool,
    /// Back after it was retracted.
    pub returned: bool,
    /// The event's own object, byte for byte.
    pub raw: String,
    /// What it was before, for a revision.
    pub previous: Option<String>,
    /// The names of the fields that differ from before.
    pub changed: Vec<String>,
    /// The digest of its canonical form: what its message's id is made of.
    pub form: String,
}

/// Something that happened to a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(ToldEvent),
    Revised(Vec<ToldEvent>),
    Retracted(Vec<ToldEvent>),
    Estimate { from: Option<String>, to: Option<String> },
    Status { from: StatusPair, to: StatusPair },
    OutForDelivery(Option<ToldEvent>),
    Exception(Option<ToldEvent>),
    Delivered(Option<ToldEvent>),
    Reopened { from: StatusPair, to: StatusPair },
    Expired { quiet_since: Timestamp },
    Unavailable { since: Timestamp, detail: String },
}

/// A status code and its detail code, as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPair {
    pub code: Option<String>,
    pub detail: Option<String>,
}

impl Change {
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Added(_) => MessageType::EventAdded,
            Self::Revised(_) => MessageType::EventRevised,
            Self::Retracted(_) => MessageType::EventRetracted,
            Self::Estimate { .. } => MessageType::EstimateChanged,
            Self::Status { .. } => MessageType::StatusChanged,
            Self::OutForDelivery(_) => MessageType::OutForDelivery,
            Self::Exception(_) => MessageType::Exception,
            Self::Delivered(_) => MessageType::Delivered,
            Self::Reopened { .. } => MessageType::Reopened,
            Self::Expired { .. } => MessageType::Expired,
            Self::Unavailable { .. } => MessageType::Unavailable,
        }
    }

    fn events(&self) -> &[ToldEvent] {
        match self {
            Self::Added(event) => std::slice::from_ref(event),
            Self::Revised(events) | Self::Retracted(events) => events,
            Self::OutForDelivery(event) | Self::Exception(event) | Self::Delivered(event) => event.as_slice(),
            _ => &[],
        }
    }

    /// What makes this change this one and no other, in canonical words.
    fn content(&self) -> Vec<String> {
        match self {
            Self::Estimate { from, to } => {
                vec![from.clone().unwrap_or_default(), to.clone().unwrap_or_default()]
            }
            Self::Status { from, to } | Self::Reopened { from, to } => {
                [&from.code, &from.detail, &to.code, &to.detail]
                    .map(|part| part.clone().unwrap_or_default())
                    .into()
            }
            _ => self
                .events()
                .iter()
                .map(|event| {
                    format!("{} {} {} {}", event.event_id, event.revision, event.returned, event.form)
                })
                .collect(),
        }
    }
}

/// Names of ours in a told event: a field of the API's by that name would make the object ambiguous.
const OUR_EVENT_FIELDS: [&str; 6] = ["event_id", "revision", "late", "returned", "previous", "changed"];

fn told(event: &ToldEvent) -> String {
    let mut object = ObjectWriter::new()
        .field("event_id", &event.event_id)
        .field("revision", &event.revision)
        .field("late", &event.late);
    if event.returned {
        object = object.field("returned", &true);
    }
    if let Some(previous) = &event.previous {
        object = object.field("changed", &event.changed).raw("previous", previous);
    }
    object.fields(&event.raw, &OUR_EVENT_FIELDS).end()
}

fn told_all(events: &[ToldEvent]) -> String {
    let events: Vec<String> = events.iter().map(told).collect();
    format!("[{}]", events.join(","))
}

fn told_or_null(event: &Option<ToldEvent>) -> String {
    event.as_ref().map_or_else(|| "null".to_owned(), told)
}

fn subject_fields(subject: &Subject<'_>, seq: i64) -> ObjectWriter {
    let status = subject.status_code.and_then(StatusCode::parse);
    ObjectWriter::new()
        .field("label_id", &subject.label.id)
        .field("account", &subject.label.account)
        .field("metadata", subject.metadata)
        .field("seq", &seq)
        .field("tracking_number", &subject.tracking_number)
        .field("carrier_code", &subject.carrier_code)
        .field("status_code", &subject.status_code)
        .field("status_description", &subject.status_description)
        .field("tracking_status", &status.and_then(StatusCode::tracking_status))
}

fn whole(kind: MessageType, now: Timestamp, data: &str) -> String {
    ObjectWriter::new().field("type", &kind).field("timestamp", &instant(now)).raw("data", data).end()
}

/// An instant as every output of ours has it: RFC 3339, UTC, milliseconds, `Z`.
pub fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The message of one change.
pub fn compose(subject: &Subject<'_>, seq: i64, now: Timestamp, change: &Change) -> Message {
    let data = subject_fields(subject, seq);
    let data = match change {
        Change::Added(event) => data.raw("event", &told(event)),
        Change::Revised(events) | Change::Retracted(events) => data.raw("events", &told_all(events)),
        Change::Estimate { from, to } => data.field("from", from).field("to", to),
        Change::Status { from, to } | Change::Reopened { from, to } => data
            .field("from", &from.code)
            .field("to", &to.code)
            .field("from_detail_code", &from.detail)
            .field("to_detail_code", &to.detail),
        Change::OutForDelivery(event) | Change::Exception(event) | Change::Delivered(event) => {
            data.raw("event", &told_or_null(event))
        }
        Change::Expired { quiet_since } => data.field("quiet_since", &instant(*quiet_since)),
        Change::Unavailable { since, detail } => {
            data.field("since", &instant(*since)).field("detail", detail)
        }
    };
    let kind = change.kind();
    Message {
        id: label_message_id(subject.label, seq, kind, &change.content()),
        kind,
        seq: Some(seq),
        created_at: now,
        body: whole(kind, now, &data.end()),
        resource_url: None,
    }
}

#[derive(Serialize)]
struct SummaryEntry<'a> {
    r#type: MessageType,
    event_id: Option<&'a EventId>,
}

/// The last message of a poll: what changed, and the whole answer verbatim.
pub fn summarize(
    subject: &Subject<'_>,
    seq: i64,
    now: Timestamp,
    changes: &[Change],
    tracking: &RawValue,
    resource_url: String,
) -> Message {
    let entries: Vec<SummaryEntry<'_>> = changes
        .iter()
        .flat_map(|change| {
            let kind = change.kind();
            let ids: Vec<_> = match change.events() {
                [] => vec![None],
                events => events.iter().map(|event| Some(&event.event_id)).collect(),
            };
            ids.into_iter().map(move |event_id| SummaryEntry { r#type: kind, event_id })
        })
        .collect();
    let data = subject_fields(subject, seq).field("changes", &entries).raw("tracking", tracking.get());
    let kind = MessageType::Updated;
    let content: Vec<String> = changes
        .iter()
        .flat_map(|change| std::iter::once(change.kind().as_str().to_owned()).chain(change.content()))
        .collect();
    Message {
        id: label_message_id(subject.label, seq, kind, &content),
        kind,
        seq: Some(seq),
        created_at: now,
        body: whole(kind, now, &data.end()),
        resource_url: Some(resource_url),
    }
}

/// What a system message says about an account.
#[derive(Serialize)]
pub struct AccountData<'a> {
    pub account: &'a AccountName,
    pub reason: &'a str,
    pub detail: Option<&'a str>,
}

/// The body of a message that belongs to no label.
pub fn system<T: Serialize>(kind: MessageType, now: Timestamp, data: &T) -> String {
    let data = serde_json::to_string(data).expect("plain values can be written as JSON");
    whole(kind, now, &data)
}
