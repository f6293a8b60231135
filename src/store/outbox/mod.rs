//! The outbox: what is still to be delivered, and what became of each attempt.
//!
//! Per subscriber and label there is a lane, and only its head is due; settling the head brings up the next. So order
//! holds by construction, and one label never waits for another. What the system says of one account or subscriber has a
//! lane, too; a ping has none. What is sent again ([`super::replay`]) becomes the head of its lane in front of what was
//! there, which then waits, as soon as it is not under way.

mod due;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

pub use due::{DueDelivery, Kind};

use super::{Store, StoreError, health, json, ms};
use crate::domain::breaker::{Ended, Health, HealthChange, State};
use crate::domain::delivery::{Attempt, Course, NextStep, Settlement};
use crate::domain::subscriber::{Subscriber, SubscriberName};

/// An attempt that ended, and what it is judged by; what it leads to is decided as it is written, by how the subscriber
/// fares at that moment.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    pub subscriber: Arc<Subscriber>,
    pub row: i64,
    pub lane: Option<i64>,
    /// The delivery's, before this attempt.
    pub course: Course,
    pub attempt: Attempt,
    /// It was the probe of a failing subscriber.
    pub probe: bool,
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
}

impl EndedAttempt {
    fn judged(&self) -> Ended<'_> {
        Ended {
            delivery: self.row,
            course: self.course,
            attempt: &self.attempt,
            probe: self.probe,
            schedule: &self.subscriber.retry,
            max_in_flight: self.subscriber.max_in_flight,
            jitter: self.jitter,
        }
    }
}

impl Settled {
    /// Whether other couriers may have something to do: the attempt's own sees its end.
    pub(super) fn feeds_outbox(&self) -> bool {
        self.change.is_some()
    }

    /// One success of many: nothing but the delivery is otherwise than before.
    pub fn is_as_ever(&self) -> bool {
        self.settlement.next == NextStep::Delivered && self.change.is_none() && self.state == State::Ok
    }
}

impl Store {
    /// Judges an attempt by how the subscriber fares, and writes what became of it, together with whatever else has
    /// arrived.
    pub async fn settle(&self, attempt: EndedAttempt) -> Result<Settled, StoreError> {
        self.writer.settle(attempt).await
    }
}

#[derive(Serialize)]
struct SettleWrite<'a> {
    delivery: i64,
    subscriber: &'a str,
    lane: Option<i64>,
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
    tried: u32,
    tried_since: Option<i64>,
    planned_at: Option<i64>,
    asked_until: Option<i64>,
    /// What comes up in the lane is due from then on.
    since: i64,
    shown: String,
}

impl<'a> SettleWrite<'a> {
    fn of(ended: &'a EndedAttempt, to: &Settlement) -> Self {
        let attempt = &ended.attempt;
        let now = ms(ended.settled_at);
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (state, next_attempt_at, delivered_at) = match to.next {
            NextStep::Delivered => ("delivered", None, Some(now)),
            NextStep::Again { at } => ("pending", Some(ms(at)), None),
            NextStep::Dead => ("dead", None, None),
        };
        Self {
            delivery: ended.row,
            subscriber: ended.subscriber.name.as_str(),
            lane: ended.lane,
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
            tried: to.course.failures,
            tried_since: to.course.since.map(ms),
            planned_at: to.course.planned_at.map(ms),
            asked_until: to.asked_until.map(ms),
            since: now,
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
    for (index, attempt) in ended.iter().enumerate() {
        let name = &attempt.subscriber.name;
        let health = match fares.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(health::read(tx, name).await?.unwrap_or_default()),
        };
        if health.url_digest.is_none() {
            health.meet(&attempt.subscriber.url_digest(), attempt.settled_at);
        }
        let episode_at = health.episode_at;
        let (settlement, change) = health.settle(&attempt.judged(), attempt.settled_at);
        if let Some(change) = change {
            let episode_at = episode_at.or(health.episode_at).unwrap_or(attempt.settled_at);
            changes.push((index, change, health.clone(), episode_at));
        }
        settled.push(Settled { settlement, change, state: health.state, probe_at: health.probe_at });
    }
    write_attempts(tx, ended, &settled).await?;
    for (index, change, health, episode_at) in changes {
        // What ended later planned its next attempt knowing of this change.
        health::follow(tx, &ended[index..], change, &health, episode_at).await?;
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
        ended.iter().zip(settled).map(|(ended, to)| SettleWrite::of(ended, &to.settlement)).collect();
    writes.sort_unstable_by_key(|write| write.delivery);
    let rows = json(&writes);
    sqlx::query!(
        "INSERT INTO attempts
            (delivery_key, attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms)
         SELECT d.delivery_key, d.attempts + 1, value ->> 'started_at', value ->> 'duration_ms',
                value ->> 'outcome', value ->> 'status', value ->> 'detail', value ->> 'answer',
                value ->> 'retry_after_ms'
         FROM json_each(?) CROSS JOIN deliveries d ON d.delivery_key = value ->> 'delivery'",
        rows
    )
    .execute(&mut *tx)
    .await?;
    // One that was sent again meanwhile may stand before it: then it waits for its turn. One that is settled already was
    // under way twice, which nobody knows a way to: what was accepted stays so.
    sqlx::query!(
        "UPDATE deliveries SET
            state = CASE state WHEN 'pending' THEN new.v ->> 'state' ELSE state END,
            attempts = attempts + 1,
            next_attempt_at = CASE WHEN state <> 'pending' OR EXISTS (
                SELECT 1 FROM deliveries earlier
                WHERE earlier.subscriber = deliveries.subscriber AND earlier.lane = deliveries.lane
                  AND earlier.state = 'pending' AND earlier.place < deliveries.place)
                THEN NULL ELSE new.v ->> 'next_attempt_at' END,
            delivered_at = CASE state WHEN 'pending' THEN new.v ->> 'delivered_at' ELSE delivered_at END,
            tried = new.v ->> 'tried',
            tried_since = new.v ->> 'tried_since',
            planned_at = CASE state WHEN 'pending' THEN new.v ->> 'planned_at' END,
            asked_until = new.v ->> 'asked_until',
            last_outcome = new.v ->> 'shown'
         FROM (SELECT value AS v, value ->> 'delivery' AS delivery FROM json_each(?)) AS new
         WHERE deliveries.delivery_key = new.delivery",
        rows
    )
    .execute(&mut *tx)
    .await?;
    promote(tx, &rows).await
}

/// Makes the head of every lane named in `rows` (JSON objects with `subscriber`, `lane`, `since`) due since then, if it
/// is not yet. One that is tried again is when that was planned, and one that was asked to be left alone when it may be,
/// though it waited for its turn meanwhile.
pub(super) async fn promote(tx: &mut SqliteConnection, rows: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE deliveries SET next_attempt_at = max(lane.since, coalesce(asked_until, 0), coalesce(planned_at, 0))
         FROM (SELECT since, (SELECT d.delivery_key FROM deliveries d
                       WHERE d.subscriber = touched.subscriber AND d.lane = touched.lane AND d.state = 'pending'
                       ORDER BY d.place LIMIT 1) AS head
               FROM (SELECT value ->> 'subscriber' AS subscriber, value ->> 'lane' AS lane,
                            max(value ->> 'since') AS since
                     FROM json_each(?) WHERE value ->> 'lane' IS NOT NULL GROUP BY 1, 2) AS touched) AS lane
         WHERE deliveries.delivery_key = lane.head AND deliveries.next_attempt_at IS NULL",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Has whatever is due in the lanes named in `rows`, as in [`promote`], wait for those before it.
pub(super) async fn step_back(tx: &mut SqliteConnection, rows: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE deliveries SET next_attempt_at = NULL
         FROM (SELECT DISTINCT value ->> 'subscriber' AS name, value ->> 'lane' AS lane FROM json_each(?)
               WHERE value ->> 'lane' IS NOT NULL) AS touched
         WHERE deliveries.subscriber = touched.name AND deliveries.lane = touched.lane
           AND deliveries.state = 'pending' AND deliveries.next_attempt_at IS NOT NULL
           AND EXISTS (SELECT 1 FROM deliveries earlier
                       WHERE earlier.subscriber = touched.name AND earlier.lane = touched.lane
                         AND earlier.state = 'pending' AND earlier.place < deliveries.place)",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
