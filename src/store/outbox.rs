//! The outbox: what is still to be delivered, and what became of each attempt.
//!
//! Per subscriber and label there is a lane, and only its head is due; settling the head brings up the next. So order
//! holds by construction, and one label never waits for another. What is sent again ([`super::replay`]) becomes the head
//! of its lane in front of what was there, which then waits, as soon as it is not under way.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{Store, StoreError, at, json, ms};
use crate::domain::delivery::{Attempt, NextStep, Settlement};
use crate::domain::subscriber::{Format, SubscriberName};

/// A delivery taken up to be attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    pub row: i64,
    pub message_id: String,
    pub label_row: Option<i64>,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub kind: String,
    pub format: Format,
    pub body: String,
    pub resource_url: Option<String>,
    /// Attempts made so far.
    pub attempts: u32,
    pub created_at: Timestamp,
}

/// One attempt and what it leads to, ready to be written.
#[derive(Clone, Debug)]
pub struct SettledAttempt {
    pub subscriber: SubscriberName,
    pub row: i64,
    pub label_row: Option<i64>,
    /// The number of the attempt, 1 …
    pub number: u32,
    pub attempt: Attempt,
    pub settlement: Settlement,
    pub settled_at: Timestamp,
}

impl SettledAttempt {
    pub(super) fn frees_a_lane(&self) -> bool {
        self.label_row.is_some() && !matches!(self.settlement.next, NextStep::Again { .. })
    }
}

/// How a subscriber fares, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriberHealth {
    pub held_until: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
}

impl Store {
    /// Up to `limit` deliveries of the subscriber that are due at `now` and whose lane has none among `busy`: first
    /// attempts before retries, then by time.
    pub async fn due_deliveries(
        &self,
        subscriber: &SubscriberName,
        now: Timestamp,
        busy: &[i64],
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let (name, now, busy) = (subscriber.as_str(), ms(now), json(busy));
        let rows = sqlx::query!(
            r#"SELECT d.delivery_key, d.label_key, d.seq, d.format, d.attempts, d.created_at,
                m.message_id, m.label_id, m.type AS kind, m.body, m.resource_url
             FROM deliveries d JOIN messages m USING (message_key)
             WHERE d.subscriber = ?1 AND d.next_attempt_at <= ?2
               AND d.delivery_key NOT IN (SELECT value FROM json_each(?3))
               AND (d.label_key IS NULL OR d.label_key NOT IN (
                    SELECT busy.label_key FROM json_each(?3) CROSS JOIN deliveries busy ON busy.delivery_key = value
                    WHERE busy.label_key IS NOT NULL))
             ORDER BY d.attempts > 0, d.next_attempt_at LIMIT ?4"#,
            name,
            now,
            busy,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        let due = rows.into_iter().filter_map(|row| {
            Some(DueDelivery {
                row: row.delivery_key,
                message_id: row.message_id,
                label_row: row.label_key,
                label_id: row.label_id,
                seq: row.seq,
                kind: row.kind,
                format: Format::parse(&row.format)?,
                body: row.body,
                resource_url: row.resource_url,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                created_at: at(row.created_at),
            })
        });
        Ok(due.collect())
    }

    /// When the subscriber's next delivery after `now` is due.
    pub async fn next_attempt(
        &self,
        subscriber: &SubscriberName,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (name, after) = (subscriber.as_str(), ms(after));
        let next = sqlx::query_scalar!(
            r#"SELECT min(next_attempt_at) AS "next: i64" FROM deliveries
               WHERE subscriber = ? AND next_attempt_at IS NOT NULL AND next_attempt_at > ?"#,
            name,
            after
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(next.map(at))
    }

    /// Writes what became of an attempt, together with whatever else has arrived.
    pub async fn settle(&self, attempt: SettledAttempt) -> Result<(), StoreError> {
        self.writer.settle(attempt).await
    }

    pub async fn subscriber_health(
        &self,
        subscriber: &SubscriberName,
    ) -> Result<SubscriberHealth, StoreError> {
        let name = subscriber.as_str();
        let row =
            sqlx::query!("SELECT held_until, last_success_at FROM subscribers WHERE subscriber = ?", name)
                .fetch_optional(&self.readers)
                .await?;
        Ok(row.map_or_else(SubscriberHealth::default, |row| SubscriberHealth {
            held_until: row.held_until.map(at),
            last_success_at: row.last_success_at.map(at),
        }))
    }
}

#[derive(Serialize)]
struct SettleWrite<'a> {
    delivery: i64,
    subscriber: &'a str,
    row: Option<i64>,
    attempt: u32,
    started_at: i64,
    duration_ms: u64,
    outcome: &'a str,
    status: Option<u16>,
    detail: Option<&'a str>,
    answer: Option<&'a str>,
    retry_after_ms: Option<u64>,
    state: &'a str,
    next_attempt_at: Option<i64>,
    delivered_at: Option<i64>,
    created_at: i64,
    shown: String,
    succeeded_at: Option<i64>,
    failed_at: Option<i64>,
    held_until: Option<i64>,
}

impl<'a> SettleWrite<'a> {
    fn of(settled: &'a SettledAttempt) -> Self {
        let attempt = &settled.attempt;
        let now = ms(settled.settled_at);
        let accepted = attempt.outcome.is_accepted();
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (state, next_attempt_at, delivered_at) = match settled.settlement.next {
            NextStep::Delivered => ("delivered", None, Some(now)),
            NextStep::Again { at } => ("pending", Some(ms(at)), None),
            NextStep::Dead => ("dead", None, None),
        };
        Self {
            delivery: settled.row,
            subscriber: settled.subscriber.as_str(),
            row: settled.label_row,
            attempt: settled.number,
            started_at: ms(attempt.started_at),
            duration_ms: millis(attempt.duration),
            outcome: attempt.outcome.as_str(),
            status: attempt.outcome.status(),
            detail: attempt.detail.as_deref(),
            answer: attempt.answer.as_deref(),
            retry_after_ms: attempt.retry_after.map(millis),
            state,
            next_attempt_at,
            delivered_at,
            created_at: now,
            shown: attempt.outcome.shown(),
            succeeded_at: accepted.then_some(now),
            failed_at: (!accepted).then_some(now),
            held_until: settled.settlement.hold_until.map(ms),
        }
    }
}

/// Writes attempts and what they lead to into an open transaction.
///
/// If we die before the commit, the receiver may have had the message and we don't know it: it is sent again under the
/// same id. At least once, never under a second id.
pub(super) async fn settle(tx: &mut SqliteConnection, settled: &[SettledAttempt]) -> Result<(), sqlx::Error> {
    let mut writes: Vec<SettleWrite<'_>> = settled.iter().map(SettleWrite::of).collect();
    writes.sort_unstable_by_key(|write| write.delivery);
    let rows = json(&writes);
    sqlx::query!(
        "INSERT INTO attempts
            (delivery_key, attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms)
         SELECT value ->> 'delivery', value ->> 'attempt', value ->> 'started_at', value ->> 'duration_ms',
                value ->> 'outcome', value ->> 'status', value ->> 'detail', value ->> 'answer',
                value ->> 'retry_after_ms'
         FROM json_each(?)",
        rows
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE deliveries SET
            state = new.v ->> 'state',
            attempts = new.v ->> 'attempt',
            next_attempt_at = new.v ->> 'next_attempt_at',
            delivered_at = new.v ->> 'delivered_at',
            last_outcome = new.v ->> 'shown'
         FROM (SELECT value AS v, value ->> 'delivery' AS delivery FROM json_each(?)) AS new
         WHERE deliveries.delivery_key = new.delivery AND deliveries.state = 'pending'",
        rows
    )
    .execute(&mut *tx)
    .await?;
    promote(tx, &rows).await?;
    sqlx::query!(
        "INSERT INTO subscribers (subscriber, held_until, last_success_at, last_failure_at, last_failure)
         SELECT value ->> 'subscriber', max(value ->> 'held_until'), max(value ->> 'succeeded_at'),
                max(value ->> 'failed_at'), max(CASE WHEN value ->> 'failed_at' IS NOT NULL THEN value ->> 'shown' END)
         FROM json_each(?) WHERE true GROUP BY 1
         ON CONFLICT (subscriber) DO UPDATE SET
            held_until = coalesce(max(held_until, excluded.held_until), held_until, excluded.held_until),
            last_success_at = coalesce(excluded.last_success_at, last_success_at),
            last_failure_at = coalesce(excluded.last_failure_at, last_failure_at),
            last_failure = coalesce(excluded.last_failure, last_failure)",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Makes the head of every lane named in `rows` (JSON objects with `subscriber`, `row`, `created_at`) due, if it is not
/// yet, and nothing else in it: one that is queued again may have come before what was the head.
///
/// A head that waited for its turn keeps the `Retry-After` of its last attempt, at most 24 h.
pub(super) async fn promote(tx: &mut SqliteConnection, rows: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE deliveries SET next_attempt_at = NULL
         FROM (SELECT DISTINCT value ->> 'subscriber' AS name, value ->> 'row' AS label FROM json_each(?)
               WHERE value ->> 'row' IS NOT NULL) AS lane
         WHERE deliveries.subscriber = lane.name AND deliveries.label_key = lane.label
           AND deliveries.state = 'pending' AND deliveries.next_attempt_at IS NOT NULL
           AND EXISTS (SELECT 1 FROM deliveries earlier
                       WHERE earlier.subscriber = lane.name AND earlier.label_key = lane.label
                         AND earlier.state = 'pending' AND earlier.seq < deliveries.seq)",
        rows
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "UPDATE deliveries SET next_attempt_at = max(lane.since, coalesce(
            (SELECT a.started_at + a.duration_ms + min(a.retry_after_ms, 86400000) FROM attempts a
             WHERE a.delivery_key = lane.head AND a.attempt = deliveries.attempts), 0))
         FROM (SELECT since, (SELECT d.delivery_key FROM deliveries d
                       WHERE d.subscriber = touched.subscriber AND d.label_key = touched.row AND d.state = 'pending'
                       ORDER BY d.seq LIMIT 1) AS head
               FROM (SELECT value ->> 'subscriber' AS subscriber, value ->> 'row' AS row,
                            max(value ->> 'created_at') AS since
                     FROM json_each(?) WHERE value ->> 'row' IS NOT NULL GROUP BY 1, 2) AS touched) AS lane
         WHERE deliveries.delivery_key = lane.head AND deliveries.next_attempt_at IS NULL",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
