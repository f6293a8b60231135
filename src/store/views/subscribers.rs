//! Subscriber health, for `subscribers list`.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use super::count;
use crate::domain::degraded::SubscriberStatus;
use crate::domain::delivery::health::{Health, HealthReason};
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::time::serialize_instant_or_null;
use crate::store::{Store, StoreError, at};

/// A subscriber with its health and its pending deliveries.
#[derive(Clone, Debug, Serialize)]
pub struct SubscriberView {
    pub name: String,
    pub state: SubscriberStatus,
    /// Number of pending deliveries.
    pub pending: u64,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub oldest_pending_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub last_success_at: Option<Timestamp>,
    /// Outcome of the last failed attempt.
    pub last_failure: Option<String>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub last_failure_at: Option<Timestamp>,
    /// Start of this state; null: always.
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub since: Option<Timestamp>,
    pub reason: Option<&'static str>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub next_probe_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub held_until: Option<Timestamp>,
}

impl SubscriberView {
    fn of(
        name: &SubscriberName,
        status: SubscriberStatus,
        mut health: Health,
        pending: u64,
        oldest_pending_at: Option<Timestamp>,
    ) -> Self {
        // The health from before it was disabled or removed does not describe it now.
        if !matches!(status, SubscriberStatus::Configured(_)) {
            (health.since, health.reason, health.probe_at, health.held_until) = (None, None, None, None);
        }
        Self {
            name: name.to_string(),
            state: status,
            pending,
            oldest_pending_at,
            last_success_at: health.last_success_at,
            last_failure: health.last_failure,
            last_failure_at: health.last_failure_at,
            since: health.since,
            reason: health.reason.map(HealthReason::as_str),
            next_probe_at: health.probe_at,
            held_until: health.held_until,
        }
    }
}

impl Store {
    /// Returns the configured subscribers, each with whether it is enabled, and removed subscribers with pending
    /// deliveries.
    pub async fn subscriber_views(
        &self,
        configured: &BTreeMap<SubscriberName, bool>,
    ) -> Result<Vec<SubscriberView>, StoreError> {
        let waiting = sqlx::query!(
            r#"SELECT waiting.subscriber AS "subscriber!", waiting.pending AS "pending!: i64", d.created_at AS "oldest!: i64"
               FROM (SELECT subscriber, count(*) AS pending, min(delivery_key) AS oldest
                     FROM deliveries WHERE state = 'pending' GROUP BY subscriber) waiting
               JOIN deliveries d ON d.delivery_key = waiting.oldest"#
        )
        .fetch_all(&self.readers)
        .await?;
        let waiting =
            waiting.into_iter().map(|row| (row.subscriber, (count(row.pending), Some(at(row.oldest)))));
        self.subscribers_with(configured, waiting.collect()).await
    }

    /// As [`Self::subscriber_views`], but `pending` is 1 if there is any, and `oldest_pending_at` is `None`. Reads one
    /// index row for each subscriber.
    pub(super) async fn uncounted_subscriber_views(
        &self,
        configured: &BTreeMap<SubscriberName, bool>,
    ) -> Result<Vec<SubscriberView>, StoreError> {
        let names = sqlx::query_scalar!(
            r#"WITH RECURSIVE waiting (subscriber) AS (
                   SELECT min(subscriber) FROM deliveries WHERE state = 'pending'
                   UNION ALL
                   SELECT (SELECT min(d.subscriber) FROM deliveries d
                           WHERE d.state = 'pending' AND d.subscriber > waiting.subscriber)
                   FROM waiting WHERE waiting.subscriber IS NOT NULL
               )
               SELECT subscriber AS "subscriber!: String" FROM waiting WHERE subscriber IS NOT NULL"#
        )
        .fetch_all(&self.readers)
        .await?;
        self.subscribers_with(configured, names.into_iter().map(|name| (name, (1, None))).collect()).await
    }

    async fn subscribers_with(
        &self,
        configured: &BTreeMap<SubscriberName, bool>,
        waiting: HashMap<String, (u64, Option<Timestamp>)>,
    ) -> Result<Vec<SubscriberView>, StoreError> {
        let mut names: Vec<SubscriberName> = waiting.keys().map(|name| SubscriberName::new(name)).collect();
        names.extend(configured.keys().cloned());
        names.sort();
        names.dedup();
        let mut views = Vec::with_capacity(names.len());
        for name in &names {
            let (pending, oldest) = waiting.get(name.as_str()).copied().unwrap_or_default();
            let health = self.subscriber_health(name).await?;
            let status = SubscriberStatus::of(configured.get(name).copied(), health.state);
            views.push(SubscriberView::of(name, status, health, pending, oldest));
        }
        Ok(views)
    }
}
