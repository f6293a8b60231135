//! Changes of a subscriber's health and their consequences.

use jiff::Timestamp;

use super::Health;
use crate::domain::delivery::outcome::HastenedBy;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::messages::{Message, MessageType, subscriber_message};

/// Change of health that is announced and makes the backlog due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// A failing episode begins: `system.subscriber.failing`.
    Failing,
    /// The receiver answered 410 during an episode.
    Paused,
    /// The episode ends: `system.subscriber.recovered`.
    Recovered,
}

impl HealthChange {
    /// Returns the cause that makes waiting deliveries due.
    pub fn cause(self) -> HastenedBy {
        match self {
            Self::Failing | Self::Paused => HastenedBy::Failing,
            Self::Recovered => HastenedBy::Recovery,
        }
    }

    /// Returns the message about the change, if there is one. `health`: after the change; `episode_at`: when
    /// the subscriber began to fail.
    pub fn message(
        self,
        name: &SubscriberName,
        health: &Health,
        episode_at: Timestamp,
        now: Timestamp,
    ) -> Option<Message> {
        let kind = match self {
            Self::Failing => MessageType::SubscriberFailing,
            Self::Recovered => MessageType::SubscriberRecovered,
            Self::Paused => return None,
        };
        let (state, reason) = (health.state.as_str(), health.reason.map(|reason| reason.as_str()));
        Some(subscriber_message(kind, name, state, reason, health.detail.as_deref(), episode_at, now))
    }
}
