//! The outbox: pending deliveries and the results of attempts.
//!
//! The table is authoritative: a pending row has its due time and the reason for it. The courier knows in memory which
//! rows are heads of lanes and may be attempted ([`crate::domain::delivery::outbox`]); new deliveries reach it through
//! [`handover`]. A repeated message ([`super::replay`]) is sent before later messages of its lane.

pub mod handover;
mod read;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

pub use super::records::{EndedAttempt, NewDelivery};
pub use handover::Inbox;
pub use read::PER_LANE;

use super::bulk::{Bulk, insert};
use super::health::{self, SubscriberHealths};
use super::reschedule::progress;
use super::{Store, StoreError, at, from_json, json, ms, to_u32};
use crate::domain::delivery::health::{AttemptFacts, Health, HealthChange};
use crate::domain::delivery::outcome::{
    self, AfterAttempt, AttemptDecision, DeliverySchedule, RetryProgress,
};
use crate::domain::messages::subscriber::SubscriberName;

/// Result of an attempt, as written.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    pub next: AfterAttempt,
    pub change: Option<HealthChange>,
    /// The delivery's next schedule and its number of attempts; `None` if it is delivered or dead.
    pub pending: Option<(u32, DeliverySchedule)>,
    /// The subscriber's health at the end of the transaction.
    pub health: Arc<Health>,
    /// Increases with each transaction.
    pub transaction: u64,
    /// When the delivery was created or queued again.
    pub queued_at: Option<Timestamp>,
}

impl Store {
    /// Decides the result of an attempt from the subscriber's health, and writes it together with other waiting jobs.
    pub async fn record_attempt(&self, attempt: EndedAttempt) -> Result<AttemptResult, StoreError> {
        self.writer.attempt(attempt).await
    }

    /// Returns the number of the last committed transaction with ended attempts.
    pub fn last_transaction(&self) -> u64 {
        self.handover.last_transaction()
    }

    /// Returns a new inbox for the courier of this subscriber; it replaces the previous one.
    pub fn inbox(&self, subscriber: &SubscriberName) -> Arc<Inbox> {
        self.handover.register(subscriber)
    }
}

/// The columns of a delivery that decide the result of an attempt.
#[derive(Clone, Copy, Debug)]
struct StoredDelivery {
    queued_at: Timestamp,
    pending: bool,
    attempts: i64,
    progress: RetryProgress,
}

/// The columns that an attempt writes.
struct AttemptWrite<'a> {
    key: i64,
    attempt: i64,
    ended: &'a EndedAttempt,
    to: AttemptDecision,
    was_pending: bool,
}

/// Writes attempts and their results into an open transaction.
///
/// Crash point: before the commit, the receiver may have the message without a record of it. It is sent again under the
/// same id. So a message is delivered at least once and never under a second id.
///
/// The subscribers' health is read, decided and written in the same transaction, so a restart continues with it and
/// each episode is announced once.
pub(super) async fn record_attempts(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
    healths: &mut SubscriberHealths,
    new: &mut Vec<NewDelivery>,
) -> Result<Vec<AttemptResult>, sqlx::Error> {
    let mut stored = read_stored(tx, ended).await?;
    let mut judged: HashMap<&SubscriberName, (Health, Health)> = HashMap::new();
    let mut writes = Vec::with_capacity(ended.len());
    let mut results = Vec::with_capacity(ended.len());
    let mut changes = Vec::new();
    for (index, attempt) in ended.iter().enumerate() {
        let name = &attempt.subscriber.name;
        if !judged.contains_key(name) {
            let health = healths.read(tx, name, attempt.ended_at).await?;
            judged.insert(name, (health.clone(), health));
        }
        let (_, health) = judged.get_mut(name).expect("it was inserted");
        let row = stored.get_mut(&attempt.key);
        let progress = row.as_ref().map(|row| row.progress).unwrap_or_default();
        let queued_at = row.as_ref().map(|row| row.queued_at);
        let (decision, change) = if attempt.ping {
            (outcome::decide_ping(&attempt.attempt), None)
        } else {
            if health.url_digest.is_none() {
                health.set_url(&attempt.subscriber.url_digest(), attempt.ended_at);
            }
            let episode_at = health.episode_at;
            let (decision, change) = health.record(&attempt_facts(attempt, progress), attempt.ended_at);
            if let Some(change) = change {
                let episode_at = episode_at.or(health.episode_at).unwrap_or(attempt.ended_at);
                changes.push((index, change, health.clone(), episode_at));
            }
            (decision, change)
        };
        let mut pending = None;
        // Without a row, it was pruned during the attempt, because its subscriber was absent for two weeks.
        if let Some(row) = row {
            row.attempts += 1;
            // Should be impossible: two attempts in flight for one delivery. A delivered message stays delivered, and
            // each attempt is recorded.
            let was_pending = row.pending;
            writes.push(AttemptWrite {
                key: attempt.key,
                attempt: row.attempts,
                ended: attempt,
                to: decision,
                was_pending,
            });
            row.progress = decision.progress;
            match decision.next {
                AfterAttempt::Retry(next) if was_pending => {
                    let (progress, retry_after_until) = (decision.progress, decision.retry_after_until);
                    let attempts = to_u32(row.attempts);
                    pending = Some((attempts, DeliverySchedule { next, progress, retry_after_until }));
                }
                _ => row.pending = false,
            }
        }
        results.push((decision.next, change, pending, queued_at));
    }
    write_attempts(tx, &mut writes).await?;
    for (index, change, health, episode_at) in changes {
        // Attempts that ended later already planned their next attempt with this change.
        new.extend(health::write_change(tx, &ended[index..], change, &health, episode_at).await?);
    }
    let mut after = HashMap::new();
    for (name, (before, health)) in judged {
        healths.write(tx, name, &before, &health).await?;
        after.insert(name, Arc::new(health));
    }
    let transaction = healths.next_transaction();
    let results =
        ended.iter().zip(results).map(|(attempt, (next, change, pending, queued_at))| AttemptResult {
            next,
            change,
            pending,
            health: Arc::clone(&after[&attempt.subscriber.name]),
            transaction,
            queued_at,
        });
    Ok(results.collect())
}

fn attempt_facts(ended: &EndedAttempt, progress: RetryProgress) -> AttemptFacts<'_> {
    AttemptFacts {
        delivery: ended.key,
        progress,
        attempt: &ended.attempt,
        probe: ended.probe,
        schedule: &ended.subscriber.retry,
        max_in_flight: ended.subscriber.max_in_flight,
        jitter: ended.jitter,
    }
}

/// Reads the deliveries as one text, because sqlx spends more time per row than SQLite.
async fn read_stored(
    tx: &mut SqliteConnection,
    ended: &[EndedAttempt],
) -> Result<HashMap<i64, StoredDelivery>, sqlx::Error> {
    let keys = json(&ended.iter().map(|attempt| attempt.key).collect::<Vec<_>>());
    let rows = sqlx::query_scalar!(
        r#"SELECT json_group_array(json_array(
                      delivery_key, max(created_at, coalesce(queued_again_at, 0)), state = 'pending', attempts,
                      failures, failing_since, planned_at)) AS "rows!: String"
           FROM deliveries WHERE delivery_key IN (SELECT value FROM json_each(?))"#,
        keys
    )
    .fetch_one(tx)
    .await?;
    type Columns = (i64, i64, u8, i64, i64, Option<i64>, Option<i64>);
    let rows: Vec<Columns> = from_json(&rows)?;
    let stored = rows.into_iter().map(|(key, queued_at, pending, attempts, failures, since, planned_at)| {
        let progress = progress(failures, since, planned_at);
        (key, StoredDelivery { queued_at: at(queued_at), pending: pending == 1, attempts, progress })
    });
    Ok(stored.collect())
}

const INSERT_ATTEMPTS: Bulk = insert!(
    "attempts
     (delivery_key, attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms,
      retry_after_until, retry_at)",
    11
);

const UPDATE_DELIVERIES: Bulk = Bulk {
    before: "WITH new (key, attempts, state, next_attempt_at, reason, delivered_at, failures, failing_since,
                       planned_at, retry_after_until, last_outcome) AS (",
    columns: 11,
    after: ")
        UPDATE deliveries SET attempts = new.attempts, state = new.state, next_attempt_at = new.next_attempt_at,
            reason = new.reason, delivered_at = new.delivered_at, failures = new.failures,
            failing_since = new.failing_since, planned_at = new.planned_at, retry_after_until = new.retry_after_until,
            last_outcome = new.last_outcome
        FROM new WHERE deliveries.delivery_key = new.key",
};

/// Counts an attempt of a delivery that was already delivered or dead, and changes nothing else.
const COUNT_ATTEMPTS: Bulk = Bulk {
    before: "WITH new (key, attempts) AS (",
    columns: 2,
    after: ") UPDATE deliveries SET attempts = new.attempts FROM new WHERE deliveries.delivery_key = new.key",
};

async fn write_attempts(
    tx: &mut SqliteConnection,
    writes: &mut [AttemptWrite<'_>],
) -> Result<(), sqlx::Error> {
    let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // Sorted, because neighbouring rows share pages.
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
                .push(attempt.retry_after.map(millis))
                .push(write.to.retry_after_until.map(ms))
                .push(write.to.next.due().filter(|_| write.was_pending).map(|due| ms(due.at)));
        })
        .await?;
    // If a delivery was in flight twice, the last attempt that ended it counts.
    let last = |index: usize, pending: bool| {
        let follows = |next: &AttemptWrite<'_>| next.key == writes[index].key && next.was_pending == pending;
        writes[index].was_pending == pending && !writes.get(index + 1).is_some_and(follows)
    };
    let only = |pending: bool| -> Vec<&AttemptWrite<'_>> {
        (0..writes.len()).filter(|index| last(*index, pending)).map(|index| &writes[index]).collect()
    };
    let (pending, others) = (only(true), only(false));
    UPDATE_DELIVERIES
        .execute(tx, &pending, |write, values| {
            let (to, now) = (&write.to, ms(write.ended.ended_at));
            let plan = to.next.due();
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
                .push(to.retry_after_until.map(ms))
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
