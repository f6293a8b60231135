//! Next attempts of many deliveries: the same decision as for one, over health that is read once per subscriber.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;

use super::{instant_or_dash, instant_text};
use crate::domain::delivery::health::Health;
use crate::domain::delivery::next_attempt::{
    DeliveryFacts, NextAttempt, SubscriberConfig, WaitReason, next_attempt,
};
use crate::domain::messages::ping::PING;
use crate::domain::messages::subscriber::SubscriberName;
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::DeliveryView;
use crate::store::{Store, StoreError};

/// Configuration and health of subscribers.
#[derive(Debug)]
pub struct Subscribers(HashMap<SubscriberName, (SubscriberConfig, Health)>);

impl Subscribers {
    /// Reads the subscribers of some deliveries.
    pub async fn of(
        store: &Store,
        configured: &Configured,
        deliveries: impl IntoIterator<Item = &DeliveryView>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut read = HashMap::new();
        for delivery in deliveries {
            let name = SubscriberName::new(&delivery.subscriber);
            let Entry::Vacant(unread) = read.entry(name) else { continue };
            let subscriber = match configured.subscribers.get(unread.key()) {
                None => SubscriberConfig::Missing,
                Some(false) => SubscriberConfig::Disabled,
                Some(true) => SubscriberConfig::Enabled,
            };
            let mut health = store.subscriber_health(unread.key()).await?;
            if let Some(digest) = configured.url_digests.get(unread.key()) {
                // A new URL is a new receiver, as in the courier.
                health.set_url(digest, now);
            }
            unread.insert((subscriber, health));
        }
        Ok(Self(read))
    }

    /// Returns the next attempt of a delivery whose subscriber was read.
    pub fn next_attempt(&self, delivery: &DeliveryView, now: Timestamp) -> NextAttempt {
        let unknown = (SubscriberConfig::Missing, Health::default());
        let (subscriber, health) = self.0.get(&SubscriberName::new(&delivery.subscriber)).unwrap_or(&unknown);
        let facts = DeliveryFacts {
            state: delivery.state,
            due: delivery.due,
            ping: delivery.r#type == PING,
            behind_another: delivery.behind,
            subscriber: *subscriber,
            health,
        };
        next_attempt(&facts, now)
    }
}

/// Describes a next attempt in one cell of a table: an instant, or the reason for its wait.
pub fn cell(next: &NextAttempt, now: Timestamp) -> String {
    let word = match next.reasons.first() {
        Some(WaitReason::Delivered | WaitReason::Dead) => "-",
        Some(WaitReason::NoSubscriber) => "no subscriber",
        Some(WaitReason::Disabled) => "disabled",
        Some(WaitReason::Paused { .. }) => "paused",
        _ if next.reasons.contains(&WaitReason::Behind) => "after an earlier one",
        Some(WaitReason::Probed { at: Some(at), .. }) if *at > now => {
            return format!("probe {}", instant_text(*at));
        }
        _ if next.at.is_none_or(|at| at <= now) => "due",
        _ => return instant_or_dash(next.at),
    };
    word.to_owned()
}
