//! How subscribers fare, kept across restarts: an episode is not announced twice.
//!
//! The row is the truth: every attempt is judged by it in the transaction that records the attempt, so that a verb in
//! another process may pause a subscriber at any time.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::messages::write_system_messages;
use super::outbox::EndedAttempt;
use super::{Store, StoreError, at, json, ms};
use crate::domain::breaker::{Health, HealthChange, Reason, State};
use crate::domain::message::ping::{PING, Ping};
use crate::domain::message::{MessageType, about_subscriber};
use crate::domain::subscriber::SubscriberName;
use crate::domain::system;

impl Store {
    /// How a subscriber fares; one that nobody has heard of is well.
    pub async fn subscriber_health(&self, subscriber: &SubscriberName) -> Result<Health, StoreError> {
        let mut connection = self.readers.acquire().await?;
        Ok(read(&mut connection, subscriber).await?.unwrap_or_default())
    }

    /// Changes how a subscriber fares, in one transaction; returns what `change` says, and what it left.
    pub async fn change_health<T: Send + 'static>(
        &self,
        subscriber: &SubscriberName,
        change: impl FnOnce(&mut Health) -> T + Send + 'static,
    ) -> Result<(T, Health), StoreError> {
        let name = subscriber.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let mut health = read(tx, &name).await?.unwrap_or_default();
                    let said = change(&mut health);
                    write(tx, &name, &health).await?;
                    Ok((said, health))
                })
            })
            .await
    }

    /// Learns where a subscriber's callbacks go from now on. To another receiver what waits is due at once, whatever
    /// the one before asked for or refused.
    pub async fn meet(
        &self,
        subscriber: &SubscriberName,
        url_digest: String,
        now: Timestamp,
    ) -> Result<Health, StoreError> {
        let name = subscriber.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let mut health = read(tx, &name).await?.unwrap_or_default();
                    let another = health.meet(&url_digest, now);
                    write(tx, &name, &health).await?;
                    if another {
                        forget_refusals(tx, &name).await?;
                        make_heads_due(tx, &name, &[], now).await?;
                    }
                    Ok(health)
                })
            })
            .await
    }

    /// Has what waits tried at `now`, as far as the subscriber's health lets it, whatever the receiver asked for.
    pub async fn resume_heads(&self, subscriber: &SubscriberName, now: Timestamp) -> Result<(), StoreError> {
        let name = subscriber.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let subscriber = name.as_str();
                    sqlx::query!(
                        "UPDATE deliveries SET asked_until = NULL
                         WHERE subscriber = ? AND state = 'pending' AND asked_until IS NOT NULL",
                        subscriber
                    )
                    .execute(&mut *tx)
                    .await?;
                    make_heads_due(tx, &name, &[], now).await
                })
            })
            .await
    }

    /// Puts a ping into the subscriber's outbox, before what waits there; a failing subscriber is probed with it at once.
    /// Returns the row of its delivery.
    pub async fn add_ping(
        &self,
        subscriber: &SubscriberName,
        ping: Ping,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let (name, now) = (subscriber.clone(), ms(now));
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let subscriber = name.as_str();
                    let message = sqlx::query_scalar!(
                        r#"INSERT INTO messages (message_id, type, created_at, body) VALUES (?, ?, ?, ?)
                           RETURNING message_key AS "key!""#,
                        ping.id,
                        PING,
                        now,
                        ping.body
                    )
                    .fetch_one(&mut *tx)
                    .await?;
                    let row = sqlx::query_scalar!(
                        r#"INSERT INTO deliveries
                            (message_key, subscriber, format, state, created_at, next_attempt_at)
                           VALUES (?1, ?2, 'standard', 'pending', ?3,
                                   min(?3, coalesce((SELECT min(next_attempt_at) - 1 FROM deliveries
                                        WHERE subscriber = ?2 AND next_attempt_at IS NOT NULL), ?3)))
                           RETURNING delivery_key AS "key!""#,
                        message,
                        subscriber,
                        now
                    )
                    .fetch_one(&mut *tx)
                    .await?;
                    let mut health = read(tx, &name).await?.unwrap_or_default();
                    health.hasten(at(now));
                    write(tx, &name, &health).await?;
                    Ok(row)
                })
            })
            .await
    }
}

pub(super) async fn read(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
) -> Result<Option<Health>, sqlx::Error> {
    let name = subscriber.as_str();
    let row = sqlx::query!(
        "SELECT state, since, reason, detail, episode_at, probes, probe_at, failures, failures_of, gone_at, pace,
            url_digest, held_until, last_success_at, last_failure_at, last_failure
         FROM subscribers WHERE subscriber = ?",
        name
    )
    .fetch_optional(connection)
    .await?;
    let whole = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(row.map(|row| Health {
        // The table's CHECK knows no others.
        state: State::parse(&row.state).unwrap_or_default(),
        since: row.since.map(at),
        reason: row.reason.as_deref().and_then(Reason::parse),
        detail: row.detail,
        episode_at: row.episode_at.map(at),
        probes: whole(row.probes),
        probe_at: row.probe_at.map(at),
        failures: whole(row.failures),
        failures_of: row.failures_of,
        gone_at: row.gone_at.map(at),
        pace: row.pace.map(whole),
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
        (subscriber.as_str(), health.state.as_str(), health.reason.map(Reason::as_str));
    let (since, episode_at) = (health.since.map(ms), health.episode_at.map(ms));
    let (probe_at, gone_at, held_until) =
        (health.probe_at.map(ms), health.gone_at.map(ms), health.held_until.map(ms));
    let (success, failure) = (health.last_success_at.map(ms), health.last_failure_at.map(ms));
    sqlx::query!(
        "INSERT INTO subscribers (subscriber, state, since, reason, detail, episode_at, probes, probe_at,
            failures, failures_of, gone_at, pace, url_digest, held_until, last_success_at,
            last_failure_at, last_failure)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (subscriber) DO UPDATE SET state = excluded.state, since = excluded.since,
            reason = excluded.reason, detail = excluded.detail, episode_at = excluded.episode_at,
            probes = excluded.probes, probe_at = excluded.probe_at, failures = excluded.failures,
            failures_of = excluded.failures_of, gone_at = excluded.gone_at, pace = excluded.pace,
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
        health.pace,
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

/// What a change of a subscriber's health brings with it, at the first of `ended`: it is told, and the heads of its lanes
/// no longer wait for their schedules. In the order that an outbox has, it is the probes, and then the pace, that hold
/// them back.
pub(super) async fn follow(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
    change: HealthChange,
    health: &Health,
    episode_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let Some(attempt) = ended.first() else { return Ok(()) };
    let now = attempt.settled_at;
    let name = &attempt.subscriber.name;
    let tried: Vec<i64> = ended.iter().map(|attempt| attempt.row).collect();
    make_heads_due(tx, name, &tried, now).await?;
    let kind = match change {
        HealthChange::Fell => MessageType::SubscriberFailing,
        HealthChange::Recovered => MessageType::SubscriberRecovered,
        HealthChange::Paused => return Ok(()),
    };
    let told = [about_subscriber(kind, name, health, episode_at, now)];
    let deliveries = system::fan_out(&told, None, &attempt.audience);
    write_system_messages(tx, &told, &deliveries, None).await
}

/// Those that wait for a time of our own are due now; those that the receiver asked to leave alone, when it said. All
/// but `tried`, which were just attempted, and what is sent again at a pace. They are tried before their time: should
/// they fail, they wait for that.
async fn make_heads_due(
    tx: &mut SqliteConnection,
    subscriber: &SubscriberName,
    tried: &[i64],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let (name, now, tried) = (subscriber.as_str(), ms(now), json(tried));
    sqlx::query!(
        "UPDATE deliveries SET next_attempt_at = max(?2, coalesce(asked_until, ?2))
         WHERE subscriber = ?1 AND (attempts > 0) IN (0, 1) AND next_attempt_at > ?2
           AND next_attempt_at > coalesce(asked_until, ?2) AND delivery_key NOT IN (SELECT value FROM json_each(?3))
           AND (queued_again_at IS NULL OR EXISTS (SELECT 1 FROM attempts a
                WHERE a.delivery_key = deliveries.delivery_key AND a.started_at >= queued_again_at))",
        name,
        now,
        tried
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Another receiver has neither refused anything nor asked to be left alone.
async fn forget_refusals(tx: &mut SqliteConnection, subscriber: &SubscriberName) -> Result<(), sqlx::Error> {
    let name = subscriber.as_str();
    sqlx::query!(
        "UPDATE deliveries SET tried = 0, tried_since = NULL, planned_at = NULL, asked_until = NULL
         WHERE subscriber = ? AND state = 'pending' AND (tried > 0 OR asked_until IS NOT NULL)",
        name
    )
    .execute(tx)
    .await?;
    Ok(())
}
