//! Attempts of many deliveries, for the pages of labels and subscribers.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::count;
use super::deliveries::AttemptView;
use crate::store::{Store, StoreError, at};

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct Failure {
    pub message_id: String,
    pub label_id: Option<String>,
    pub r#type: String,
    pub attempt: AttemptView,
}

/// Number of the newest deliveries that are searched for failures, besides waiting ones.
const NEWEST: i64 = 2_000;
/// Number of waiting, attempted deliveries that are searched for failures.
const WAITING: i64 = 200;

impl Store {
    /// Returns the last `limit` attempts for messages of a label from `from_seq` on, by the key of their delivery.
    pub async fn attempts_of_label(
        &self,
        row: i64,
        from_seq: i64,
        limit: u32,
    ) -> Result<HashMap<i64, Vec<AttemptView>>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT a.delivery_key AS "delivery_key!", a.attempt AS "attempt!", a.started_at, a.duration_ms, a.outcome,
                      a.status, a.detail, a.answer, a.retry_after_ms
               FROM messages m JOIN deliveries d USING (message_key) JOIN attempts a USING (delivery_key)
               WHERE m.label_key = ? AND m.seq >= ? ORDER BY m.seq DESC, a.delivery_key, a.attempt DESC LIMIT ?"#,
            row,
            from_seq,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        let mut attempts: HashMap<i64, Vec<AttemptView>> = HashMap::new();
        for row in rows {
            attempts.entry(row.delivery_key).or_default().push(AttemptView {
                attempt: count(row.attempt),
                started_at: at(row.started_at),
                duration_ms: count(row.duration_ms),
                outcome: row.outcome,
                status: row.status,
                detail: row.detail,
                retry_after: row.retry_after_ms.map(|ms| Duration::from_millis(count(ms))),
                answer: row.answer,
            });
        }
        attempts.values_mut().for_each(|of| of.reverse());
        Ok(attempts)
    }

    /// Returns the last failures of a subscriber, newest first, among waiting deliveries and the newest deliveries.
    pub async fn recent_failures(&self, subscriber: &str, limit: u32) -> Result<Vec<Failure>, StoreError> {
        let rows = sqlx::query!(
            r#"WITH looked AS (
                   SELECT * FROM (SELECT delivery_key FROM deliveries
                                  WHERE subscriber = ?1 AND state = 'pending' AND attempts > 0 LIMIT ?3)
                   UNION
                   SELECT delivery_key FROM deliveries
                   WHERE delivery_key > (SELECT max(delivery_key) FROM deliveries) - ?4 AND subscriber = ?1
               )
               SELECT m.message_id, m.label_id, m.type AS kind, a.attempt AS "attempt!", a.started_at, a.duration_ms, a.outcome,
                      a.status, a.detail, a.answer, a.retry_after_ms
               FROM looked JOIN attempts a USING (delivery_key) JOIN deliveries d USING (delivery_key)
                    JOIN messages m USING (message_key)
               WHERE a.outcome <> 'accepted' ORDER BY a.started_at DESC LIMIT ?2"#,
            subscriber,
            limit,
            WAITING,
            NEWEST
        )
        .fetch_all(&self.readers)
        .await?;
        let failures = rows.into_iter().map(|row| Failure {
            message_id: row.message_id,
            label_id: row.label_id,
            r#type: row.kind,
            attempt: AttemptView {
                attempt: count(row.attempt),
                started_at: at(row.started_at),
                duration_ms: count(row.duration_ms),
                outcome: row.outcome,
                status: row.status,
                detail: row.detail,
                retry_after: row.retry_after_ms.map(|ms| Duration::from_millis(count(ms))),
                answer: row.answer,
            },
        });
        Ok(failures.collect())
    }

    /// Returns the first `limit` waiting deliveries of a subscriber, oldest lane first, by key.
    pub async fn first_waiting(&self, subscriber: &str, limit: u32) -> Result<Vec<Waiting>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT m.message_id, m.label_id, m.type AS kind, d.attempts, d.created_at,
                      d.next_attempt_at AS "next_attempt_at!", d.last_outcome
               FROM (SELECT delivery_key FROM deliveries WHERE subscriber = ?1 AND state = 'pending'
                     ORDER BY lane, place LIMIT ?2)
                    JOIN deliveries d USING (delivery_key) JOIN messages m USING (message_key)
               ORDER BY d.delivery_key"#,
            subscriber,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        let waiting = rows.into_iter().map(|row| Waiting {
            message_id: row.message_id,
            label_id: row.label_id,
            r#type: row.kind,
            attempts: count(row.attempts),
            created_at: at(row.created_at),
            next_attempt_at: at(row.next_attempt_at),
            last_outcome: row.last_outcome,
        });
        Ok(waiting.collect())
    }
}

/// A waiting delivery.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub message_id: String,
    pub label_id: Option<String>,
    pub r#type: String,
    pub attempts: u64,
    pub created_at: Timestamp,
    pub next_attempt_at: Timestamp,
    pub last_outcome: Option<String>,
}
