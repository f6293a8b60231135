//! Attempts of many deliveries, for the pages of labels and subscribers.

use std::collections::HashMap;
use std::time::Duration;

use super::count;
use super::deliveries::{AttemptView, attempt_view};
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
pub const NEWEST: i64 = 2_000;
/// Number of waiting, attempted deliveries that are searched for failures.
pub const WAITING: i64 = 200;

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
                      a.status, a.detail, a.answer, a.retry_after_ms, a.retry_after_until, a.retry_at
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
            attempts.entry(row.delivery_key).or_default().push(attempt_view!(row));
        }
        attempts.values_mut().for_each(|of| of.reverse());
        Ok(attempts)
    }

    /// Returns the last failures of a subscriber, newest first, among waiting deliveries and the newest deliveries.
    pub async fn recent_failures(&self, subscriber: &str, limit: u32) -> Result<Vec<Failure>, StoreError> {
        let rows = sqlx::query!(
            r#"WITH searched AS (
                   SELECT * FROM (SELECT delivery_key FROM deliveries
                                  WHERE subscriber = ?1 AND state = 'pending' AND attempts > 0 LIMIT ?3)
                   UNION
                   SELECT delivery_key FROM deliveries
                   WHERE delivery_key > (SELECT max(delivery_key) FROM deliveries) - ?4 AND subscriber = ?1
               )
               SELECT m.message_id, m.label_id, m.type AS kind, a.attempt AS "attempt!", a.started_at, a.duration_ms, a.outcome,
                      a.status, a.detail, a.answer, a.retry_after_ms, a.retry_after_until, a.retry_at
               FROM searched JOIN attempts a USING (delivery_key) JOIN deliveries d USING (delivery_key)
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
            attempt: attempt_view!(row),
        });
        Ok(failures.collect())
    }
}
