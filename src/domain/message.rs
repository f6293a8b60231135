//! What we owe our subscribers: immutable messages, each with one id for ever.

use serde::Serialize;

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

impl Serialize for MessageType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
