//! Writes of messages and their deliveries.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bulk::{Bulk, insert};
use super::records::{NewDelivery, PollRecord};
use super::{hour_of, json, ms};
use crate::domain::delivery::outbox::{MessageContent, PendingDelivery};
use crate::domain::delivery::outcome::DeliverySchedule;
use crate::domain::label::AccountName;
use crate::domain::messages::fan_out::PlannedDelivery;
use crate::domain::messages::{Message, SystemSubject, repeated_id};

const INSERT_MESSAGES: Bulk = insert!(
    "messages (message_key, message_id, account, label_key, label_id, seq, type, created_at,
     resource_url, body, subject_key)",
    11
);

const INSERT_DELIVERIES: Bulk = insert!(
    "deliveries (delivery_key, message_key, subscriber, format, lane, position, state, created_at,
     next_attempt_at, reason)",
    10
);

/// A message to write.
#[derive(Clone, Copy)]
struct MessageRow<'a> {
    key: i64,
    message: &'a Message,
    account: Option<&'a str>,
    label: Option<(i64, &'a str)>,
    subject: Option<i64>,
}

/// A lane and a position in it.
pub type LanePosition = (i64, i64);

/// Returns the lane of a message and the position in it; `None` for a ping. The lane of a label is the key of its row,
/// with the `seq` as position. A message about an account or a subscriber has a lane below zero, with its own key as
/// position.
pub(super) fn lane_of(
    label: Option<i64>,
    subject: Option<i64>,
    seq: Option<i64>,
    message_key: i64,
) -> Option<LanePosition> {
    let of_label = label.map(|label| (label, seq.unwrap_or(message_key)));
    of_label.or(subject.map(|subject| (-subject, message_key)))
}

impl MessageRow<'_> {
    fn lane(&self) -> Option<LanePosition> {
        lane_of(self.label.map(|(key, _)| key), self.subject, self.message.seq, self.key)
    }

    fn content(&self) -> Arc<MessageContent> {
        let message = self.message;
        Arc::new(MessageContent {
            message_id: message.id.clone(),
            kind: message.kind.as_str().to_owned(),
            label_id: self.label.map(|(_, id)| id.to_owned()),
            seq: message.seq,
            body: message.body.to_string(),
            resource_url: message.resource_url.clone(),
        })
    }
}

/// The highest keys ever assigned: the keys of the rows, or the keys recorded before rows were deleted.
/// `AUTOINCREMENT` would write one page more in each transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastKeys {
    pub message: i64,
    pub delivery: i64,
}

impl LastKeys {
    /// Reads the keys before the first message of a transaction is written, and records where the hour of `now` begins.
    pub async fn read_and_note_hour(tx: &mut SqliteConnection, now: Timestamp) -> Result<Self, sqlx::Error> {
        let hour = hour_of(ms(now));
        let (keys, noted) = Self::read_with_hour(tx, Some(hour)).await?;
        if !noted {
            let next = keys.message + 1;
            sqlx::query!("INSERT INTO message_hours (hour, message_key) VALUES (?, ?)", hour, next)
                .execute(tx)
                .await?;
        }
        Ok(keys)
    }

    pub async fn read(connection: &mut SqliteConnection) -> Result<Self, sqlx::Error> {
        Ok(Self::read_with_hour(connection, None).await?.0)
    }

    /// Reads the keys, and whether the start of `hour` is recorded.
    async fn read_with_hour(
        connection: &mut SqliteConnection,
        hour: Option<i64>,
    ) -> Result<(Self, bool), sqlx::Error> {
        let read = sqlx::query!(
            r#"SELECT max(message_key, coalesce((SELECT max(message_key) FROM messages), 0)) AS "message!: i64",
                   max(delivery_key, coalesce((SELECT max(delivery_key) FROM deliveries), 0)) AS "delivery!: i64",
                   EXISTS (SELECT 1 FROM message_hours WHERE hour = ?) AS "noted!: bool"
               FROM last_keys"#,
            hour
        )
        .fetch_one(connection)
        .await?;
        Ok((Self { message: read.message, delivery: read.delivery }, read.noted))
    }

    /// Records the keys before rows are deleted.
    pub async fn record(tx: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE last_keys SET
                 message_key = max(message_key, coalesce((SELECT max(message_key) FROM messages), 0)),
                 delivery_key = max(delivery_key, coalesce((SELECT max(delivery_key) FROM deliveries), 0))"
        )
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Writes messages and their deliveries, which refer to messages by index. Each delivery is due at once, in the order
/// of its lane.
async fn insert_messages(
    tx: &mut SqliteConnection,
    mut messages: Vec<MessageRow<'_>>,
    planned: &[(usize, &PlannedDelivery)],
) -> Result<Vec<NewDelivery>, sqlx::Error> {
    let mut hours: Vec<Timestamp> = messages.iter().map(|row| row.message.created_at).collect();
    hours.sort_unstable();
    hours.dedup_by_key(|at| hour_of(ms(*at)));
    let mut keys = None;
    for hour in hours {
        keys = Some(LastKeys::read_and_note_hour(tx, hour).await?);
    }
    let Some(keys) = keys else { return Ok(Vec::new()) };
    for (key, row) in (keys.message + 1..).zip(&mut messages) {
        row.key = key;
    }
    INSERT_MESSAGES
        .execute(tx, &messages, |row, values| {
            let message = row.message;
            values
                .push(row.key)
                .push(message.id.clone())
                .push(row.account.map(str::to_owned))
                .push(row.label.map(|(key, _)| key))
                .push(row.label.map(|(_, id)| id.to_owned()))
                .push(message.seq)
                .push(message.kind.as_str())
                .push(ms(message.created_at))
                .push(message.resource_url.clone())
                .push(message.body.to_string())
                .push(row.subject);
        })
        .await?;
    let mut contents: HashMap<usize, Arc<MessageContent>> = HashMap::new();
    let new: Vec<(i64, NewDelivery)> = (keys.delivery + 1..)
        .zip(planned)
        .map(|(key, (index, planned))| {
            let row = &messages[*index];
            let lane = row.lane();
            let content = contents.entry(*index).or_insert_with(|| row.content());
            let delivery = PendingDelivery {
                key,
                message: Arc::clone(content),
                format: planned.format,
                lane: lane.map(|(lane, _)| lane),
                position: lane.map(|(_, position)| position).unwrap_or_default(),
                attempts: 0,
                schedule: DeliverySchedule::first(row.message.created_at),
            };
            (row.key, (planned.subscriber.clone(), delivery))
        })
        .collect();
    INSERT_DELIVERIES
        .execute(tx, &new, |(message, (subscriber, delivery)), values| {
            let next = delivery.schedule.next;
            values
                .push(delivery.key)
                .push(*message)
                .push(subscriber.as_str().to_owned())
                .push(delivery.format.as_str())
                .push(delivery.lane)
                .push(delivery.lane.map(|_| delivery.position))
                .push("pending")
                .push(ms(next.at))
                .push(ms(next.at))
                .push(next.reason.to_json());
        })
        .await?;
    Ok(new.into_iter().map(|(_, new)| new).collect())
}

/// Gives each message whose id is taken the id of its next repetition: the same change was found again.
pub(super) async fn number_repetitions(
    tx: &mut SqliteConnection,
    records: &mut [PollRecord],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> =
        records.iter().flat_map(|record| &record.plan.messages).map(|message| message.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let ids = json(&ids);
    let taken = sqlx::query_scalar!(
        "SELECT message_id FROM messages WHERE message_id IN (SELECT value FROM json_each(?))",
        ids
    )
    .fetch_all(&mut *tx)
    .await?;
    let taken: HashSet<String> = taken.into_iter().collect();
    let mut given: HashSet<String> = HashSet::new();
    for message in records.iter_mut().flat_map(|record| &mut record.plan.messages) {
        if taken.contains(&message.id) || given.contains(&message.id) {
            let mut repetition = next_repetition(tx, &message.id).await?;
            let mut id = repeated_id(&message.id, repetition);
            while given.contains(&id) {
                repetition += 1;
                id = repeated_id(&message.id, repetition);
            }
            message.id = id;
        }
        given.insert(message.id.clone());
    }
    Ok(())
}

/// Returns the first number whose id is free. Numbers have no gaps, so it doubles the number and then bisects.
async fn next_repetition(tx: &mut SqliteConnection, first: &str) -> Result<u32, sqlx::Error> {
    let (mut taken, mut free) = (0, 1);
    while is_taken(tx, &repeated_id(first, free)).await? {
        (taken, free) = (free, free * 2);
    }
    while free - taken > 1 {
        let middle = taken + (free - taken) / 2;
        if is_taken(tx, &repeated_id(first, middle)).await? {
            taken = middle;
        } else {
            free = middle;
        }
    }
    Ok(free)
}

async fn is_taken(tx: &mut SqliteConnection, message_id: &str) -> Result<bool, sqlx::Error> {
    let found = sqlx::query_scalar!("SELECT 1 FROM messages WHERE message_id = ?", message_id);
    Ok(found.fetch_optional(&mut *tx).await?.is_some())
}

/// Writes the messages of polls into an open transaction. Returns the new deliveries, which are handed over after the
/// commit.
pub(super) async fn write_messages(
    tx: &mut SqliteConnection,
    records: &[&PollRecord],
) -> Result<Vec<NewDelivery>, sqlx::Error> {
    let mut messages = Vec::new();
    let mut planned = Vec::new();
    for record in records {
        let first = messages.len();
        messages.extend(record.plan.messages.iter().map(|message| MessageRow {
            key: 0,
            message,
            account: Some(record.account_name.as_str()),
            label: Some((record.row, record.label_id.as_str())),
            subject: None,
        }));
        planned.extend(record.plan.deliveries.iter().map(|planned| (first + planned.message, planned)));
    }
    insert_messages(tx, messages, &planned).await
}

/// Writes messages about an account or a subscriber into an open transaction. Returns the new deliveries, which are
/// handed over after the commit.
pub(super) async fn write_system_messages(
    tx: &mut SqliteConnection,
    messages: &[Message],
    deliveries: &[PlannedDelivery],
    account: Option<&AccountName>,
) -> Result<Vec<NewDelivery>, sqlx::Error> {
    let account = account.map(AccountName::as_str);
    let mut rows = Vec::with_capacity(messages.len());
    for message in messages {
        let subject = match &message.subject {
            Some(about) => Some(subject(tx, about).await?),
            None => None,
        };
        rows.push(MessageRow { key: 0, message, account, label: None, subject });
    }
    let planned: Vec<_> = deliveries.iter().map(|planned| (planned.message, planned)).collect();
    insert_messages(tx, rows, &planned).await
}

/// Returns the key of the account or subscriber that the message is about.
async fn subject(tx: &mut SqliteConnection, about: &SystemSubject) -> Result<i64, sqlx::Error> {
    let (kind, name) = (about.kind(), about.name());
    sqlx::query!("INSERT INTO subjects (kind, name) VALUES (?, ?) ON CONFLICT DO NOTHING", kind, name)
        .execute(&mut *tx)
        .await?;
    sqlx::query_scalar!("SELECT subject_key FROM subjects WHERE kind = ? AND name = ?", kind, name)
        .fetch_one(&mut *tx)
        .await
}
