//! Messages and their deliveries, as they are written.

use std::collections::HashSet;

use serde::Serialize;
use sqlx::SqliteConnection;

use super::outbox::promote;
use super::polls::PollRecord;
use super::{json, ms};
use crate::domain::label::AccountName;
use crate::domain::message::{About, Message, repeated_id};
use crate::domain::poll::PlannedDelivery;

#[derive(Serialize)]
struct MessageWrite<'a> {
    message_id: &'a str,
    account: Option<&'a str>,
    row: Option<i64>,
    label_id: Option<&'a str>,
    seq: Option<i64>,
    r#type: &'a str,
    created_at: i64,
    resource_url: Option<&'a str>,
    body: &'a str,
    subject: Option<i64>,
}

#[derive(Serialize)]
struct DeliveryWrite<'a> {
    message_id: &'a str,
    subscriber: &'a str,
    format: &'a str,
    lane: Option<i64>,
    since: i64,
}

impl<'a> MessageWrite<'a> {
    fn of(
        message: &'a Message,
        account: Option<&'a str>,
        row: Option<i64>,
        label_id: Option<&'a str>,
    ) -> Self {
        Self {
            message_id: &message.id,
            account,
            row,
            label_id,
            seq: message.seq,
            r#type: message.kind.as_str(),
            created_at: ms(message.created_at),
            resource_url: message.resource_url.as_deref(),
            body: &message.body,
            subject: None,
        }
    }
}

impl<'a> DeliveryWrite<'a> {
    fn of(planned: &'a PlannedDelivery, message: &'a Message, lane: Option<i64>) -> Self {
        Self {
            message_id: &message.id,
            subscriber: planned.subscriber.as_str(),
            format: planned.format.as_str(),
            lane,
            since: ms(message.created_at),
        }
    }
}

/// Messages and their deliveries; the head of each lane is due at once.
async fn insert_messages(
    tx: &mut SqliteConnection,
    messages: &[MessageWrite<'_>],
    deliveries: &[DeliveryWrite<'_>],
) -> Result<(), sqlx::Error> {
    if !messages.is_empty() {
        let rows = json(messages);
        sqlx::query!(
            "INSERT INTO messages
                (message_id, account, label_key, label_id, seq, type, created_at, resource_url, body, subject_key)
             SELECT value ->> 'message_id', value ->> 'account', value ->> 'row', value ->> 'label_id',
                    value ->> 'seq', value ->> 'type', value ->> 'created_at', value ->> 'resource_url',
                    value ->> 'body', value ->> 'subject'
             FROM json_each(?)",
            rows
        )
        .execute(&mut *tx)
        .await?;
    }
    if !deliveries.is_empty() {
        let rows = json(deliveries);
        sqlx::query!(
            "INSERT INTO deliveries
                (message_key, subscriber, format, lane, place, state, created_at)
             SELECT m.message_key, value ->> 'subscriber', value ->> 'format', value ->> 'lane',
                    coalesce(m.seq, m.message_key), 'pending', value ->> 'since'
             FROM json_each(?) CROSS JOIN messages m ON m.message_id = value ->> 'message_id'",
            rows
        )
        .execute(&mut *tx)
        .await?;
        promote(tx, &rows).await?;
    }
    Ok(())
}

/// Gives the messages of polls whose id is taken the id of their next repetition: their label says the same again.
pub(super) async fn number_repetitions(
    tx: &mut SqliteConnection,
    records: &mut [PollRecord],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> =
        records.iter().flat_map(|record| &record.messages).map(|message| message.id.as_str()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let asked = json(&ids);
    let taken = sqlx::query_scalar!(
        "SELECT message_id FROM messages WHERE message_id IN (SELECT value FROM json_each(?))",
        asked
    )
    .fetch_all(&mut *tx)
    .await?;
    let taken: HashSet<String> = taken.into_iter().collect();
    let mut given: HashSet<String> = HashSet::new();
    for message in records.iter_mut().flat_map(|record| &mut record.messages) {
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

/// The first number whose id is free. Numbers are given without gaps, so it is found by doubling, then by halves.
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

/// Writes the messages of polls into an open transaction.
pub(super) async fn write_messages(
    tx: &mut SqliteConnection,
    records: &[&PollRecord],
) -> Result<(), sqlx::Error> {
    let mut messages = Vec::new();
    let mut deliveries = Vec::new();
    for record in records {
        let account = Some(record.account_name.as_str());
        let row = Some(record.row);
        messages.extend(
            record
                .messages
                .iter()
                .map(|message| MessageWrite::of(message, account, row, Some(&record.label_id))),
        );
        deliveries.extend(
            record
                .deliveries
                .iter()
                .map(|planned| DeliveryWrite::of(planned, &record.messages[planned.message], row)),
        );
    }
    insert_messages(tx, &messages, &deliveries).await
}

/// Writes what is to be told of an account or a subscriber into an open transaction.
pub(super) async fn write_system_messages(
    tx: &mut SqliteConnection,
    messages: &[Message],
    deliveries: &[PlannedDelivery],
    account: Option<&AccountName>,
) -> Result<(), sqlx::Error> {
    let mut subjects = Vec::with_capacity(messages.len());
    for message in messages {
        subjects.push(match &message.about {
            Some(about) => Some(subject(tx, about).await?),
            None => None,
        });
    }
    let account = account.map(AccountName::as_str);
    let writes: Vec<_> = messages
        .iter()
        .zip(&subjects)
        .map(|(message, subject)| MessageWrite {
            subject: *subject,
            ..MessageWrite::of(message, account, None, None)
        })
        .collect();
    let lane = |planned: &PlannedDelivery| subjects[planned.message].map(|subject| -subject);
    let deliveries: Vec<_> = deliveries
        .iter()
        .map(|planned| DeliveryWrite::of(planned, &messages[planned.message], lane(planned)))
        .collect();
    insert_messages(tx, &writes, &deliveries).await
}

/// The row of who is spoken of.
async fn subject(tx: &mut SqliteConnection, about: &About) -> Result<i64, sqlx::Error> {
    let (kind, name) = (about.kind(), about.name());
    sqlx::query!("INSERT INTO subjects (kind, name) VALUES (?, ?) ON CONFLICT DO NOTHING", kind, name)
        .execute(&mut *tx)
        .await?;
    sqlx::query_scalar!("SELECT subject_key FROM subjects WHERE kind = ? AND name = ?", kind, name)
        .fetch_one(&mut *tx)
        .await
}
