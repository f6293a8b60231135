//! What goes when it was kept long enough. What is still owed never does, unless to nobody who is there.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{Store, StoreError, json, ms};
use crate::domain::messages::subscriber::SubscriberName;

/// How long things are kept.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Attempts that began before this go, once their delivery is settled.
    pub attempts_since: Timestamp,
    /// What is finished since before this goes.
    pub finished_since: Timestamp,
    /// What was not delivered stays if it was queued after this, or if its subscriber was there after this.
    pub undelivered_since: Timestamp,
}

/// What a bite took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    pub attempts: u64,
    pub labels: u64,
    /// Messages of no label: of the system, and pings.
    pub messages: u64,
    /// What was still to be delivered, by subscriber: to those that are gone.
    pub undelivered: Vec<(String, u64)>,
}

impl Pruned {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Takes one bite: up to `limit` of each.
    pub async fn prune(&self, keep: Keep, limit: u32) -> Result<Pruned, StoreError> {
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

    /// Learns which subscribers are served: of the others it is noted since when they are not.
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
                    // From name to name: what is pending may be much.
                    sqlx::query!(
                        "WITH RECURSIVE owed (name) AS (
                            SELECT min(subscriber) FROM deliveries WHERE state = 'pending'
                            UNION ALL
                            SELECT (SELECT min(subscriber) FROM deliveries WHERE state = 'pending' AND subscriber > name)
                            FROM owed WHERE name IS NOT NULL)
                         INSERT INTO subscribers (subscriber, absent_since)
                         SELECT name, ?1 FROM owed
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

/// An attempt is no older than its delivery. So only those of deliveries are looked at whose messages were made before
/// the hour of `before`: few of these have any left.
async fn prune_attempts(tx: &mut SqliteConnection, before: i64, limit: u32) -> Result<u64, sqlx::Error> {
    let hour = before.div_euclid(3_600_000);
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

/// Labels that are done, with all that hangs on them, unless something of theirs is still owed or the configuration
/// still asks for them.
async fn prune_labels(
    tx: &mut SqliteConnection,
    keep: Keep,
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
    sqlx::query!("DELETE FROM labels WHERE label_key IN (SELECT value FROM json_each(?))", rows)
        .execute(&mut *tx)
        .await?;
    pruned.labels += labels.len() as u64;
    Ok(())
}

/// Messages of no label, once nothing of them is owed and the last of them was settled long enough ago.
async fn prune_messages(
    tx: &mut SqliteConnection,
    keep: Keep,
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
    sqlx::query!("DELETE FROM messages WHERE message_key IN (SELECT value FROM json_each(?))", rows)
        .execute(&mut *tx)
        .await?;
    pruned.messages += messages.len() as u64;
    Ok(())
}

/// Counts what goes without having been delivered: never silently.
async fn count_undelivered(
    tx: &mut SqliteConnection,
    messages: &str,
    pruned: &mut Pruned,
) -> Result<(), sqlx::Error> {
    let owed = sqlx::query!(
        r#"SELECT subscriber, count(*) AS "owed!: i64" FROM deliveries
           WHERE message_key IN (SELECT value FROM json_each(?)) AND state = 'pending' GROUP BY subscriber"#,
        messages
    )
    .fetch_all(tx)
    .await?;
    pruned.undelivered.extend(owed.into_iter().map(|row| (row.subscriber, row.owed.unsigned_abs())));
    Ok(())
}
