//! Messages: immutable bodies with permanent ids.
//!
//! A message is composed once, when its change is found, and its bytes never change. The id derives from label, type,
//! content and, for a repetition, its number. So a daemon restored from a backup or started on an empty database sends the
//! same changes under the same ids (contract 5.3). `seq` orders the messages of a label and never falls. The other formats
//! ([`envelope`]) are made from the standard body.

pub mod body;
pub mod change;
pub mod envelope;
pub mod fan_out;
pub mod ping;
mod raw_fields;
pub mod schema;
pub mod signature;
pub mod subscriber;

use jiff::Timestamp;

use super::digest;
use super::label::{AccountName, LabelKey};
use crate::domain::named_enum::named_enum;
use crate::domain::time::instant;
use subscriber::SubscriberName;

named_enum! {
    /// Message type (contract 5.3).
    pub enum MessageType {
        EventAdded = "tracking.event.added",
        EventRevised = "tracking.event.revised",
        EventRetracted = "tracking.event.retracted",
        EstimateChanged = "tracking.estimate.changed",
        StatusChanged = "tracking.status.changed",
        OutForDelivery = "tracking.out_for_delivery",
        Exception = "tracking.exception",
        Delivered = "tracking.delivered",
        Reopened = "tracking.reopened",
        Updated = "tracking.updated",
        Stalled = "tracking.stalled",
        Late = "tracking.late",
        Expired = "tracking.expired",
        Unavailable = "tracking.unavailable",
        AccountUnauthorized = "system.account.unauthorized",
        AccountRecovered = "system.account.recovered",
        SubscriberFailing = "system.subscriber.failing",
        SubscriberRecovered = "system.subscriber.recovered",
    }
}

impl MessageType {
    /// Whether polls make this type. Other types are not sent in the formats of ShipStation and ShipEngine (contract 6.1).
    pub fn is_made_by_polls(self) -> bool {
        !matches!(self, Self::Stalled | Self::Late | Self::Expired | Self::Unavailable) && !self.is_system()
    }

    /// Whether messages of this type are about an account or a subscriber instead of a label.
    pub fn is_system(self) -> bool {
        matches!(
            self,
            Self::AccountUnauthorized
                | Self::AccountRecovered
                | Self::SubscriberFailing
                | Self::SubscriberRecovered
        )
    }
}

/// A message to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub kind: MessageType,
    /// Rises strictly per label, with gaps; see [`next_seq`]. `None` for system messages.
    pub seq: Option<i64>,
    pub created_at: Timestamp,
    /// The standard body, byte for byte as it is sent.
    pub body: String,
    /// URL of the answer, for envelopes; only for `tracking.updated`.
    pub resource_url: Option<String>,
    /// Subject of a system message; `None` for a message of a label.
    pub subject: Option<SystemSubject>,
}

/// Subject of a system message. Each subscriber gets the messages of one subject in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemSubject {
    Account(AccountName),
    Subscriber(SubscriberName),
}

impl SystemSubject {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Account(_) => "account",
            Self::Subscriber(_) => "subscriber",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Account(name) => name.as_str(),
            Self::Subscriber(name) => name.as_str(),
        }
    }
}

/// Returns the `seq` after `last`: at least milliseconds since 1970, so that it rises even if the database is lost
/// (contract 5.3).
pub fn next_seq(last: i64, now: Timestamp) -> i64 {
    last.saturating_add(1).max(now.as_millisecond())
}

/// Length of the part of an id that all messages of a label have in common: a poll then changes one page of the index of
/// ids instead of one per message.
const LABEL_PART: usize = "msg_01234567".len();

/// Id of a label's message. `content` is the canonical content of the change; it contains no time of trackpost's.
fn label_message_id(label: &LabelKey, kind: MessageType, content: &[String]) -> String {
    let label = [label.account.as_str(), label.id.as_str()];
    let mut parts = vec!["message", label[0], label[1], kind.as_str()];
    parts.extend(content.iter().map(String::as_str));
    id_after(&id_of(&label), &parts)
}

/// Id of the `repetition`th repetition of the message `id`. Numbers have no gaps: the first id that the database lacks is
/// the next one.
pub fn repeated_id(id: &str, repetition: u32) -> String {
    id_after(id, &["repetition", id, &repetition.to_string()])
}

/// Id that derives from `parts` and has its first part in common with `other`.
fn id_after(other: &str, parts: &[&str]) -> String {
    format!("{}{}", &other[..LABEL_PART], &id_of(parts)[LABEL_PART..])
}

fn id_of(parts: &[&str]) -> String {
    format!("msg_{}", digest::short_hex(&digest::of_parts(parts)))
}

/// Id of a system message about `subject`, of the episode that began at `since`.
fn system_message_id(kind: MessageType, subject: &str, since: Timestamp) -> String {
    let since = since.as_millisecond().to_string();
    id_of(&["system", kind.as_str(), subject, &since])
}

/// Returns the message that a subscriber is failing or has recovered. `episode_at` is when it began to fail; the ids of both
/// messages derive from it.
pub fn subscriber_message(
    kind: MessageType,
    subscriber: &SubscriberName,
    state: &str,
    reason: Option<&str>,
    detail: Option<&str>,
    episode_at: Timestamp,
    now: Timestamp,
) -> Message {
    let data = body::SubscriberData { subscriber, state, reason, since: instant(episode_at), detail };
    let id = system_message_id(kind, subscriber.as_str(), episode_at);
    Message {
        id,
        kind,
        seq: None,
        created_at: now,
        body: body::write(kind.as_str(), now, data),
        resource_url: None,
        subject: Some(SystemSubject::Subscriber(subscriber.clone())),
    }
}

/// Returns the message that an account is unauthorized or has recovered.
pub fn account_message(
    kind: MessageType,
    account: &AccountName,
    reason: &str,
    detail: Option<&str>,
    now: Timestamp,
) -> Message {
    let body = body::write(kind.as_str(), now, body::AccountData { account, reason, detail });
    let id = system_message_id(kind, account.as_str(), now);
    let subject = Some(SystemSubject::Account(account.clone()));
    Message { id, kind, seq: None, created_at: now, body, resource_url: None, subject }
}
