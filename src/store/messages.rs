//! Messages and their deliveries, as they are written.

use serde::Serialize;
use sqlx::SqliteConnection;

use super::outbox::promote;
use super::polls::PollRecord;
use super::{json, ms};
use crate::domain::message::Message;
use crate::domain::poll::PlannedDelivery;

#[derive(Serialize)]
pub(super) struct MessageWrite<'a> {
    message_id: &'a str,
    account: Option<&'a str>,
    row: Option<i64>,
    label_id: Option<&'a str>,
    seq: Option<i64>,
    r#type: &'a str,
    created_at: i64,
    resource_url: Option<&'a str>,
    body: &'a str,
}

#[derive(Serialize)]
pub(super) struct DeliveryWrite<'a> {
    message_id: &'a str,
    subscriber: &'a str,
    format: &'a str,
    row: Option<i64>,
    seq: Option<i64>,
    created_at: i64,
}

impl<'a> MessageWrite<'a> {
    pub(super) fn of(
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
        }
    }
}

impl<'a> DeliveryWrite<'a> {
    pub(super) fn of(planned: &'a PlannedDelivery, message: &'a Message, row: Option<i64>) -> Self {
        Self {
            message_id: &message.id,
            subscriber: planned.subscriber.as_str(),
            format: planned.format.as_str(),
            row,
            seq: message.seq,
            created_at: ms(message.created_at),
        }
    }
}

/// Messages and their deliveries; the head of each lane is due at once.
pub(super) async fn insert_messages(
    tx: &mut SqliteConnection,
    messages: &[MessageWrite<'_>],
    deliveries: &[DeliveryWrite<'_>],
) -> Result<(), sqlx::Error> {
    if !messages.is_empty() {
        let rows = json(messages);
        sqlx::query!(
            "INSERT INTO messages
                (message_id, account, label_key, label_id, seq, type, created_at, resource_url, body)
             SELECT value ->> 'message_id', value ->> 'account', value ->> 'row', value ->> 'label_id',
                    value ->> 'seq', value ->> 'type', value ->> 'created_at', value ->> 'resource_url',
                    value ->> 'body'
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
                (message_key, subscriber, format, label_key, seq, state, created_at, next_attempt_at)
             SELECT (SELECT message_key FROM messages WHERE message_id = value ->> 'message_id'),
                    value ->> 'subscriber', value ->> 'format', value ->> 'row', value ->> 'seq', 'pending',
                    value ->> 'created_at',
                    CASE WHEN value ->> 'row' IS NULL THEN value ->> 'created_at' END
             FROM json_each(?)",
            rows
        )
        .execute(&mut *tx)
        .await?;
        promote(tx, &rows).await?;
    }
    Ok(())
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
