//! The standard bodies (contract 6.3): `{"type", "timestamp", "data"}`.
//!
//! These types are the bodies and the schemas in one: what is sent is written from them, and `config/schemas/` is
//! generated from them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::news::Change;
use super::splice::Fields;
use super::{Message, MessageType, label_message_id};
use crate::domain::digest;
use crate::domain::label::{AccountName, LabelId, LabelKey, Metadata};
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::tracking::history::ToldEvent;
use crate::domain::tracking::matching::EventId;
use crate::domain::tracking::{StatusCode, Tracking};

/// A callback's body in the standard form.
#[derive(Serialize, JsonSchema)]
pub struct Body<'a, D> {
    /// What happened.
    r#type: &'a str,
    /// When trackpost noticed: RFC 3339, UTC, milliseconds.
    #[schemars(regex(pattern = r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"))]
    timestamp: String,
    data: D,
}

/// What every message of a label says, and what this one has to tell.
#[derive(Serialize, JsonSchema)]
pub struct LabelData<'a, N> {
    #[schemars(with = "String", length(max = 25), regex(pattern = r"^se(-[a-z0-9]+)+$"))]
    label_id: &'a LabelId,
    #[schemars(with = "String")]
    account: &'a AccountName,
    /// What was registered with the label.
    metadata: &'a Metadata,
    /// Rises with each message of the label, also after a database was restored or begun anew; gaps mean nothing.
    #[schemars(range(min = 1))]
    seq: i64,
    tracking_number: Option<&'a str>,
    carrier_code: Option<&'a str>,
    /// In upper case if it is one of ShipStation's codes, as spelled otherwise.
    status_code: Option<&'a str>,
    status_description: Option<&'a str>,
    /// ShipStation's own table from status codes to a label's status; null for AC and AT.
    tracking_status: Option<&'a str>,
    #[serde(flatten)]
    news: N,
}

/// A carrier event: what trackpost knows of it, and the carrier event's own fields, verbatim.
#[derive(Serialize, JsonSchema)]
pub struct EventBody<'a> {
    /// Never changes, whatever the carrier does to the event later.
    #[schemars(with = "String", regex(pattern = "^evt_[0-9a-v]{26}$"))]
    event_id: EventId,
    /// 1 at first, one more with each revision.
    #[schemars(range(min = 1))]
    revision: u32,
    /// Older than the newest event known when it was first seen.
    late: bool,
    /// Back after it was retracted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    returned: bool,
    /// In a revision, also one that comes with a return: the names of the fields that differ.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schemars(with = "Vec<String>", default)]
    changed: &'a [String],
    /// In a revision, also one that comes with a return: the carrier event's own fields as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'a RawValue>,
    #[serde(flatten)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    fields: Fields<'a>,
}

#[derive(Serialize, JsonSchema)]
pub struct AddedNews<'a> {
    event: EventBody<'a>,
}

#[derive(Serialize, JsonSchema)]
pub struct EventsNews<'a> {
    #[schemars(length(min = 1))]
    events: Vec<EventBody<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub struct EstimateNews<'a> {
    /// The estimated delivery as the API spelled it; null: there was none.
    from: Option<&'a str>,
    /// Null: it was dropped.
    to: Option<&'a str>,
}

#[derive(Serialize, JsonSchema)]
pub struct StatusNews<'a> {
    /// The status code before; null: none was known.
    from: Option<&'a str>,
    to: Option<&'a str>,
    from_detail_code: Option<&'a str>,
    to_detail_code: Option<&'a str>,
}

#[derive(Serialize, JsonSchema)]
pub struct MilestoneNews<'a> {
    /// The carrier event that brought it; null if only the status says so.
    event: Option<EventBody<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub struct StalledNews {
    /// The newest scan, as far as its time is plausible, else when trackpost first saw the label.
    since: String,
    business_days: u32,
}

#[derive(Serialize, JsonSchema)]
pub struct LateNews<'a> {
    /// The estimated delivery that passed, as the API spelled it.
    estimate: &'a str,
}

#[derive(Serialize, JsonSchema)]
pub struct ExpiredNews {
    /// The last change.
    quiet_since: String,
}

#[derive(Serialize, JsonSchema)]
pub struct UnavailableNews<'a> {
    /// The first of the refusals in a row.
    since: String,
    /// What the API said last.
    detail: &'a str,
}

#[derive(Serialize, JsonSchema)]
pub struct UpdatedNews<'a> {
    /// What this poll found, in the order of its messages.
    #[schemars(length(min = 1))]
    changes: Vec<SummaryEntry>,
    /// The API's whole answer, verbatim.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    tracking: &'a RawValue,
}

#[derive(Serialize, JsonSchema)]
pub struct SummaryEntry {
    #[schemars(with = "String")]
    r#type: MessageType,
    /// Null where the change is about no single event.
    #[schemars(with = "Option<String>")]
    event_id: Option<EventId>,
}

/// What a system message says about an account.
#[derive(Serialize, JsonSchema)]
pub struct AccountData<'a> {
    #[schemars(with = "String")]
    pub account: &'a AccountName,
    /// `unauthorized`, `misconfigured` or `ok`.
    pub reason: &'a str,
    pub detail: Option<&'a str>,
}

/// What a system message says about a subscriber.
#[derive(Serialize, JsonSchema)]
pub struct SubscriberData<'a> {
    #[schemars(with = "String")]
    pub subscriber: &'a SubscriberName,
    /// `failing` (one probe at a time), `paused` (until it is resumed) or `ok`.
    pub state: &'a str,
    /// `no_connection`, `failures` or `gone`; null when it is well.
    pub reason: Option<&'a str>,
    /// When it began to fail.
    pub since: String,
    /// What the last failure was.
    pub detail: Option<&'a str>,
}

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

impl<'a> Subject<'a> {
    fn data<N>(&self, seq: i64, news: N) -> LabelData<'a, N> {
        let status = self.status_code.and_then(StatusCode::parse);
        LabelData {
            label_id: &self.label.id,
            account: &self.label.account,
            metadata: self.metadata,
            seq,
            tracking_number: self.tracking_number,
            carrier_code: self.carrier_code,
            status_code: self.status_code,
            status_description: self.status_description,
            tracking_status: status.and_then(StatusCode::tracking_status),
            news,
        }
    }
}

/// Names of ours in an event: a field of the API's by that name would make the object ambiguous.
const OURS: [&str; 6] = ["event_id", "revision", "late", "returned", "previous", "changed"];

impl<'a> EventBody<'a> {
    fn of(event: &'a ToldEvent) -> Self {
        let mut fields = Fields::of(&event.raw).unwrap_or_default();
        fields.0.retain(|(name, _)| !OURS.contains(&name.as_str()));
        Self {
            event_id: event.event_id,
            revision: event.revision,
            late: event.late,
            returned: event.returned,
            changed: &event.changed,
            previous: event.previous.as_deref().and_then(|raw| serde_json::from_str(raw).ok()),
            fields,
        }
    }
}

/// An instant as every output of ours has it: RFC 3339, UTC, milliseconds, `Z`.
pub fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The body of a message that belongs to no label, or the whole of one that does.
pub fn write<D: Serialize>(kind: &str, now: Timestamp, data: D) -> String {
    write_into(kind, now, data, 1024)
}

/// As [`write()`], with room for `capacity` bytes from the beginning.
fn write_into<D: Serialize>(kind: &str, now: Timestamp, data: D, capacity: usize) -> String {
    let mut body = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut body, &Body { r#type: kind, timestamp: instant(now), data })
        .expect("a body is made of texts, numbers and JSON");
    String::from_utf8(body).expect("JSON is UTF-8")
}

/// How a body ends whose last field is null.
const NULL_AT_THE_END: &str = "null}}";

/// The message of one change.
pub fn compose(subject: &Subject<'_>, seq: i64, now: Timestamp, change: &Change) -> Message {
    let kind = change.kind().as_str();
    let body = match change {
        Change::Added(event) => {
            write(kind, now, subject.data(seq, AddedNews { event: EventBody::of(event) }))
        }
        Change::Revised(events) | Change::Retracted(events) => {
            let events = events.iter().map(EventBody::of).collect();
            write(kind, now, subject.data(seq, EventsNews { events }))
        }
        Change::Estimate { from, to } => {
            write(kind, now, subject.data(seq, EstimateNews { from: from.as_deref(), to: to.as_deref() }))
        }
        Change::Status { from, to, .. } | Change::Reopened { from, to, .. } => {
            let news = StatusNews {
                from: from.code.as_deref(),
                to: to.code.as_deref(),
                from_detail_code: from.detail.as_deref(),
                to_detail_code: to.detail.as_deref(),
            };
            write(kind, now, subject.data(seq, news))
        }
        Change::OutForDelivery(event) | Change::Exception(event) | Change::Delivered(event) => {
            let event = event.as_ref().map(EventBody::of);
            write(kind, now, subject.data(seq, MilestoneNews { event }))
        }
        Change::Stalled { since, business_days } => {
            let news = StalledNews { since: instant(*since), business_days: *business_days };
            write(kind, now, subject.data(seq, news))
        }
        Change::Late { estimate } => write(kind, now, subject.data(seq, LateNews { estimate })),
        Change::Expired { quiet_since } => {
            write(kind, now, subject.data(seq, ExpiredNews { quiet_since: instant(*quiet_since) }))
        }
        Change::Unavailable { since, detail } => {
            write(kind, now, subject.data(seq, UnavailableNews { since: instant(*since), detail }))
        }
    };
    Message {
        id: label_message_id(subject.label, change.kind(), &change.content(subject.status_code)),
        kind: change.kind(),
        seq: Some(seq),
        created_at: now,
        body,
        resource_url: None,
        about: None,
    }
}

/// The last message of a poll: what changed, and the whole answer verbatim.
pub fn summarize(
    subject: &Subject<'_>,
    seq: i64,
    now: Timestamp,
    changes: &[Change],
    tracking: &Tracking,
    resource_url: String,
) -> Message {
    let kind = MessageType::Updated;
    // The answer is the largest part by far: it is copied once, to where it stays.
    let news = UpdatedNews { changes: changes.iter().flat_map(entries).collect(), tracking: RawValue::NULL };
    let capacity = tracking.raw.len() + 1024 + 96 * news.changes.len();
    let mut body = write_into(kind.as_str(), now, subject.data(seq, news), capacity);
    debug_assert!(body.ends_with(NULL_AT_THE_END), "the answer is the last field");
    body.truncate(body.len() - NULL_AT_THE_END.len());
    body.push_str(&tracking.raw);
    body.push_str("}}");
    Message {
        id: label_message_id(subject.label, kind, &[digest::hex(&tracking.facts)]),
        kind,
        seq: Some(seq),
        created_at: now,
        body,
        resource_url: Some(resource_url),
        about: None,
    }
}

fn entries(change: &Change) -> Vec<SummaryEntry> {
    let kind = change.kind();
    match change.events() {
        [] => vec![SummaryEntry { r#type: kind, event_id: None }],
        events => {
            events.iter().map(|event| SummaryEntry { r#type: kind, event_id: Some(event.event_id) }).collect()
        }
    }
}
