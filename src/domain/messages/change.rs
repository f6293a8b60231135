//! Changes of a label, from which messages are composed.

use jiff::Timestamp;

use super::MessageType;
use crate::domain::digest;
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::history::MessageEvent;
use crate::domain::tracking::matching::EventId;

/// Status code and status detail code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPair {
    pub code: Option<String>,
    pub detail: Option<String>,
}

/// A change of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(MessageEvent),
    Revised(Vec<MessageEvent>),
    Retracted(Vec<MessageEvent>),
    Estimate {
        from: Option<String>,
        to: Option<String>,
    },
    /// `event`: the scan that caused it, if any; not in the message.
    Status {
        from: StatusPair,
        to: StatusPair,
        event: Option<EventId>,
    },
    OutForDelivery(Option<MessageEvent>),
    Exception(Option<MessageEvent>),
    Delivered(Option<MessageEvent>),
    Reopened {
        from: StatusPair,
        to: StatusPair,
        event: Option<EventId>,
    },
    /// No scan since `since`.
    Stalled {
        since: Timestamp,
        business_days: u32,
    },
    /// The estimated delivery passed.
    Late {
        estimate: String,
    },
    Expired {
        quiet_since: Timestamp,
    },
    Unavailable {
        since: Timestamp,
        detail: String,
    },
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
            Self::Stalled { .. } => MessageType::Stalled,
            Self::Late { .. } => MessageType::Late,
            Self::Expired { .. } => MessageType::Expired,
            Self::Unavailable { .. } => MessageType::Unavailable,
        }
    }

    /// Events of the change.
    pub fn events(&self) -> &[MessageEvent] {
        match self {
            Self::Added(event) => std::slice::from_ref(event),
            Self::Revised(events) | Self::Retracted(events) => events,
            Self::OutForDelivery(event) | Self::Exception(event) | Self::Delivered(event) => event.as_slice(),
            Self::Estimate { .. }
            | Self::Status { .. }
            | Self::Reopened { .. }
            | Self::Stalled { .. }
            | Self::Late { .. }
            | Self::Expired { .. }
            | Self::Unavailable { .. } => &[],
        }
    }

    /// Canonical content, from which the message id derives. It does not contain a time of trackpost's or a value that
    /// depends on the number of polls: hence fingerprints instead of revision numbers. `status`: the label's status
    /// code after the change.
    pub fn content(&self, status: Option<&str>) -> Vec<String> {
        match self {
            Self::Added(event) => {
                let returned = if event.returned { "returned" } else { "" };
                vec![event.event_id.to_string(), event.fingerprint_hex(), returned.to_owned()]
            }
            Self::Revised(events) => {
                let mut content: Vec<_> = events
                    .iter()
                    .map(|event| format!("{} {}", event.event_id, event.fingerprint_hex()))
                    .collect();
                content.sort_unstable();
                content
            }
            Self::Retracted(events) => {
                let mut content: Vec<_> = events.iter().map(|event| event.event_id.to_string()).collect();
                content.sort_unstable();
                content
            }
            Self::Estimate { from, to } => [from, to].map(|text| day_of(text.as_deref())).into(),
            Self::Status { from, to, event } | Self::Reopened { from, to, event } => {
                let codes = [&from.code, &from.detail, &to.code, &to.detail];
                let mut content: Vec<_> = codes.map(|code| normalized(code.as_deref())).into();
                content.push(event.map(|event| event.to_string()).unwrap_or_default());
                content
            }
            Self::OutForDelivery(event) | Self::Exception(event) | Self::Delivered(event) => match event {
                Some(event) => vec![event.event_id.to_string()],
                None => vec![String::new(), normalized(status)],
            },
            Self::Late { estimate } => vec![day_of(Some(estimate))],
            // Each occurs once per episode; the number of the repetition distinguishes them.
            Self::Stalled { .. } | Self::Expired { .. } | Self::Unavailable { .. } => Vec::new(),
        }
    }
}

impl MessageEvent {
    fn fingerprint_hex(&self) -> String {
        self.fingerprint.map(|fingerprint| digest::hex(fingerprint.as_bytes())).unwrap_or_default()
    }
}

/// Day of an estimate. Its hour and spelling are not content.
fn day_of(estimate: Option<&str>) -> String {
    let Some(estimate) = estimate else { return String::new() };
    estimate_day(estimate).map_or_else(|| normalized(Some(estimate)), |day| day.to_string())
}

fn normalized(code: Option<&str>) -> String {
    code.unwrap_or_default().trim().to_ascii_uppercase()
}
