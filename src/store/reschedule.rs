//! New due times for the waiting deliveries of a subscriber.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bulk::{Bulk, Values};
use super::{at, ms, to_u32};
use crate::domain::delivery::outcome::{DeliverySchedule, Due, DueReason, RetryProgress};
use crate::domain::messages::subscriber::SubscriberName;

/// Parses a stored plan.
pub(super) fn stored_due(next_attempt_at: i64, reason: &str) -> Due {
    // The table holds only known reasons; a database of a newer version is not opened.
    Due { at: at(next_attempt_at), reason: DueReason::from_json(reason).unwrap_or(DueReason::First) }
}

/// Converts the columns of a delivery's progress.
pub(super) fn progress(failures: i64, failing_since: Option<i64>, planned_at: Option<i64>) -> RetryProgress {
    RetryProgress { failures: to_u32(failures), since: failing_since.map(at), planned_at: planned_at.map(at) }
}

const UPDATE_SCHEDULES: Bulk = Bulk {
    before: "WITH new (key, next_attempt_at, reason, failures, failing_since, planned_at, retry_after_until) AS (",
    columns: 7,
    after: ")
        UPDATE deliveries SET next_attempt_at = new.next_attempt_at, reason = new.reason, failures = new.failures,
            failing_since = new.failing_since, planned_at = new.planned_at, retry_after_until = new.retry_after_until
        FROM new WHERE deliveries.delivery_key = new.key AND deliveries.state = 'pending'",
};

/// Lets `change` replan the deliveries of a subscriber that wait for a time, a Retry-After or the retry schedule.
/// `change` returns whether it changed the schedule.
pub(super) async fn reschedule(
    tx: &mut SqliteConnection,
    subscriber: &SubscriberName,
    now: Timestamp,
    change: impl Fn(i64, &mut DeliverySchedule) -> bool,
) -> Result<(), sqlx::Error> {
    let (name, now) = (subscriber.as_str(), ms(now));
    let waiting = sqlx::query!(
        r#"SELECT delivery_key, next_attempt_at AS "next_attempt_at!", reason AS "reason!", failures, failing_since,
                  planned_at, retry_after_until
           FROM deliveries
           WHERE subscriber = ? AND state = 'pending'
             AND (next_attempt_at > ? OR failures > 0 OR retry_after_until IS NOT NULL)"#,
        name,
        now
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut changed = Vec::new();
    for row in waiting {
        let mut schedule = DeliverySchedule {
            next: stored_due(row.next_attempt_at, &row.reason),
            progress: progress(row.failures, row.failing_since, row.planned_at),
            retry_after_until: row.retry_after_until.map(at),
        };
        if change(row.delivery_key, &mut schedule) {
            changed.push((row.delivery_key, schedule));
        }
    }
    UPDATE_SCHEDULES
        .execute(tx, &changed, |(key, schedule), values| {
            values.push(*key);
            bind_schedule(schedule, values);
        })
        .await?;
    Ok(())
}

/// Pushes the columns from `next_attempt_at` to `retry_after_until`.
pub(super) fn bind_schedule(schedule: &DeliverySchedule, values: &mut Values) {
    values
        .push(ms(schedule.next.at))
        .push(schedule.next.reason.to_json())
        .push(i64::from(schedule.progress.failures))
        .push(schedule.progress.since.map(ms))
        .push(schedule.progress.planned_at.map(ms))
        .push(schedule.retry_after_until.map(ms));
}
