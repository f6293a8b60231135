//! THE transaction: what polls found, written at once or not at all (contract 5.4).
//!
//! Event rows, messages, deliveries and the next poll of many labels go in with a few statements, many rows each. A
//! record whose label was changed by the registry since it was taken up is left out whole; the label is due again.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::accounts::AccountRecord;
use super::outbox::promote;
use super::{Store, StoreError, ms};
use crate::domain::digest;
use crate::domain::event::{EventId, Form, KnownEvent};
use crate::domain::history::EventWrites;
use crate::domain::label::AccountName;
use crate::domain::message::Message;
use crate::domain::poll::{GLANCES, Glance, PlannedDelivery, PollPlan};
use crate::domain::snapshot::{Snapshot, Standing};

/// One poll's plan, ready to be written.
#[derive(Debug)]
pub struct PollRecord {
    pub row: i64,
    /// The version the label was taken up under.
    pub version: i64,
    pub account_name: AccountName,
    pub label_id: String,
    pub polled_at: Timestamp,
    pub standing: Standing,
    pub recent_polls: String,
    pub events: EventWrites,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    /// The account's new standing, if this poll changed it, with what is to be told of it.
    pub account: Option<AccountRecord>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Done,
    /// The registry changed the label meanwhile; nothing was written.
    Superseded,
}

impl PollRecord {
    /// Puts a plan and the label it was made for together.
    pub fn new(label: &Snapshot, plan: PollPlan, now: Timestamp, account: Option<AccountRecord>) -> Self {
        Self {
            row: label.row,
            version: label.version,
            account_name: label.key.account.clone(),
            label_id: label.key.id.to_string(),
            polled_at: now,
            recent_polls: with_glance(&label.recent_polls, plan.glance),
            standing: plan.standing,
            events: plan.events,
            messages: plan.messages,
            deliveries: plan.deliveries,
            account,
        }
    }

    pub(super) fn feeds_outbox(&self) -> bool {
        !self.deliveries.is_empty()
            || self.account.as_ref().is_some_and(|account| !account.messages.is_empty())
    }
}

fn with_glance(recent: &str, glance: Glance) -> String {
    let mut glances: Vec<Glance> = serde_json::from_str(recent).unwrap_or_default();
    glances.push(glance);
    let surplus = glances.len().saturating_sub(GLANCES);
    serde_json::to_string(&glances[surplus..]).expect("glances are plain values")
}

impl Store {
    /// Writes what a poll found, together with whatever else has arrived.
    pub async fn record_poll(&self, record: PollRecord) -> Result<Recorded, StoreError> {
        self.writer.poll(record).await
    }

    /// A label's whole history, in the order of recording.
    pub async fn known_events(&self, row: i64) -> Result<Vec<KnownEvent>, StoreError> {
        let rows = sqlx::query!(
            "SELECT event_id, revision, missing_polls, retracted_at, flapped, forms, raw
             FROM tracking_events WHERE label_key = ? ORDER BY position",
            row
        )
        .fetch_all(&self.readers)
        .await?;
        let known = rows.into_iter().map(|row| {
            let unreadable = || sqlx::Error::Decode(format!("event {}", row.event_id).into());
            Ok(KnownEvent {
                event_id: row.event_id.parse().map_err(|_| unreadable())?,
                revision: u32::try_from(row.revision).map_err(|_| unreadable())?,
                forms: Form::unpack(&row.forms).ok_or_else(unreadable)?,
                flapped: row.flapped == 1,
                missing_polls: u32::try_from(row.missing_polls).map_err(|_| unreadable())?,
                retracted: row.retracted_at.is_some(),
                raw: row.raw,
            })
        });
        Ok(known.collect::<Result<_, sqlx::Error>>()?)
    }
}

#[derive(Serialize)]
struct LabelWrite<'a> {
    row: i64,
    version: i64,
    state: &'a str,
    first_answer_at: Option<i64>,
    last_polled_at: i64,
    last_changed_at: Option<i64>,
    finished_at: Option<i64>,
    next_poll_at: Option<i64>,
    cadence_row: Option<&'a str>,
    interval_ms: Option<i64>,
    unchanged: u32,
    failures: u32,
    failing_since: Option<i64>,
    refusals: u32,
    refused_since: Option<i64>,
    tracking_number: Option<&'a str>,
    carrier_code: Option<&'a str>,
    status_code: Option<&'a str>,
    status_description: Option<&'a str>,
    status_detail_code: Option<&'a str>,
    estimate: Option<&'a str>,
    out_for_delivery: i64,
    utc_offset_minutes: Option<i32>,
    answer_digest: Option<String>,
    missing_events: u32,
    last_seq: i64,
    newest_scan_at: Option<i64>,
    stalled_told: i64,
    late_told: i64,
    recent_polls: &'a str,
}

impl<'a> LabelWrite<'a> {
    fn of(record: &'a PollRecord) -> Self {
        let standing = &record.standing;
        Self {
            row: record.row,
            version: record.version,
            state: standing.state.as_str(),
            first_answer_at: standing.first_answer_at.map(ms),
            last_polled_at: ms(record.polled_at),
            last_changed_at: standing.last_changed_at.map(ms),
            finished_at: standing.finished_at.map(ms),
            next_poll_at: standing.next_poll_at.map(ms),
            cadence_row: standing.cadence_row.as_deref(),
            interval_ms: standing.interval_ms,
            unchanged: standing.unchanged,
            failures: standing.failures,
            failing_since: standing.failing_since.map(ms),
            refusals: standing.refusals,
            refused_since: standing.refused_since.map(ms),
            tracking_number: standing.tracking_number.as_deref(),
            carrier_code: standing.carrier_code.as_deref(),
            status_code: standing.status_code.as_deref(),
            status_description: standing.status_description.as_deref(),
            status_detail_code: standing.status_detail_code.as_deref(),
            estimate: standing.estimate.as_deref(),
            out_for_delivery: i64::from(standing.out_for_delivery),
            utc_offset_minutes: standing.utc_offset_minutes,
            answer_digest: standing.answer_digest.map(|bytes| digest::hex(&bytes)),
            missing_events: standing.missing_events,
            last_seq: standing.last_seq,
            newest_scan_at: standing.newest_scan_at.map(ms),
            stalled_told: i64::from(standing.stalled_told),
            late_told: i64::from(standing.late_told),
            recent_polls: &record.recent_polls,
        }
    }
}

/// Writes the records into an open transaction; one [`Recorded`] each, in their order.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    records: &[PollRecord],
) -> Result<Vec<Recorded>, sqlx::Error> {
    let mut writes: Vec<LabelWrite<'_>> = records.iter().map(LabelWrite::of).collect();
    // Neighbouring rows share pages.
    writes.sort_unstable_by_key(|write| write.row);
    let labels = json(&writes);
    let accepted: Vec<i64> = sqlx::query_scalar!(
        r#"UPDATE labels SET
            state = new.v ->> 'state',
            first_answer_at = new.v ->> 'first_answer_at',
            last_polled_at = new.v ->> 'last_polled_at',
            last_changed_at = new.v ->> 'last_changed_at',
            finished_at = new.v ->> 'finished_at',
            next_poll_at = new.v ->> 'next_poll_at',
            cadence_row = new.v ->> 'cadence_row',
            interval_ms = new.v ->> 'interval_ms',
            unchanged = new.v ->> 'unchanged',
            failures = new.v ->> 'failures',
            failing_since = new.v ->> 'failing_since',
            refusals = new.v ->> 'refusals',
            refused_since = new.v ->> 'refused_since',
            tracking_number = new.v ->> 'tracking_number',
            carrier_code = new.v ->> 'carrier_code',
            status_code = new.v ->> 'status_code',
            status_description = new.v ->> 'status_description',
            status_detail_code = new.v ->> 'status_detail_code',
            estimate = new.v ->> 'estimate',
            out_for_delivery = new.v ->> 'out_for_delivery',
            utc_offset_minutes = new.v ->> 'utc_offset_minutes',
            answer_digest = unhex(new.v ->> 'answer_digest'),
            missing_events = new.v ->> 'missing_events',
            last_seq = new.v ->> 'last_seq',
            newest_scan_at = new.v ->> 'newest_scan_at',
            stalled_told = new.v ->> 'stalled_told',
            late_told = new.v ->> 'late_told',
            recent_polls = new.v ->> 'recent_polls'
           FROM (SELECT value AS v, value ->> 'row' AS row, value ->> 'version' AS version FROM json_each(?)) AS new
           WHERE labels.label_key = new.row AND labels.version = new.version
           RETURNING label_key AS "label_key!""#,
        labels
    )
    .fetch_all(&mut *tx)
    .await?;
    let accepted: std::collections::HashSet<i64> = accepted.into_iter().collect();
    let taken: Vec<&PollRecord> = records.iter().filter(|record| accepted.contains(&record.row)).collect();
    write_events(tx, &taken).await?;
    write_messages(tx, &taken).await?;
    let outcome = |record: &PollRecord| match accepted.contains(&record.row) {
        true => Recorded::Done,
        false => Recorded::Superseded,
    };
    Ok(records.iter().map(outcome).collect())
}

#[derive(Serialize)]
struct EventWrite<'a> {
    row: i64,
    event_id: EventId,
    /// Behind those the label has: 1, 2, …
    place: usize,
    revision: u32,
    late: i64,
    now: i64,
    missing_polls: u32,
    retracted: i64,
    retracted_now: i64,
    flapped: i64,
    forms: String,
    raw: &'a str,
}

impl<'a> EventWrite<'a> {
    fn of(record: &PollRecord, event: &'a KnownEvent, place: usize, late: bool, retracted_now: bool) -> Self {
        Self {
            row: record.row,
            event_id: event.event_id,
            place,
            revision: event.revision,
            late: i64::from(late),
            now: ms(record.polled_at),
            missing_polls: event.missing_polls,
            retracted: i64::from(event.retracted),
            retracted_now: i64::from(retracted_now),
            flapped: i64::from(event.flapped),
            forms: digest::hex(&Form::pack(&event.forms)),
            raw: &event.raw,
        }
    }
}

#[derive(Serialize)]
struct RevisionWrite<'a> {
    row: i64,
    event_id: EventId,
    revision: u32,
    now: i64,
    raw: &'a str,
}

async fn write_events(tx: &mut SqliteConnection, records: &[&PollRecord]) -> Result<(), sqlx::Error> {
    let mut added = Vec::new();
    let mut updated = Vec::new();
    let mut replaced = Vec::new();
    for record in records {
        let news = record.events.added.iter().enumerate();
        added
            .extend(news.map(|(place, new)| EventWrite::of(record, &new.record, place + 1, new.late, false)));
        for change in &record.events.updated {
            updated.push(EventWrite::of(record, &change.becomes, 0, false, change.retracted_now));
            replaced.extend(change.replaced.iter().map(|replaced| RevisionWrite {
                row: record.row,
                event_id: change.becomes.event_id,
                revision: replaced.revision,
                now: ms(record.polled_at),
                raw: &replaced.raw,
            }));
        }
    }
    if !added.is_empty() {
        let rows = json(&added);
        sqlx::query!(
            "INSERT INTO tracking_events
                (label_key, event_id, position, revision, late, first_seen_at, changed_at, forms, raw)
             SELECT value ->> 'row', value ->> 'event_id',
                    coalesce((SELECT max(position) FROM tracking_events WHERE label_key = value ->> 'row'), 0)
                        + (value ->> 'place'),
                    value ->> 'revision', value ->> 'late', value ->> 'now', value ->> 'now',
                    unhex(value ->> 'forms'), value ->> 'raw'
             FROM json_each(?)",
            rows
        )
        .execute(&mut *tx)
        .await?;
    }
    if !replaced.is_empty() {
        let rows = json(&replaced);
        sqlx::query!(
            "INSERT INTO event_revisions (label_key, event_id, revision, replaced_at, raw)
             SELECT value ->> 'row', value ->> 'event_id', value ->> 'revision', value ->> 'now', value ->> 'raw'
             FROM json_each(?)",
            rows
        )
        .execute(&mut *tx)
        .await?;
    }
    if !updated.is_empty() {
        let rows = json(&updated);
        sqlx::query!(
            "UPDATE tracking_events SET
                revision = new.v ->> 'revision',
                changed_at = CASE WHEN revision <> (new.v ->> 'revision') OR (retracted_at IS NOT NULL) <> (new.v ->> 'retracted')
                    THEN new.v ->> 'now' ELSE changed_at END,
                missing_polls = new.v ->> 'missing_polls',
                retracted_at = CASE WHEN (new.v ->> 'retracted') = 0 THEN NULL
                                    WHEN (new.v ->> 'retracted_now') = 1 THEN new.v ->> 'now'
                                    ELSE retracted_at END,
                flapped = new.v ->> 'flapped',
                forms = unhex(new.v ->> 'forms'),
                raw = new.v ->> 'raw'
             FROM (SELECT value AS v, value ->> 'row' AS row, value ->> 'event_id' AS event_id FROM json_each(?)) AS new
             WHERE tracking_events.label_key = new.row AND tracking_events.event_id = new.event_id",
            rows
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

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

async fn write_messages(tx: &mut SqliteConnection, records: &[&PollRecord]) -> Result<(), sqlx::Error> {
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

fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows are plain values")
}
