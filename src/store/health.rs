//! Subscriber health, kept across restarts, so that an episode is not announced twice.
//!
//! The row is authoritative. Each attempt is judged by it in the transaction that records the attempt, so another
//! process may pause a subscriber at any time.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;

use super::messages::{LastKeys, write_system_messages};
use super::records::{EndedAttempt, NewDelivery};
use super::reschedule::reschedule;
use super::{Store, StoreError, at, ms, to_u32};
use crate::domain::delivery::health::{Health, HealthChange, HealthReason, HealthState};
use crate::domain::delivery::outcome::DueReason;
use crate::domain::messages::fan_out;
use crate::domain::messages::ping::{PING, Ping};
use crate::domain::messages::subscriber::SubscriberName;

impl Store {
    /// Returns a subscriber's health; `ok` for an unknown subscriber.
    pub async fn subscriber_health(&self, subscriber: &SubscriberName) -> Result<Health, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(read(&mut connection, subscriber).await?.unwrap_or_default())
    }

    /// Changes a subscriber's health in one transaction. Returns the result of `change` and the new health.
    pub async fn change_health<T: Send + 'static>(
        &self,
        subscriber: &SubscriberName,
        change: impl FnOnce(&mut Health) -> T + Send + 'static,
    ) -> Result<(T, Health), StoreError> {
        let name = subscriber.clone();
        let done = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let mut health = read(tx, &name).await?.unwrap_or_default();
                    let result = change(&mut health);
                    write(tx, &name, &health).await?;
                    Ok((result, health))
                })
            })
            .await;
        self.handover.mark_stale(subscriber);
        done
    }

    /// Records a subscriber's URL. If it is new, waiting deliveries are due at once, regardless of the Retry-After and
    /// failures of the previous receiver.
    pub async fn record_url(
        &self,
        subscriber: &SubscriberName,
        url_digest: String,
        now: Timestamp,
    ) -> Result<Health, StoreError> {
        let name = subscriber.clone();
        let health = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let mut health = read(tx, &name).await?.unwrap_or_default();
                    let another = health.set_url(&url_digest, now);
                    write(tx, &name, &health).await?;
                    if another {
                        reschedule(tx, &name, now, |_, schedule| schedule.follow_url(now)).await?;
                    }
                    Ok(health)
                })
            })
            .await;
        self.handover.mark_stale(subscriber);
        health
    }

    /// Shortens waits that are longer from `now` than they were planned to be: the clock may have been ahead when they
    /// were planned. `by`: how far the clock was just set back.
    pub async fn shorten_waits(
        &self,
        subscriber: &SubscriberName,
        by: Option<SignedDuration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = subscriber.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let mut by = by;
                    if let Some(mut health) = read(tx, &name).await? {
                        by = by.or(health.ahead_of(now));
                        if health.shorten_waits(now) {
                            write(tx, &name, &health).await?;
                        }
                    }
                    reschedule(tx, &name, now, |_, schedule| schedule.shorten_waits(by, now)).await
                })
            })
            .await
    }

    /// Makes waiting deliveries due at `now`, within the limits of the subscriber's health and regardless of
    /// Retry-After.
    pub async fn resume_deliveries(
        &self,
        subscriber: &SubscriberName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let name = subscriber.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move { reschedule(tx, &name, now, |_, schedule| schedule.resume(now)).await })
            })
            .await?;
        self.handover.mark_stale(subscriber);
        Ok(())
    }

    /// Inserts a ping into the subscriber's outbox, due at once. Returns the key of its delivery.
    pub async fn add_ping(
        &self,
        subscriber: &SubscriberName,
        ping: Ping,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let (name, now) = (subscriber.clone(), ms(now));
        let row = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let subscriber = name.as_str();
                    // Must run before the first write of this hour.
                    let last = LastKeys::read_and_note_hour(tx, at(now)).await?;
                    let (message, delivery) = (last.message + 1, last.delivery + 1);
                    sqlx::query!(
                        "INSERT INTO messages (message_key, message_id, type, created_at, body) VALUES (?, ?, ?, ?, ?)",
                        message,
                        ping.id,
                        PING,
                        now,
                        ping.body
                    )
                    .execute(&mut *tx)
                    .await?;
                    let reason = DueReason::First.to_json();
                    sqlx::query!(
                        "INSERT INTO deliveries
                            (delivery_key, message_key, subscriber, format, state, created_at, next_attempt_at, reason)
                         VALUES (?1, ?2, ?3, 'standard', 'pending', ?4, ?4, ?5)",
                        delivery,
                        message,
                        subscriber,
                        now,
                        reason
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(delivery)
                })
            })
            .await?;
        self.handover.mark_stale(subscriber);
        Ok(row)
    }

    /// Withdraws a ping that was not yet attempted. Returns whether it still existed.
    pub async fn withdraw_ping(&self, delivery: i64) -> Result<bool, StoreError> {
        let withdraw = sqlx::query!(
            "UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, reason = NULL,
                last_outcome = 'not attempted'
             WHERE delivery_key = ? AND lane IS NULL AND state = 'pending' AND attempts = 0",
            delivery
        );
        Ok(self.execute(withdraw).await? > 0)
    }
}

/// Minimum interval between writes of a subscriber's last success, if nothing else changes.
const SUCCESS_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// Successes that are not yet written. After a crash the last success may be shown up to a second too early.
#[derive(Debug, Default)]
pub(super) struct SubscriberHealths {
    successes: HashMap<SubscriberName, Success>,
    transaction: u64,
}

#[derive(Clone, Copy, Debug)]
struct Success {
    last: Timestamp,
    written: Timestamp,
}

impl SubscriberHealths {
    /// Reads a subscriber's health from its row; another process may have changed it. An unwritten success after `now` is
    /// ignored: it is from before the clock was set back.
    pub async fn read(
        &self,
        tx: &mut SqliteConnection,
        subscriber: &SubscriberName,
        now: Timestamp,
    ) -> Result<Health, sqlx::Error> {
        let mut health = read(tx, subscriber).await?.unwrap_or_default();
        let last = self.successes.get(subscriber).map(|success| success.last).filter(|last| *last <= now);
        health.last_success_at = health.last_success_at.max(last);
        Ok(health)
    }

    /// Writes a subscriber's health, unless only its last success changed.
    pub async fn write(
        &mut self,
        tx: &mut SqliteConnection,
        subscriber: &SubscriberName,
        before: &Health,
        health: &Health,
    ) -> Result<(), sqlx::Error> {
        let as_before = Health { last_success_at: before.last_success_at, ..health.clone() } == *before;
        if let Some(last) = health.last_success_at {
            if as_before
                && let Some(success) = self.successes.get_mut(subscriber)
                && last.duration_since(success.written).abs() < SUCCESS_INTERVAL
            {
                success.last = last;
                return Ok(());
            }
            self.successes.insert(subscriber.clone(), Success { last, written: last });
        } else if as_before {
            return Ok(());
        }
        write(tx, subscriber, health).await
    }

    /// Returns the number of the next transaction.
    pub fn next_transaction(&mut self) -> u64 {
        self.transaction += 1;
        self.transaction
    }
}

pub(super) async fn read(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
) -> Result<Option<Health>, sqlx::Error> {
    let name = subscriber.as_str();
    let row = sqlx::query!(
        "SELECT state, since, reason, detail, episode_at, probes, probe_at, failures, failures_of, gone_at, slow_start_limit,
            url_digest, held_until, last_success_at, last_failure_at, last_failure
         FROM subscribers WHERE subscriber = ?",
        name
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Health {
        // The table's CHECK allows no other values.
        state: HealthState::parse(&row.state).unwrap_or_default(),
        since: row.since.map(at),
        reason: row.reason.as_deref().and_then(HealthReason::parse),
        detail: row.detail,
        episode_at: row.episode_at.map(at),
        probes: to_u32(row.probes),
        probe_at: row.probe_at.map(at),
        failures: to_u32(row.failures),
        failures_of: row.failures_of,
        gone_at: row.gone_at.map(at),
        slow_start_limit: row.slow_start_limit.map(to_u32),
        url_digest: row.url_digest,
        held_until: row.held_until.map(at),
        last_success_at: row.last_success_at.map(at),
        last_failure_at: row.last_failure_at.map(at),
        last_failure: row.last_failure,
    }))
}

pub(super) async fn write(
    tx: &mut SqliteConnection,
    subscriber: &SubscriberName,
    health: &Health,
) -> Result<(), sqlx::Error> {
    let (name, state, reason) =
        (subscriber.as_str(), health.state.as_str(), health.reason.map(HealthReason::as_str));
    let (since, episode_at) = (health.since.map(ms), health.episode_at.map(ms));
    let (probe_at, gone_at, held_until) =
        (health.probe_at.map(ms), health.gone_at.map(ms), health.held_until.map(ms));
    let (success, failure) = (health.last_success_at.map(ms), health.last_failure_at.map(ms));
    sqlx::query!(
        "INSERT INTO subscribers (subscriber, state, since, reason, detail, episode_at, probes, probe_at,
            failures, failures_of, gone_at, slow_start_limit, url_digest, held_until, last_success_at,
            last_failure_at, last_failure)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (subscriber) DO UPDATE SET state = excluded.state, since = excluded.since,
            reason = excluded.reason, detail = excluded.detail, episode_at = excluded.episode_at,
            probes = excluded.probes, probe_at = excluded.probe_at, failures = excluded.failures,
            failures_of = excluded.failures_of, gone_at = excluded.gone_at, slow_start_limit = excluded.slow_start_limit,
            url_digest = excluded.url_digest, held_until = excluded.held_until,
            last_success_at = excluded.last_success_at, last_failure_at = excluded.last_failure_at,
            last_failure = excluded.last_failure",
        name,
        state,
        since,
        reason,
        health.detail,
        episode_at,
        health.probes,
        probe_at,
        health.failures,
        health.failures_of,
        gone_at,
        health.slow_start_limit,
        health.url_digest,
        held_until,
        success,
        failure,
        health.last_failure
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Applies a change of a subscriber's health, at the first of `ended`: writes the messages about it, and makes waiting
/// deliveries due, except the one just attempted. From then on the probes and the pace limit them.
pub(super) async fn write_change(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
    change: HealthChange,
    health: &Health,
    episode_at: Timestamp,
) -> Result<Vec<NewDelivery>, sqlx::Error> {
    let Some(attempt) = ended.first() else { return Ok(Vec::new()) };
    let now = attempt.ended_at;
    let name = &attempt.subscriber.name;
    reschedule(tx, name, now, |key, schedule| {
        let tried = ended.iter().any(|attempt| attempt.key == key);
        !tried && schedule.hasten(change.cause(), now)
    })
    .await?;
    let messages = Vec::from_iter(change.message(name, health, episode_at, now));
    let deliveries = fan_out::of_system(&messages, None, &attempt.subscribers);
    write_system_messages(tx, &messages, &deliveries, None).await
}
