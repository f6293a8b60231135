//! Something that happened to a label, before it is put into words.

use jiff::Timestamp;

use super::MessageType;
use crate::domain::event::EventId;

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
    pub raw: String,
    /// What it was before, for a revision.
    pub previous: Option<String>,
    /// The names of the fields that differ from before.
    pub changed: Vec<String>,
    /// The digest of its canonical form: what its message's id is made of.
    pub form: String,
}

/// A status code and its detail code, as they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPair {
    pub code: Option<String>,
    pub detail: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(ToldEvent),
    Revised(Vec<ToldEvent>),
    Retracted(Vec<ToldEvent>),
    Estimate {
        from: Option<String>,
        to: Option<String>,
    },
    Status {
        from: StatusPair,
        to: StatusPair,
    },
    OutForDelivery(Option<ToldEvent>),
    Exception(Option<ToldEvent>),
    Delivered(Option<ToldEvent>),
    Reopened {
        from: StatusPair,
        to: StatusPair,
    },
    /// No scan since `since` for so many business days.
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

    /// The events it is about.
    pub fn events(&self) -> &[ToldEvent] {
        match self {
            Self::Added(event) => std::slice::from_ref(event),
            Self::Revised(events) | Self::Retracted(events) => events,
            Self::OutForDelivery(event) | Self::Exception(event) | Self::Delivered(event) => event.as_slice(),
            _ => &[],
        }
    }

    /// What makes this change this one and no other, in canonical words; never a time of ours.
    pub fn content(&self) -> Vec<String> {
        match self {
            Self::Estimate { from, to } => {
                vec![from.clone().unwrap_or_default(), to.clone().unwrap_or_default()]
            }
            Self::Status { from, to } | Self::Reopened { from, to } => {
                [&from.code, &from.detail, &to.code, &to.detail]
                    .map(|part| part.clone().unwrap_or_default())
                    .into()
            }
            Self::Late { estimate } => vec![estimate.clone()],
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
