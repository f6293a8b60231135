//! Replay: stored messages become pending again, with their id and body unchanged.
//!
//! **Order.** A lane is sent by `seq`, also with repeated messages: they are sent before all newer waiting messages of
//! their label. An attempt in flight ends and is recorded first; the courier sends nothing else of its lane meanwhile.
//! So the messages sent at any one time have ascending `seq`, but a receiver that has later messages gets earlier ones
//! again. They have their old `webhook-id` and `trackpost-seq`, so it can recognise them.
//!
//! The count of attempts continues, but the retry schedule starts again from its beginning.
//!
//! Messages are queued page by page, in order of creation, which is the order of `seq` for each label.
//!
//! Crash point: between two pages, the messages queued so far are sent and the others are not. Another replay of the
//! same span repeats them under the same ids.

use jiff::Timestamp;

use super::bulk::{Bulk, Values};
use super::messages::{LanePosition, LastKeys, lane_of};
use super::reschedule::bind_schedule;
use super::views::PAGE;
use super::{Store, StoreError, at, hour_of, ms};
use crate::domain::delivery::outcome::DeliverySchedule;
use crate::domain::messages::subscriber::{Format, SubscriberName};
use crate::domain::named_enum::named_enum;

named_enum! {
    /// State of a message for the subscriber before the replay.
    pub enum StateBefore {
        Pending = "pending",
        Delivered = "delivered",
        Dead = "dead",
        /// The subscriber has no delivery of the message.
        Never = "never",
    }
}

/// Selection of stored messages.
#[derive(Clone, Debug)]
pub struct ReplaySpan {
    pub since: Timestamp,
    /// Exclusive end.
    pub until: Timestamp,
    /// Key of the label, to select only its messages.
    pub label: Option<i64>,
}

/// A stored message and its state for the subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub row: i64,
    pub message_id: String,
    pub label_row: Option<i64>,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    /// Its lane and the position in it; `None` for a ping.
    pub lane: Option<LanePosition>,
    pub kind: String,
    pub account: Option<String>,
    pub created_at: Timestamp,
    pub before: StateBefore,
}

/// A message to be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Requeued {
    /// Key of the message.
    pub message: i64,
    pub lane: Option<LanePosition>,
    pub before: StateBefore,
    /// Earliest time of the attempt.
    pub at: Timestamp,
}

/// Selects stored messages; takes the rest of the statement.
macro_rules! select_stored {
    ($rest:literal, $($argument:expr),*) => {
        sqlx::query!(
            r#"SELECT m.message_key AS "message_key!", m.message_id, m.label_key, m.label_id, m.seq, m.subject_key,
                      m.type AS kind, m.account, m.created_at, d.state AS "state?" "# + $rest,
            $($argument),*
        )
        .map(|row| StoredMessage {
            row: row.message_key,
            message_id: row.message_id,
            label_row: row.label_key,
            label_id: row.label_id,
            seq: row.seq,
            lane: lane_of(row.label_key, row.subject_key, row.seq, row.message_key),
            kind: row.kind,
            account: row.account,
            created_at: at(row.created_at),
            before: row.state.as_deref().map_or(StateBefore::Never, |state| {
                StateBefore::parse(state).unwrap_or(StateBefore::Dead)
            }),
        })
    };
}

impl Store {
    /// Returns a page of stored messages after `after` (`None`: from the start), in order of creation.
    pub async fn stored_messages(
        &self,
        subscriber: &SubscriberName,
        span: &ReplaySpan,
        after: Option<&StoredMessage>,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let after = after.map_or(0, |stored| stored.row);
        let (name, since, until) = (subscriber.as_str(), ms(span.since), ms(span.until));
        if let Some(label) = span.label {
            let stored = select_stored!(
                "FROM messages m LEFT JOIN deliveries d ON d.message_key = m.message_key AND d.subscriber = ?1
               WHERE m.label_key = ?2 AND m.message_key > ?3 AND m.created_at >= ?4 AND m.created_at < ?5
               ORDER BY m.seq LIMIT ?6",
                name,
                label,
                after,
                since,
                until,
                PAGE
            )
            .fetch_all(&self.readers);
            return Ok(stored.await?);
        }
        let hour = hour_of(since);
        let first = sqlx::query_scalar!(
            r#"SELECT min(message_key) AS "first: i64" FROM message_hours WHERE hour >= ?"#,
            hour
        )
        .fetch_one(&self.readers)
        .await?;
        let Some(first) = first else { return Ok(Vec::new()) };
        let after = after.max(first - 1);
        let stored = select_stored!(
            "FROM messages m LEFT JOIN deliveries d ON d.message_key = m.message_key AND d.subscriber = ?1
               WHERE m.message_key > ?2 AND m.created_at >= ?3 AND m.created_at < ?4
               ORDER BY m.message_key LIMIT ?5",
            name,
            after,
            since,
            until,
            PAGE
        )
        .fetch_all(&self.readers);
        Ok(stored.await?)
    }

    /// Makes one delivery due at `now`; a delivered or dead one is queued again. Returns 0 if it has changed meanwhile.
    pub async fn retry(&self, delivery: i64, now: Timestamp) -> Result<u64, StoreError> {
        let found = select_stored!(
            "FROM deliveries d JOIN messages m USING (message_key) WHERE d.delivery_key = ?",
            delivery
        )
        .fetch_optional(&self.readers)
        .await?;
        let to = sqlx::query!("SELECT subscriber, format FROM deliveries WHERE delivery_key = ?", delivery)
            .fetch_optional(&self.readers)
            .await?;
        let (Some(stored), Some(to)) = (found, to) else { return Ok(0) };
        let again = Requeued { message: stored.row, lane: stored.lane, before: stored.before, at: now };
        let format = Format::parse(&to.format).unwrap_or(Format::Standard);
        self.queue_again(&SubscriberName::new(&to.subscriber), format, &[again], now).await
    }

    /// Queues messages again, in order within each lane. New deliveries get `format`. Pending deliveries are due at the
    /// given time too. Messages whose state has changed since they were read are left as they are. Returns how many
    /// were queued.
    pub async fn queue_again(
        &self,
        subscriber: &SubscriberName,
        format: Format,
        messages: &[Requeued],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (mut lane, mut due_at) = (None, now);
        let mut writes: Vec<RequeuedWrite> = Vec::with_capacity(messages.len());
        for again in messages {
            // Consecutive messages of a lane are due at the time of the first one.
            let of_message = again.lane.map(|(lane, _)| lane);
            if of_message.is_none() || lane != of_message {
                (lane, due_at) = (of_message, again.at);
            }
            let schedule = DeliverySchedule::queued_again(due_at);
            writes.push(RequeuedWrite {
                message: again.message,
                lane: again.lane,
                before: again.before,
                schedule,
            });
        }
        let name = subscriber.clone();
        let queued = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let last = LastKeys::read(tx).await?;
                    let of = |before: &[StateBefore]| -> Vec<(i64, RequeuedWrite)> {
                        let writes = writes.iter().filter(|write| before.contains(&write.before)).copied();
                        // Only new deliveries get these keys.
                        (last.delivery + 1..).zip(writes).collect()
                    };
                    let bind = |(key, write): &(i64, RequeuedWrite), values: &mut Values| {
                        values
                            .push(*key)
                            .push(write.message)
                            .push(name.as_str().to_owned())
                            .push(write.before.as_str())
                            .push(format.as_str())
                            .push(write.lane.map(|(lane, _)| lane))
                            .push(write.lane.map(|(_, position)| position))
                            .push(ms(now));
                        bind_schedule(&write.schedule, values);
                    };
                    let missing = of(&[StateBefore::Never]);
                    let mut queued = INSERT_MISSING_DELIVERIES.execute(tx, &missing, bind).await?;
                    let ended = of(&[StateBefore::Delivered, StateBefore::Dead]);
                    queued += QUEUE_ENDED.execute(tx, &ended, bind).await?;
                    queued += RESTART_PENDING.execute(tx, &of(&[StateBefore::Pending]), bind).await?;
                    Ok(queued)
                })
            })
            .await;
        self.handover.mark_stale(subscriber);
        queued
    }
}

/// Values written for a message that is queued again.
#[derive(Clone, Copy, Debug)]
struct RequeuedWrite {
    message: i64,
    lane: Option<LanePosition>,
    before: StateBefore,
    schedule: DeliverySchedule,
}

/// A statement over the messages that are queued again.
macro_rules! requeue {
    ($($after:literal),+) => {
        Bulk {
            before: "WITH new (delivery, message, subscriber, before, format, lane, position, now, next_attempt_at, reason,
                failures, failing_since, planned_at, retry_after_until) AS (",
            columns: 14,
            after: concat!(") ", $($after),+),
        }
    };
    (update $set:literal) => {
        requeue!("UPDATE deliveries SET ", $set, "next_attempt_at = new.next_attempt_at, reason = new.reason,
                failures = new.failures, failing_since = new.failing_since, planned_at = new.planned_at,
                retry_after_until = new.retry_after_until
            FROM new WHERE deliveries.message_key = new.message AND deliveries.subscriber = new.subscriber
                AND deliveries.state = new.before")
    };
}

const INSERT_MISSING_DELIVERIES: Bulk = requeue!(
    "INSERT INTO deliveries (delivery_key, message_key, subscriber, format, lane, position, state, created_at,
                             queued_again_at, next_attempt_at, reason)
     SELECT new.delivery, m.message_key, new.subscriber, new.format, new.lane, new.position, 'pending', new.now, new.now,
            new.next_attempt_at, new.reason
     FROM new JOIN messages m ON m.message_key = new.message
     WHERE true ON CONFLICT (message_key, subscriber) DO NOTHING"
);

const QUEUE_ENDED: Bulk =
    requeue!(update "state = 'pending', delivered_at = NULL, queued_again_at = new.now, ");

const RESTART_PENDING: Bulk = requeue!(update "");
