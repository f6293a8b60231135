//! The outbox: what is still to be delivered, and what became of each attempt.
//!
//! Per subscriber and label there is a lane, and only its head is due; settling the head brings up the next. So order
//! holds by construction, and one label never waits for another. What is sent again ([`super::replay`]) becomes the head
//! of its lane in front of what was there, which then waits, as soon as it is not under way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{Store, StoreError, at, health, json, ms};
use crate::domain::breaker::{Ended, Health, HealthChange, State};
use crate::domain::delivery::{Attempt, NextStep, Settlement};
use crate::domain::subscriber::{Format, Subscriber, SubscriberName};

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

/// An attempt that ended, and what it is judged by; what it leads to is decided as it is written, by how the subscriber
/// fares at that moment.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    pub subscriber: Arc<Subscriber>,
    pub row: i64,
    pub label_row: Option<i64>,
    /// The number of the attempt, 1 …
    pub number: u32,
    pub attempt: Attempt,
    /// It was the probe of a failing subscriber.
    pub probe: bool,
    pub created_at: Timestamp,
    /// -1 to 1.
    pub jitter: f64,
    /// All subscribers there are: who asks for it is told how this one fares.
    pub audience: Arc<Vec<Subscriber>>,
    pub settled_at: Timestamp,
}

/// What an attempt led to, as it was written.
#[derive(Clone, Debug)]
pub struct Settled {
    pub settlement: Settlement,
    pub change: Option<HealthChange>,
    /// How the subscriber fares from here, and when it is probed if it is failing.
    pub state: State,
    pub probe_at: Option<Timestamp>,
    in_a_lane: bool,
}

impl EndedAttempt {
    fn judged(&self) -> Ended<'_> {
        Ended {
            delivery: self.row,
            number: self.number,
            attempt: &self.attempt,
            probe: self.probe,
            created_at: self.created_at,
            schedule: &self.subscriber.retry,
            max_in_flight: self.subscriber.max_in_flight,
            jitter: self.jitter,
        }
    }
}

impl Settled {
    pub(super) fn feeds_outbox(&self) -> bool {
        let frees_a_lane = self.in_a_lane && !matches!(self.settlement.next, NextStep::Again { .. });
        frees_a_lane || self.change.is_some()
    }
}

/// Which of the due deliveries come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// First attempts before retries, then by time.
    FreshFirst,
    /// By time alone: what was just tried lets all others be tried before it.
    LongestDue,
}

impl Store {
    /// Up to `limit` deliveries of the subscriber that are due at `now` and whose lane has none among `busy`, in turn.
    pub async fn due_deliveries(
        &self,
        subscriber: &SubscriberName,
        now: Timestamp,
        busy: &[i64],
        turn: Turn,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let (name, now, busy) = (subscriber.as_str(), ms(now), json(busy));
        let rows = match turn {
            Turn::FreshFirst => {
                sqlx::query_as!(
                    DueRow,
                    r#"SELECT d.delivery_key, d.label_key, d.seq, d.format, d.attempts, d.created_at,
                        m.message_id, m.label_id, m.type AS kind, m.body, m.resource_url
                     FROM deliveries d JOIN messages m USING (message_key)
                     WHERE d.subscriber = ?1 AND (d.attempts > 0) IN (0, 1) AND d.next_attempt_at <= ?2
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
                .await?
            }
            Turn::LongestDue => {
                sqlx::query_as!(
                    DueRow,
                    r#"SELECT d.delivery_key, d.label_key, d.seq, d.format, d.attempts, d.created_at,
                        m.message_id, m.label_id, m.type AS kind, m.body, m.resource_url
                     FROM deliveries d JOIN messages m USING (message_key)
                     WHERE d.subscriber = ?1 AND (d.attempts > 0) IN (0, 1) AND d.next_attempt_at <= ?2
                       AND d.delivery_key NOT IN (SELECT value FROM json_each(?3))
                       AND (d.label_key IS NULL OR d.label_key NOT IN (
                            SELECT busy.label_key FROM json_each(?3) CROSS JOIN deliveries busy ON busy.delivery_key = value
                            WHERE busy.label_key IS NOT NULL))
                     ORDER BY d.next_attempt_at, d.delivery_key LIMIT ?4"#,
                    name,
                    now,
                    busy,
                    limit
                )
                .fetch_all(&self.readers)
                .await?
            }
        };
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

    /// When the subscriber's next delivery after `after` is due, if that is before `until`.
    pub async fn next_attempt(
        &self,
        subscriber: &SubscriberName,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (name, after, until) = (subscriber.as_str(), ms(after), ms(until));
        // Both kinds are named, or the index would be of no use for the time.
        let next = sqlx::query_scalar!(
            r#"SELECT min(next_attempt_at) AS "next: i64" FROM deliveries
               WHERE subscriber = ? AND (attempts > 0) IN (0, 1) AND next_attempt_at > ? AND next_attempt_at <= ?"#,
            name,
            after,
            until
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(next.map(at))
    }

    /// Judges an attempt by how the subscriber fares, and writes what became of it, together with whatever else has
    /// arrived.
    pub async fn settle(&self, attempt: EndedAttempt) -> Result<Settled, StoreError> {
        self.writer.settle(attempt).await
    }
}

struct DueRow {
    delivery_key: i64,
    label_key: Option<i64>,
    seq: Option<i64>,
    format: String,
    attempts: i64,
    created_at: i64,
    message_id: String,
    label_id: Option<String>,
    kind: String,
    body: String,
    resource_url: Option<String>,
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
}

impl<'a> SettleWrite<'a> {
    fn of(ended: &'a EndedAttempt, next: NextStep) -> Self {
        let attempt = &ended.attempt;
        let now = ms(ended.settled_at);
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (state, next_attempt_at, delivered_at) = match next {
            NextStep::Delivered => ("delivered", None, Some(now)),
            NextStep::Again { at } => ("pending", Some(ms(at)), None),
            NextStep::Dead => ("dead", None, None),
        };
        Self {
            delivery: ended.row,
            subscriber: ended.subscriber.name.as_str(),
            row: ended.label_row,
            attempt: ended.number,
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
        }
    }
}

/// Writes attempts and what they lead to into an open transaction.
///
/// If we die before the commit, the receiver may have had the message and we don't know it: it is sent again under the
/// same id. At least once, never under a second id.
///
/// How the subscribers fare is read, judged and written here, too: a restart goes on where it was, and what begins or
/// ends is told once.
pub(super) async fn settle(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
) -> Result<Vec<Settled>, sqlx::Error> {
    let mut fares: HashMap<&SubscriberName, Health> = HashMap::new();
    let mut settled = Vec::with_capacity(ended.len());
    let mut changes = Vec::new();
    for attempt in ended {
        let name = &attempt.subscriber.name;
        let health = match fares.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(health::read(tx, name).await?.unwrap_or_default()),
        };
        health.meet(&attempt.subscriber.url_digest(), attempt.settled_at);
        let episode_at = health.episode_at;
        let (settlement, change) = health.settle(&attempt.judged(), attempt.settled_at);
        if let Some(change) = change {
            let episode_at = episode_at.or(health.episode_at).unwrap_or(attempt.settled_at);
            changes.push((attempt, change, health.clone(), episode_at));
        }
        settled.push(Settled {
            settlement,
            change,
            state: health.state,
            probe_at: health.probe_at,
            in_a_lane: attempt.label_row.is_some(),
        });
    }
    write_attempts(tx, ended, &settled).await?;
    for (attempt, change, health, episode_at) in changes {
        let hastened = health::follow(tx, attempt, change, &health, episode_at).await?;
        if let Some(health) = fares.get_mut(&attempt.subscriber.name) {
            health.spare(&hastened);
        }
    }
    for (name, health) in fares {
        health::write(tx, name, &health).await?;
    }
    Ok(settled)
}

async fn write_attempts(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
    settled: &[Settled],
) -> Result<(), sqlx::Error> {
    let mut writes: Vec<SettleWrite<'_>> =
        ended.iter().zip(settled).map(|(ended, to)| SettleWrite::of(ended, to.settlement.next)).collect();
    writes.sort_unstable_by_key(|write| write.delivery);
    let rows = json(&writes);
    sqlx::query!(
        "INSERT INTO attempts
            (delivery_key, attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms)
         SELECT value ->> 'delivery', value ->> 'attempt', value ->> 'started_at', value ->> 'duration_ms',
                value ->> 'outcome', value ->> 'status', value ->> 'detail', value ->> 'answer',
                value ->> 'retry_after_ms'
         FROM json_each(?) WHERE true
         ON CONFLICT (delivery_key, attempt) DO NOTHING",
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
    promote(tx, &rows).await
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
