//! The carrier events of labels, and what became of each.
//!
//! Part of a poll's transaction: many rows a statement, in the order in which things happened.

use serde::Serialize;
use sqlx::SqliteConnection;

use super::polls::PollRecord;
use super::{Store, StoreError, json, ms};
use crate::domain::digest;
use crate::domain::event::{EventId, Form, KnownEvent};
use crate::domain::history::Step;

impl Store {
    /// A label's whole history, in the order of recording.
    pub async fn known_events(&self, row: i64) -> Result<Vec<KnownEvent>, StoreError> {
        let rows = sqlx::query!(
            "SELECT event_id, revision, late, missing_polls, retracted_at, flapped, forms, raw
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
                late: row.late == 1,
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
    flapped: i64,
    forms: String,
    raw: &'a str,
}

impl<'a> EventWrite<'a> {
    fn of(record: &PollRecord, event: &'a KnownEvent, place: usize) -> Self {
        Self {
            row: record.row,
            event_id: event.event_id,
            place,
            revision: event.revision,
            late: i64::from(event.late),
            now: ms(record.polled_at),
            missing_polls: event.missing_polls,
            retracted: i64::from(event.retracted),
            flapped: i64::from(event.flapped),
            forms: digest::hex(&Form::pack(&event.forms)),
            raw: &event.raw,
        }
    }
}

#[derive(Serialize)]
struct StepWrite<'a> {
    row: i64,
    event_id: EventId,
    now: i64,
    kind: &'a str,
    fields: String,
    before: Option<&'a str>,
}

impl<'a> StepWrite<'a> {
    fn of(record: &PollRecord, event_id: EventId, step: &'a Step) -> Self {
        let (fields, before) = match step {
            Step::Revised { fields, before } => (json(fields), Some(before.as_str())),
            Step::Returned | Step::Retracted => ("[]".to_owned(), None),
        };
        Self { row: record.row, event_id, now: ms(record.polled_at), kind: step.as_str(), fields, before }
    }
}

/// Writes what polls found of events into an open transaction.
pub(super) async fn write_events(
    tx: &mut SqliteConnection,
    records: &[&PollRecord],
) -> Result<(), sqlx::Error> {
    let mut added = Vec::new();
    let mut updated = Vec::new();
    let mut steps = Vec::new();
    for record in records {
        let news = record.events.added.iter().enumerate();
        added.extend(news.map(|(place, new)| EventWrite::of(record, new, place + 1)));
        for change in &record.events.updated {
            updated.push(EventWrite::of(record, &change.becomes, 0));
            let event_id = change.becomes.event_id;
            steps.extend(change.steps.iter().map(|step| StepWrite::of(record, event_id, step)));
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
    if !steps.is_empty() {
        let rows = json(&steps);
        sqlx::query!(
            "INSERT INTO event_changes (label_key, event_id, at, kind, fields, before)
             SELECT value ->> 'row', value ->> 'event_id', value ->> 'now', value ->> 'kind', value ->> 'fields',
                    value ->> 'before'
             FROM json_each(?) ORDER BY key",
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
                retracted_at = CASE WHEN (new.v ->> 'retracted') = 1 THEN coalesce(retracted_at, new.v ->> 'now') END,
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
