//! What we owe our subscribers: immutable messages, each with one id for ever.
//!
//! A message is composed once, in the moment its change is found, and its bytes are never made again. The id is derived
//! from label, type and content, and from the number of the repetition where a label says the very same again. So a
//! daemon that is restored from an older copy, or begins with an empty database, sends what it sees again under the same
//! ids. `seq` orders the messages of a label; it never falls, whatever database it is counted in. The other forms of a callback ([`envelope`]) are cut from the standard body.

pub mod body;
pub mod envelope;
pub mod fan_out;
pub mod news;
pub mod ping;
pub mod schema;
pub mod signature;
mod splice;
pub mod subscriber;

use jiff::Timestamp;
use serde::Serialize;

use super::digest;
use super::label::{AccountName, LabelKey};
use subscriber::SubscriberName;

/// The types of messages (contract 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageType {
    EventAdded,
    EventRevised,
    EventRetracted,
    EstimateChanged,
    StatusChanged,
    OutForDelivery,
    Exception,
    Delivered,
    Reopened,
    Updated,
    Stalled,
    Late,
    Expired,
    Unavailable,
    AccountUnauthorized,
    AccountRecovered,
    SubscriberFailing,
    SubscriberRecovered,
}

impl MessageType {
    pub const ALL: [Self; 18] = [
        Self::EventAdded,
        Self::EventRevised,
        Self::EventRetracted,
        Self::EstimateChanged,
        Self::StatusChanged,
        Self::OutForDelivery,
        Self::Exception,
        Self::Delivered,
        Self::Reopened,
        Self::Updated,
        Self::Stalled,
        Self::Late,
        Self::Expired,
        Self::Unavailable,
        Self::AccountUnauthorized,
        Self::AccountRecovered,
        Self::SubscriberFailing,
        Self::SubscriberRecovered,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventAdded => "tracking.event.added",
            Self::EventRevised => "tracking.event.revised",
            Self::EventRetracted => "tracking.event.retracted",
            Self::EstimateChanged => "tracking.estimate.changed",
            Self::StatusChanged => "tracking.status.changed",
            Self::OutForDelivery => "tracking.out_for_delivery",
            Self::Exception => "tracking.exception",
            Self::Delivered => "tracking.delivered",
            Self::Reopened => "tracking.reopened",
            Self::Updated => "tracking.updated",
            Self::Stalled => "tracking.stalled",
            Self::Late => "tracking.late",
            Self::Expired => "tracking.expired",
            Self::Unavailable => "tracking.unavailable",
            Self::AccountUnauthorized => "system.account.unauthorized",
            Self::AccountRecovered => "system.account.recovered",
            Self::SubscriberFailing => "system.subscriber.failing",
            Self::SubscriberRecovered => "system.subscriber.recovered",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl MessageType {
    /// Whether a poll makes it. What no poll made is not sent in ShipStation's own forms (contract 6.1).
    pub fn is_made_by_polls(self) -> bool {
        !matches!(self, Self::Stalled | Self::Late | Self::Expired | Self::Unavailable) && !self.is_system()
    }

    /// Whether it belongs to no label.
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

impl Serialize for MessageType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A message, ready to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub kind: MessageType,
    /// Rises strictly per label, with gaps; see [`next_seq`]. `None` for system messages.
    pub seq: Option<i64>,
    pub created_at: Timestamp,
    /// The standard body, byte for byte as it is sent.
    pub body: String,
    /// Where the answer was read; only on `tracking.updated`, for the vendor's envelopes.
    pub resource_url: Option<String>,
    /// Whom a message of the system is about; `None` for a label's.
    pub about: Option<About>,
}

/// Whom a message of the system is about. To each receiver those about the same one come in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    Account(AccountName),
    Subscriber(SubscriberName),
}

impl About {
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

/// The `seq` behind `last` at `now`: milliseconds since 1970 unless `last` is as high, so that it rises also when the
/// database that knew the last one is gone.
pub fn next_seq(last: i64, now: Timestamp) -> i64 {
    last.saturating_add(1).max(now.as_millisecond())
}

/// The id of a label's message. `content` is what happened, in canonical words; never a time of ours.
fn label_message_id(label: &LabelKey, kind: MessageType, content: &[String]) -> String {
    let mut parts = vec!["message", label.account.as_str(), label.id.as_str(), kind.as_str()];
    parts.extend(content.iter().map(String::as_str));
    format!("msg_{}", digest::short_hex(&digest::of_parts(&parts)))
}

/// The id of a message that says for the `repetition`th time again what the message `id` said first. Numbers are given
/// without gaps: the first id that the database does not have is the next one.
pub fn repeated_id(id: &str, repetition: u32) -> String {
    let parts = ["repetition", id, &repetition.to_string()];
    format!("msg_{}", digest::short_hex(&digest::of_parts(&parts)))
}

/// The id of a system message about `subject` that began at `since`.
fn system_message_id(kind: MessageType, subject: &str, since: Timestamp) -> String {
    let since = since.as_millisecond().to_string();
    format!("msg_{}", digest::short_hex(&digest::of_parts(&["system", kind.as_str(), subject, &since])))
}

/// A message about a subscriber: it fails as a whole, or is well again. Both are named by when it began to fail.
pub fn about_subscriber(
    kind: MessageType,
    subscriber: &SubscriberName,
    state: &str,
    reason: Option<&str>,
    detail: Option<&str>,
    episode_at: Timestamp,
    now: Timestamp,
) -> Message {
    let data = body::SubscriberData { subscriber, state, reason, since: body::instant(episode_at), detail };
    let id = system_message_id(kind, subscriber.as_str(), episode_at);
    Message {
        id,
        kind,
        seq: None,
        created_at: now,
        body: body::write(kind.as_str(), now, data),
        resource_url: None,
        about: Some(About::Subscriber(subscriber.clone())),
    }
}

/// A message about an account: it was refused, or it is accepted again.
pub fn about_account(
    kind: MessageType,
    account: &AccountName,
    reason: &str,
    detail: Option<&str>,
    now: Timestamp,
) -> Message {
    let body = body::write(kind.as_str(), now, body::AccountData { account, reason, detail });
    let id = system_message_id(kind, account.as_str(), now);
    let about = Some(About::Account(account.clone()));
    Message { id, kind, seq: None, created_at: now, body, resource_url: None, about }
}
