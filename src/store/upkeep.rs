//! Retention: deletes old rows. Pending deliveries are deleted only if their subscriber is gone.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::messages::LastKeys;
use super::{Store, StoreError, hour_of, json, ms};
use crate::domain::messages::subscriber::SubscriberName;

/// Limits of retention.
#[derive(Clone, Copy, Debug)]
pub struct RetentionLimits {
    /// Attempts of delivered and dead deliveries that started before this are deleted.
    pub attempts_since: Timestamp,
    /// Labels and messages that finished before this are deleted.
    pub finished_since: Timestamp,
    /// Pending and dead deliveries are kept if they were queued after this; pending ones also if their subscriber was
    /// served after this.
    pub undelivered_since: Timestamp,
}

/// Counts of deleted rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub attempts: u64,
    pub labels: u64,
    /// Messages without a label: about accounts and subscribers, and pings.
    pub messages: u64,
    /// Pending deliveries that were deleted, by subscriber that is gone.
    pub undelivered: Vec<(String, u64)>,
}

impl Pruned {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Deletes up to `limit` rows of each kind.
    pub async fn prune(&self, keep: RetentionLimits, limit: u32) -> Result<Pruned, StoreError> {
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let attempts = prune_attempts(tx, ms(keep.attempts_since), limit).await?;
                    let mut pruned = Pruned { attempts, ..Pruned::default() };
                    prune_labels(tx, keep, limit, &mut pruned).await?;
                    prune_messages(tx, keep, limit, &mut pruned).await?;
                    Ok(pruned)
                })
            })
            .await
    }

    /// Records since when each subscriber that is not in `served` has been absent.
    pub async fn note_absent(&self, served: &[SubscriberName], now: Timestamp) -> Result<(), StoreError> {
        let served = json(served);
        let now = ms(now);
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!(
                        "UPDATE subscribers SET absent_since = NULL
                         WHERE absent_since IS NOT NULL AND subscriber IN (SELECT value FROM json_each(?))",
                        served
                    )
                    .execute(&mut *tx)
                    .await?;
                    // Steps from name to name, because there may be many pending rows.
                    sqlx::query!(
                        "WITH RECURSIVE pending (name) AS (
                            SELECT min(subscriber) FROM deliveries WHERE state = 'pending'
                            UNION ALL
                            SELECT (SELECT min(subscriber) FROM deliveries WHERE state = 'pending' AND subscriber > name)
                            FROM pending WHERE name IS NOT NULL)
                         INSERT INTO subscribers (subscriber, absent_since)
                         SELECT name, ?1 FROM pending
                         WHERE name IS NOT NULL AND name NOT IN (SELECT value FROM json_each(?2))
                         ON CONFLICT (subscriber) DO UPDATE
                         SET absent_since = coalesce(subscribers.absent_since, excluded.absent_since)",
                        now,
                        served
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(())
                })
            })
            .await
    }
}

/// Deletes old attempts. An attempt is not older than its message, so only deliveries of messages from before the hour
/// of `before` are read; few of them have attempts left.
async fn prune_attempts(tx: &mut SqliteConnection, before: i64, limit: u32) -> Result<u64, sqlx::Error> {
    let hour = hour_of(before);
    let done = sqlx::query!(
        "DELETE FROM attempts WHERE (delivery_key, attempt) IN (
            SELECT a.delivery_key, a.attempt FROM attempts a CROSS JOIN deliveries d USING (delivery_key)
            WHERE a.delivery_key < coalesce(
                    (SELECT first.delivery_key FROM deliveries first
                     WHERE first.message_key >= (SELECT min(message_key) FROM message_hours WHERE hour >= ?2)
                     ORDER BY first.message_key LIMIT 1), 9223372036854775807)
              AND a.started_at < ?1 AND d.state <> 'pending' LIMIT ?3)",
        before,
        hour,
        limit
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}

/// Deletes labels without a next poll (finished, expired, unavailable, removed) with their history and messages, unless
/// the configuration lists them, a pending or dead delivery is younger than `undelivered_since`, or a pending delivery
/// has a subscriber that was served since then.
async fn prune_labels(
    tx: &mut SqliteConnection,
    keep: RetentionLimits,
    limit: u32,
    pruned: &mut Pruned,
) -> Result<(), sqlx::Error> {
    let (finished, undelivered) = (ms(keep.finished_since), ms(keep.undelivered_since));
    let labels = sqlx::query_scalar!(
        "SELECT label_key FROM labels l INDEXED BY labels_idle
         WHERE l.state <> 'active' AND l.next_poll_at IS NULL AND l.by_config = 0
           AND coalesce(l.finished_at, l.last_polled_at, l.registered_at) < ?1
           AND NOT EXISTS (SELECT 1 FROM messages m JOIN deliveries d USING (message_key)
                           LEFT JOIN subscribers s USING (subscriber)
                           WHERE m.label_key = l.label_key AND d.state <> 'delivered'
                             AND (coalesce(d.queued_again_at, d.created_at) >= ?2
                                  OR d.state = 'pending' AND coalesce(s.absent_since, ?2) >= ?2))
         LIMIT ?3",
        finished,
        undelivered,
        limit
    )
    .fetch_all(&mut *tx)
    .await?;
    if labels.is_empty() {
        return Ok(());
    }
    let rows = json(&labels);
    let messages = sqlx::query_scalar!(
        "SELECT message_key FROM messages WHERE label_key IN (SELECT value FROM json_each(?))",
        rows
    )
    .fetch_all(&mut *tx)
    .await?;
    count_undelivered(tx, &json(&messages), pruned).await?;
    LastKeys::record(tx).await?;
    sqlx::query!("DELETE FROM labels WHERE label_key IN (SELECT value FROM json_each(?))", rows)
        .execute(&mut *tx)
        .await?;
    pruned.labels += labels.len() as u64;
    Ok(())
}

/// Deletes messages without a label after their last delivery ended long enough ago.
async fn prune_messages(
    tx: &mut SqliteConnection,
    keep: RetentionLimits,
    limit: u32,
    pruned: &mut Pruned,
) -> Result<(), sqlx::Error> {
    let (finished, undelivered) = (ms(keep.finished_since), ms(keep.undelivered_since));
    let messages = sqlx::query_scalar!(
        "SELECT message_key FROM messages m
         WHERE m.label_key IS NULL AND m.created_at < ?1
           AND NOT EXISTS (SELECT 1 FROM deliveries d LEFT JOIN subscribers s USING (subscriber)
                           WHERE d.message_key = m.message_key
                             AND (d.delivered_at >= ?1
                                  OR d.state <> 'delivered' AND coalesce(d.queued_again_at, d.created_at) >= ?2
                                  OR d.state = 'pending' AND coalesce(s.absent_since, ?2) >= ?2
                                  OR d.state = 'dead' AND EXISTS (
                                     SELECT 1 FROM attempts a
                                     WHERE a.delivery_key = d.delivery_key AND a.started_at >= ?1)))
         LIMIT ?3",
        finished,
        undelivered,
        limit
    )
    .fetch_all(&mut *tx)
    .await?;
    if messages.is_empty() {
        return Ok(());
    }
    let rows = json(&messages);
    count_undelivered(tx, &rows, pruned).await?;
    LastKeys::record(tx).await?;
    sqlx::query!("DELETE FROM messages WHERE message_key IN (SELECT value FROM json_each(?))", rows)
        .execute(&mut *tx)
        .await?;
    pruned.messages += messages.len() as u64;
    Ok(())
}

/// Counts the undelivered deliveries that are deleted, so that they are logged.
async fn count_undelivered(
    tx: &mut SqliteConnection,
    messages: &str,
    pruned: &mut Pruned,
) -> Result<(), sqlx::Error> {
    let pending = sqlx::query!(
        r#"SELECT subscriber, count(*) AS "pending!: i64" FROM deliveries
           WHERE message_key IN (SELECT value FROM json_each(?)) AND state = 'pending' GROUP BY subscriber"#,
        messages
    )
    .fetch_all(tx)
    .await?;
    pruned.undelivered.extend(pending.into_iter().map(|row| (row.subscriber, row.pending.unsigned_abs())));
    Ok(())
}
