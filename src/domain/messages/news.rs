//! Something that happened to a label, before it is put into words.

use jiff::Timestamp;

use super::MessageType;
use crate::domain::digest;
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::history::ToldEvent;
use crate::domain::tracking::matching::EventId;

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
    /// `event`: the scan that brought it, if one did; not told.
    Status {
        from: StatusPair,
        to: StatusPair,
        event: Option<EventId>,
    },
    OutForDelivery(Option<ToldEvent>),
    Exception(Option<ToldEvent>),
    Delivered(Option<ToldEvent>),
    Reopened {
        from: StatusPair,
        to: StatusPair,
        event: Option<EventId>,
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

    /// What the change is about, in canonical words: the content that the id of its message is made of. Never a time of
    /// ours, and nothing that depends on how many polls found it: so a form and not a revision's number. `status` is the
    /// label's status after the change.
    pub fn content(&self, status: Option<&str>) -> Vec<String> {
        match self {
            Self::Added(event) => {
                let returned = if event.returned { "returned" } else { "" };
                vec![event.event_id.to_string(), event.form_in_words(), returned.to_owned()]
            }
            Self::Revised(events) => {
                let mut content: Vec<_> = events
                    .iter()
                    .map(|event| format!("{} {}", event.event_id, event.form_in_words()))
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
                let mut content: Vec<_> = codes.map(|code| folded(code.as_deref())).into();
                content.push(event.map(|event| event.to_string()).unwrap_or_default());
                content
            }
            Self::OutForDelivery(event) | Self::Exception(event) | Self::Delivered(event) => match event {
                Some(event) => vec![event.event_id.to_string()],
                None => vec![String::new(), folded(status)],
            },
            Self::Late { estimate } => vec![day_of(Some(estimate))],
            // Each is said once per silence: which one it is, the number of the repetition tells.
            Self::Stalled { .. } | Self::Expired { .. } | Self::Unavailable { .. } => Vec::new(),
        }
    }
}

impl ToldEvent {
    fn form_in_words(&self) -> String {
        self.form.map(|form| digest::hex(form.as_bytes())).unwrap_or_default()
    }
}

/// The day that an estimate names; its hour and its spelling are no content.
fn day_of(estimate: Option<&str>) -> String {
    let Some(estimate) = estimate else { return String::new() };
    estimate_day(estimate).map_or_else(|| folded(Some(estimate)), |day| day.to_string())
}

fn folded(code: Option<&str>) -> String {
    code.unwrap_or_default().trim().to_ascii_uppercase()
}
