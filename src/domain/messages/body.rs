//! Standard bodies (contract 6.3): `{"type", "timestamp", "data"}`.
//!
//! Bodies are serialized from these types, and the schemas in `config/schemas/` are generated from them. Doc comments of
//! these types are descriptions in the schemas.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::change::Change;
use super::raw_fields::RawFields;
use super::{Message, MessageType, label_message_id};
use crate::domain::digest;
use crate::domain::label::{AccountName, LabelId, LabelKey, Metadata};
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::time::instant;
use crate::domain::tracking::history::MessageEvent;
use crate::domain::tracking::matching::EventId;
use crate::domain::tracking::{StatusCode, Tracking};

/// Body of a callback in the standard format.
#[derive(Serialize, JsonSchema)]
pub struct Body<'a, D> {
    /// Message type.
    r#type: &'a str,
    /// Time at which trackpost found the change: RFC 3339, UTC, milliseconds.
    #[schemars(regex(pattern = r"^\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"))]
    timestamp: String,
    data: D,
}

/// `data` of a label's message: common fields and the details of the type.
#[derive(Serialize, JsonSchema)]
pub struct LabelData<'a, N> {
    #[schemars(with = "String", length(max = 25), regex(pattern = r"^se(-[a-z0-9]+)+$"))]
    label_id: &'a LabelId,
    #[schemars(with = "String")]
    account: &'a AccountName,
    /// Metadata registered with the label.
    metadata: &'a Metadata,
    /// Rises with each message of the label, even after the database was restored or recreated. Gaps have no meaning.
    #[schemars(range(min = 1))]
    seq: i64,
    tracking_number: Option<&'a str>,
    carrier_code: Option<&'a str>,
    /// A known code in upper case, any other as the API spelled it.
    status_code: Option<&'a str>,
    status_description: Option<&'a str>,
    /// Status by ShipStation's table of status codes; null for AC and AT.
    tracking_status: Option<&'a str>,
    #[serde(flatten)]
    details: N,
}

/// A carrier event: trackpost's fields, and the event's own fields verbatim.
#[derive(Serialize, JsonSchema)]
pub struct EventBody<'a> {
    /// Never changes, even if the carrier revises the event.
    #[schemars(with = "String", regex(pattern = "^evt_[0-9a-v]{26}$"))]
    event_id: EventId,
    /// 1 at first; each revision adds 1.
    #[schemars(range(min = 1))]
    revision: u32,
    /// Whether the event was older than the newest known event when it was first seen.
    late: bool,
    /// Whether the event returned after it was retracted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    returned: bool,
    /// For a revision, also of a returned event: names of the fields that differ.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schemars(with = "Vec<String>", default)]
    changed: &'a [String],
    /// For a revision, also of a returned event: the carrier event's own fields before.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'a RawValue>,
    #[serde(flatten)]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    fields: RawFields<'a>,
}

#[derive(Serialize, JsonSchema)]
pub struct AddedDetails<'a> {
    event: EventBody<'a>,
}

#[derive(Serialize, JsonSchema)]
pub struct EventsDetails<'a> {
    #[schemars(length(min = 1))]
    events: Vec<EventBody<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub struct EstimateDetails<'a> {
    /// Estimated delivery before, as the API spelled it; null if there was none.
    from: Option<&'a str>,
    /// Null if the estimate was dropped.
    to: Option<&'a str>,
}

#[derive(Serialize, JsonSchema)]
pub struct StatusDetails<'a> {
    /// Status code before; null if none was known.
    from: Option<&'a str>,
    to: Option<&'a str>,
    from_detail_code: Option<&'a str>,
    to_detail_code: Option<&'a str>,
}

#[derive(Serialize, JsonSchema)]
pub struct MilestoneDetails<'a> {
    /// Carrier event of the milestone; null if only the status has it.
    event: Option<EventBody<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub struct StalledDetails {
    /// Time of the newest scan if it is plausible, else the time at which trackpost first saw it.
    since: String,
    business_days: u32,
}

#[derive(Serialize, JsonSchema)]
pub struct LateDetails<'a> {
    /// Estimated delivery that has passed, as the API spelled it.
    estimate: &'a str,
}

#[derive(Serialize, JsonSchema)]
pub struct ExpiredDetails {
    /// Time of the last change.
    quiet_since: String,
}

#[derive(Serialize, JsonSchema)]
pub struct UnavailableDetails<'a> {
    /// Time of the first refusal in a row.
    since: String,
    /// Last answer of the API.
    detail: &'a str,
}

#[derive(Serialize, JsonSchema)]
pub struct UpdatedDetails<'a> {
    /// Changes found by this poll, in the order of its messages.
    #[schemars(length(min = 1))]
    changes: Vec<SummaryEntry>,
    /// Whole answer of the API, verbatim.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    tracking: &'a RawValue,
}

#[derive(Serialize, JsonSchema)]
pub struct SummaryEntry {
    #[schemars(with = "String")]
    r#type: MessageType,
    /// Null if the change is not about an event.
    #[schemars(with = "Option<String>")]
    event_id: Option<EventId>,
}

/// `data` of a system message about an account.
#[derive(Serialize, JsonSchema)]
pub struct AccountData<'a> {
    #[schemars(with = "String")]
    pub account: &'a AccountName,
    /// `unauthorized`, `misconfigured` or `ok`.
    pub reason: &'a str,
    pub detail: Option<&'a str>,
}

/// `data` of a system message about a subscriber.
#[derive(Serialize, JsonSchema)]
pub struct SubscriberData<'a> {
    #[schemars(with = "String")]
    pub subscriber: &'a SubscriberName,
    /// `failing` (one probe at a time), `paused` (until it is resumed) or `ok`.
    pub state: &'a str,
    /// `no_connection`, `failures` or `gone`; null if the state is `ok`.
    pub reason: Option<&'a str>,
    /// Time at which the subscriber began to fail.
    pub since: String,
    /// Last failure.
    pub detail: Option<&'a str>,
}

/// Fields of the label that all its messages contain.
#[derive(Clone, Copy, Debug)]
pub struct LabelFields<'a> {
    pub label: &'a LabelKey,
    pub metadata: &'a Metadata,
    pub tracking_number: Option<&'a str>,
    pub carrier_code: Option<&'a str>,
    pub status_code: Option<&'a str>,
    pub status_description: Option<&'a str>,
}

impl<'a> LabelFields<'a> {
    fn data<N>(&self, seq: i64, details: N) -> LabelData<'a, N> {
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
            details,
        }
    }
}

/// trackpost's field names in an event. Fields of the API with these names are left out.
const OWN_NAMES: [&str; 6] = ["event_id", "revision", "late", "returned", "previous", "changed"];

impl<'a> EventBody<'a> {
    fn of(event: &'a MessageEvent) -> Self {
        let mut fields = RawFields::of(&event.raw).unwrap_or_default();
        fields.0.retain(|(name, _)| !OWN_NAMES.contains(&name.as_str()));
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

/// Returns the body of a message.
pub fn write<D: Serialize>(kind: &str, now: Timestamp, data: D) -> String {
    write_with_capacity(kind, now, data, 1024)
}

/// As [`write()`], with an initial capacity in bytes.
fn write_with_capacity<D: Serialize>(kind: &str, now: Timestamp, data: D, capacity: usize) -> String {
    let mut body = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut body, &Body { r#type: kind, timestamp: instant(now), data })
        .expect("a body is made of texts, numbers and JSON");
    String::from_utf8(body).expect("JSON is UTF-8")
}

/// End of a body whose last field is null.
const TRAILING_NULL: &str = "null}}";

/// Returns the message of one change.
pub fn compose(subject: &LabelFields<'_>, seq: i64, now: Timestamp, change: &Change) -> Message {
    let kind = change.kind().as_str();
    let body = match change {
        Change::Added(event) => {
            write(kind, now, subject.data(seq, AddedDetails { event: EventBody::of(event) }))
        }
        Change::Revised(events) | Change::Retracted(events) => {
            let events = events.iter().map(EventBody::of).collect();
            write(kind, now, subject.data(seq, EventsDetails { events }))
        }
        Change::Estimate { from, to } => {
            write(kind, now, subject.data(seq, EstimateDetails { from: from.as_deref(), to: to.as_deref() }))
        }
        Change::Status { from, to, .. } | Change::Reopened { from, to, .. } => {
            let details = StatusDetails {
                from: from.code.as_deref(),
                to: to.code.as_deref(),
                from_detail_code: from.detail.as_deref(),
                to_detail_code: to.detail.as_deref(),
            };
            write(kind, now, subject.data(seq, details))
        }
        Change::OutForDelivery(event) | Change::Exception(event) | Change::Delivered(event) => {
            let event = event.as_ref().map(EventBody::of);
            write(kind, now, subject.data(seq, MilestoneDetails { event }))
        }
        Change::Stalled { since, business_days } => {
            let details = StalledDetails { since: instant(*since), business_days: *business_days };
            write(kind, now, subject.data(seq, details))
        }
        Change::Late { estimate } => write(kind, now, subject.data(seq, LateDetails { estimate })),
        Change::Expired { quiet_since } => {
            write(kind, now, subject.data(seq, ExpiredDetails { quiet_since: instant(*quiet_since) }))
        }
        Change::Unavailable { since, detail } => {
            write(kind, now, subject.data(seq, UnavailableDetails { since: instant(*since), detail }))
        }
    };
    Message {
        id: label_message_id(subject.label, change.kind(), &change.content(subject.status_code)),
        kind: change.kind(),
        seq: Some(seq),
        created_at: now,
        body,
        resource_url: None,
        subject: None,
    }
}

/// Returns the `tracking.updated` of a poll, its last message: the changes and the whole answer verbatim.
pub fn summarize(
    subject: &LabelFields<'_>,
    seq: i64,
    now: Timestamp,
    changes: &[Change],
    tracking: &Tracking,
    resource_url: String,
) -> Message {
    let kind = MessageType::Updated;
    // The answer is by far the largest part, so it is copied only once, into its place in the body.
    let details =
        UpdatedDetails { changes: changes.iter().flat_map(entries).collect(), tracking: RawValue::NULL };
    let capacity = tracking.raw.len() + 1024 + 96 * details.changes.len();
    let mut body = write_with_capacity(kind.as_str(), now, subject.data(seq, details), capacity);
    debug_assert!(body.ends_with(TRAILING_NULL), "the answer is the last field");
    body.truncate(body.len() - TRAILING_NULL.len());
    body.push_str(&tracking.raw);
    body.push_str("}}");
    Message {
        id: label_message_id(subject.label, kind, &[digest::hex(&tracking.content_digest)]),
        kind,
        seq: Some(seq),
        created_at: now,
        body,
        resource_url: Some(resource_url),
        subject: None,
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
