//! The outbox: what is still to be delivered, and what became of each attempt.
//!
//! The table is the truth: a pending row has its due time and the reason for it, as they were decided. Which of them may
//! be attempted, the heads of lanes, is known to the courier ([`crate::domain::delivery::outbox`]), to whom new deliveries come
//! through memory ([`handover`]). What is sent again ([`super::replay`]) goes before what waits in its lane.

pub mod handover;
mod read;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

pub use handover::{Inbox, NewDelivery};
pub(super) use read::plan;

use super::bulk::Bulk;
use super::health::{self, SubscriberHealths};
use super::{Store, StoreError, at, json, ms};
use crate::domain::delivery::health::{FinishedAttempt, Health, HealthChange};
use crate::domain::delivery::outcome as delivery;
use crate::domain::delivery::outcome::{
    AfterAttempt, Attempt, AttemptDecision, DeliverySchedule, HastenedBy, RetryProgress,
};
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};

/// An attempt that ended, and what it is judged by; what it leads to is decided as it is written, by the subscriber's
/// health and the delivery's row at that moment.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    pub subscriber: Arc<Subscriber>,
    /// The delivery.
    pub key: i64,
    /// It is a ping.
    pub ping: bool,
    pub attempt: Attempt,
    /// It was the probe of a failing subscriber.
    pub probe: bool,
    /// -1 to 1.
    pub jitter: f64,
    /// All subscribers there are: who asks for it is told of a change of this one's health.
    pub audience: Arc<Vec<Subscriber>>,
    pub settled_at: Timestamp,
    /// Nobody waits for its record: it may be written with what comes next.
    pub can_wait: bool,
}

/// What an attempt led to, as it was written.
#[derive(Clone, Debug)]
pub struct Settled {
    pub next: AfterAttempt,
    pub change: Option<HealthChange>,
    /// The delivery as it goes on, with the attempts made; `None` if it does not.
    pub pending: Option<(u32, DeliverySchedule)>,
    /// The subscriber's health when all of the transaction was judged.
    pub health: Arc<Health>,
    /// Rises with each transaction.
    pub version: u64,
    /// When the delivery was made or queued again.
    pub queued_at: Option<Timestamp>,
}

impl Store {
    /// Judges an attempt by the subscriber's health, and writes what became of it, together with whatever else has
    /// arrived.
    pub async fn settle(&self, attempt: EndedAttempt) -> Result<Settled, StoreError> {
        self.writer.settle(attempt).await
    }

    /// The last transaction with settlements that is committed.
    pub fn settled_version(&self) -> u64 {
        self.handover.settled_version()
    }

    /// The inbox of the courier of this subscriber, which takes the place of the last one.
    pub fn inbox(&self, subscriber: &SubscriberName) -> Arc<Inbox> {
        self.handover.register(subscriber)
    }
}

/// A delivery's row, as far as it decides.
#[derive(Clone, Copy, Debug)]
struct Stored {
    queued_at: Timestamp,
    pending: bool,
    attempts: i64,
    progress: RetryProgress,
}

/// What is written of an attempt.
struct Write<'a> {
    key: i64,
    attempt: i64,
    ended: &'a EndedAttempt,
    to: AttemptDecision,
    was_pending: bool,
}

/// Writes attempts and what they lead to into an open transaction.
///
/// If we die before the commit, the receiver may have had the message and we don't know it: it is sent again under the
/// same id. At least once, never under a second id.
///
/// The subscribers' health is read, judged and written here, too: a restart goes on where it was, and what begins or
/// ends is told once.
pub(super) async fn settle(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
    healths: &mut SubscriberHealths,
    new: &mut Vec<NewDelivery>,
) -> Result<Vec<Settled>, sqlx::Error> {
    let mut stored = read_stored(tx, ended).await?;
    let mut judged: HashMap<&SubscriberName, (Health, Health)> = HashMap::new();
    let mut writes = Vec::with_capacity(ended.len());
    let mut settled = Vec::with_capacity(ended.len());
    let mut changes = Vec::new();
    for (index, attempt) in ended.iter().enumerate() {
        let name = &attempt.subscriber.name;
        if !judged.contains_key(name) {
            let health = healths.read(tx, name).await?;
            judged.insert(name, (health.clone(), health));
        }
        let (_, health) = judged.get_mut(name).expect("it was inserted");
        let row = stored.get_mut(&attempt.key);
        let progress = row.as_ref().map(|row| row.progress).unwrap_or_default();
        let queued_at = row.as_ref().map(|row| row.queued_at);
        let (settlement, change) = if attempt.ping {
            (delivery::decide_ping(&attempt.attempt), None)
        } else {
            if health.url_digest.is_none() {
                health.set_url(&attempt.subscriber.url_digest(), attempt.settled_at);
            }
            let episode_at = health.episode_at;
            let (settlement, change) = health.record(&judged_by(attempt, progress), attempt.settled_at);
            if let Some(change) = change {
                let episode_at = episode_at.or(health.episode_at).unwrap_or(attempt.settled_at);
                changes.push((index, change, health.clone(), episode_at));
            }
            (settlement, change)
        };
        let mut pending = None;
        // One whose row is gone was pruned: nobody was there to send it to for two weeks.
        if let Some(row) = row {
            row.attempts += 1;
            // Should be impossible: a delivery in flight twice. What was accepted stays so, and no attempt is lost.
            let was_pending = row.pending;
            writes.push(Write {
                key: attempt.key,
                attempt: row.attempts,
                ended: attempt,
                to: settlement,
                was_pending,
            });
            row.progress = settlement.progress;
            match settlement.next {
                AfterAttempt::Retry(next) if was_pending => {
                    let (progress, asked_until) = (settlement.progress, settlement.asked_until);
                    let attempts = u32::try_from(row.attempts).unwrap_or(u32::MAX);
                    pending = Some((attempts, DeliverySchedule { next, progress, asked_until }));
                }
                _ => row.pending = false,
            }
        }
        settled.push((settlement.next, change, pending, queued_at));
    }
    write_attempts(tx, &mut writes).await?;
    for (index, change, health, episode_at) in changes {
        // What ended later planned its next attempt knowing of this change.
        new.extend(health::follow(tx, &ended[index..], change, &health, episode_at).await?);
    }
    let mut after = HashMap::new();
    for (name, (before, health)) in judged {
        healths.write(tx, name, &before, &health).await?;
        after.insert(name, Arc::new(health));
    }
    let version = healths.next_version();
    let settled = ended.iter().zip(settled).map(|(attempt, (next, change, pending, queued_at))| Settled {
        next,
        change,
        pending,
        health: Arc::clone(&after[&attempt.subscriber.name]),
        version,
        queued_at,
    });
    Ok(settled.collect())
}

fn judged_by(ended: &EndedAttempt, progress: RetryProgress) -> FinishedAttempt<'_> {
    FinishedAttempt {
        delivery: ended.key,
        progress,
        attempt: &ended.attempt,
        probe: ended.probe,
        schedule: &ended.subscriber.retry,
        max_in_flight: ended.subscriber.max_in_flight,
        jitter: ended.jitter,
    }
}

async fn read_stored(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
) -> Result<HashMap<i64, Stored>, sqlx::Error> {
    let keys = json(&ended.iter().map(|attempt| attempt.key).collect::<Vec<_>>());
    let rows = sqlx::query!(
        r#"SELECT delivery_key AS "key!", state = 'pending' AS "pending!: bool", attempts AS "attempts!",
                  failures AS "failures!", failing_since, planned_at,
                  max(created_at, coalesce(queued_again_at, 0)) AS "queued_at!: i64"
           FROM deliveries WHERE delivery_key IN (SELECT value FROM json_each(?))"#,
        keys
    )
    .fetch_all(tx)
    .await?;
    let stored = rows.into_iter().map(|row| {
        let progress = RetryProgress {
            failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
            since: row.failing_since.map(at),
            planned_at: row.planned_at.map(at),
        };
        let queued_at = at(row.queued_at);
        (row.key, Stored { queued_at, pending: row.pending, attempts: row.attempts, progress })
    });
    Ok(stored.collect())
}

const INSERT_ATTEMPTS: Bulk = Bulk {
    before: "INSERT INTO attempts
        (delivery_key, attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms) ",
    columns: 9,
    after: "",
};

const UPDATE_DELIVERIES: Bulk = Bulk {
    before: "WITH new (key, attempts, state, next_attempt_at, reason, delivered_at, failures, failing_since,
                       planned_at, asked_until, last_outcome) AS (",
    columns: 11,
    after: ")
        UPDATE deliveries SET attempts = new.attempts, state = new.state, next_attempt_at = new.next_attempt_at,
            reason = new.reason, delivered_at = new.delivered_at, failures = new.failures,
            failing_since = new.failing_since, planned_at = new.planned_at, asked_until = new.asked_until,
            last_outcome = new.last_outcome
        FROM new WHERE deliveries.delivery_key = new.key",
};

/// An attempt of what was settled already: it is counted, and nothing else.
const COUNT_ATTEMPTS: Bulk = Bulk {
    before: "WITH new (key, attempts) AS (",
    columns: 2,
    after: ") UPDATE deliveries SET attempts = new.attempts FROM new WHERE deliveries.delivery_key = new.key",
};

async fn write_attempts(tx: &mut SqliteConnection, writes: &mut [Write<'_>]) -> Result<(), sqlx::Error> {
    let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // Neighbouring rows share pages.
    writes.sort_by_key(|write| (write.key, write.attempt));
    INSERT_ATTEMPTS
        .execute(tx, writes, |write, values| {
            let attempt = &write.ended.attempt;
            values
                .push(write.key)
                .push(write.attempt)
                .push(ms(attempt.started_at))
                .push(millis(attempt.duration))
                .push(attempt.outcome.as_str())
                .push(attempt.outcome.status().map(i64::from))
                .push(attempt.detail.clone())
                .push(attempt.answer.clone())
                .push(attempt.retry_after.map(millis));
        })
        .await?;
    // Of one that was in flight twice, the last that settled something counts.
    let last = |index: usize, pending: bool| {
        let follows = |next: &Write<'_>| next.key == writes[index].key && next.was_pending == pending;
        writes[index].was_pending == pending && !writes.get(index + 1).is_some_and(follows)
    };
    let only = |pending: bool| -> Vec<&Write<'_>> {
        (0..writes.len()).filter(|index| last(*index, pending)).map(|index| &writes[index]).collect()
    };
    let (pending, others) = (only(true), only(false));
    UPDATE_DELIVERIES
        .execute(tx, &pending, |write, values| {
            let (to, now) = (&write.to, ms(write.ended.settled_at));
            let plan = match to.next {
                AfterAttempt::Retry(plan) => Some(plan),
                AfterAttempt::Delivered | AfterAttempt::Dead => None,
            };
            let (state, delivered_at) = match to.next {
                AfterAttempt::Delivered => ("delivered", Some(now)),
                AfterAttempt::Retry(_) => ("pending", None),
                AfterAttempt::Dead => ("dead", None),
            };
            values
                .push(write.key)
                .push(write.attempt)
                .push(state)
                .push(plan.map(|plan| ms(plan.at)))
                .push(plan.map(|plan| plan.reason.to_json()))
                .push(delivered_at)
                .push(i64::from(to.progress.failures))
                .push(to.progress.since.map(ms))
                .push(to.progress.planned_at.filter(|_| plan.is_some()).map(ms))
                .push(to.asked_until.map(ms))
                .push(write.ended.attempt.outcome.shown());
        })
        .await?;
    COUNT_ATTEMPTS
        .execute(tx, &others, |write, values| {
            values.push(write.key).push(write.attempt);
        })
        .await?;
    Ok(())
}

const UPDATE_SCHEDULES: Bulk = Bulk {
    before: "WITH new (key, next_attempt_at, reason, failures, failing_since, planned_at, asked_until) AS (",
    columns: 7,
    after: ")
        UPDATE deliveries SET next_attempt_at = new.next_attempt_at, reason = new.reason, failures = new.failures,
            failing_since = new.failing_since, planned_at = new.planned_at, asked_until = new.asked_until
        FROM new WHERE deliveries.delivery_key = new.key AND deliveries.state = 'pending'",
};

/// Has `change` decide anew when those of a subscriber's deliveries are attempted that wait for something: a time, the
/// receiver's word, the retry schedule. It says whether it changed anything.
pub(super) async fn reschedule(
    tx: &mut SqliteConnection,
    subscriber: &SubscriberName,
    now: Timestamp,
    change: impl Fn(i64, &mut DeliverySchedule) -> bool,
) -> Result<(), sqlx::Error> {
    let (name, now) = (subscriber.as_str(), ms(now));
    let waiting = sqlx::query!(
        r#"SELECT delivery_key, next_attempt_at AS "next_attempt_at!", reason AS "reason!", failures, failing_since,
                  planned_at, asked_until
           FROM deliveries
           WHERE subscriber = ? AND state = 'pending'
             AND (next_attempt_at > ? OR failures > 0 OR asked_until IS NOT NULL)"#,
        name,
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut changed = Vec::new();
    for row in waiting {
        let mut schedule = DeliverySchedule {
            next: plan(row.next_attempt_at, &row.reason),
            progress: RetryProgress {
                failures: u32::try_from(row.failures).unwrap_or(u32::MAX),
                since: row.failing_since.map(at),
                planned_at: row.planned_at.map(at),
            },
            asked_until: row.asked_until.map(at),
        };
        if change(row.delivery_key, &mut schedule) {
            changed.push((row.delivery_key, schedule));
        }
    }
    UPDATE_SCHEDULES
        .execute(tx, &changed, |(key, schedule), values| {
            values
                .push(*key)
                .push(ms(schedule.next.at))
                .push(schedule.next.reason.to_json())
                .push(i64::from(schedule.progress.failures))
                .push(schedule.progress.since.map(ms))
                .push(schedule.progress.planned_at.map(ms))
                .push(schedule.asked_until.map(ms));
        })
        .await?;
    Ok(())
}

/// What makes waiting deliveries due when a subscriber's health changes.
pub(super) fn hastened_by(change: HealthChange) -> HastenedBy {
    match change {
        HealthChange::Fell | HealthChange::Paused => HastenedBy::Fall,
        HealthChange::Recovered => HastenedBy::Recovery,
    }
}
