//! The carrier events of labels, and what became of each.
//!
//! Part of a poll's transaction: many rows a statement, in the order in which things happened.

use sqlx::SqliteConnection;

use super::bulk::Bulk;
use super::polls::PollRecord;
use super::{json, ms};
use crate::domain::tracking::history::EventChange;
use crate::domain::tracking::matching::{Fingerprint, KnownEvent};

/// A label's whole history, in the order of recording.
pub(super) async fn known_events(
    connection: &mut SqliteConnection,
    row: i64,
) -> Result<Vec<KnownEvent>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT event_id, revision, late, missing_polls, retracted_at, fell_off, flapped, forms, raw
         FROM tracking_events WHERE label_key = ? ORDER BY position",
        row
    )
    .fetch_all(connection)
    .await?;
    let known = rows.into_iter().map(|row| {
        let unreadable = || sqlx::Error::Decode(format!("event {}", row.event_id).into());
        Ok(KnownEvent {
            event_id: row.event_id.parse().map_err(|_| unreadable())?,
            revision: u32::try_from(row.revision).map_err(|_| unreadable())?,
            late: row.late == 1,
            fingerprints: Fingerprint::unpack(&row.forms).ok_or_else(unreadable)?,
            flapped: row.flapped == 1,
            missing_polls: u32::try_from(row.missing_polls).map_err(|_| unreadable())?,
            retracted: row.retracted_at.is_some(),
            fell_off: row.fell_off == 1,
            raw: row.raw.into(),
        })
    });
    known.collect()
}

/// An event as it is written.
struct EventWrite<'a> {
    record: &'a PollRecord,
    event: &'a KnownEvent,
    /// In the label's history, from 1.
    position: usize,
}

const INSERT: Bulk = Bulk {
    before: "INSERT INTO tracking_events
        (label_key, event_id, position, revision, late, first_seen_at, changed_at, forms, raw) ",
    columns: 9,
    after: "",
};

const UPDATE: Bulk = Bulk {
    before: "WITH new (label_key, event_id, revision, now, missing_polls, retracted, fell_off, flapped, forms, raw) AS (",
    columns: 10,
    after: ") UPDATE tracking_events SET
        revision = new.revision,
        changed_at = iif(tracking_events.revision <> new.revision
            OR (retracted_at IS NOT NULL) <> new.retracted, new.now, changed_at),
        missing_polls = new.missing_polls,
        retracted_at = iif(new.retracted, coalesce(retracted_at, new.now), NULL),
        fell_off = new.fell_off, flapped = new.flapped, forms = new.forms, raw = new.raw
     FROM new WHERE tracking_events.label_key = new.label_key AND tracking_events.event_id = new.event_id",
};

const INSERT_CHANGE: Bulk = Bulk {
    before: "INSERT INTO event_changes (label_key, event_id, at, kind, fields, before) ",
    columns: 6,
    after: "",
};

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
        added.extend(news.map(|(place, event)| EventWrite {
            record,
            event,
            position: record.known_events + place + 1,
        }));
        for change in &record.events.updated {
            updated.push((record, &change.record));
            steps.extend(change.changes.iter().map(|step| (record, change.record.event_id, step)));
        }
    }
    added.sort_by_key(|write| (write.record.row, write.position));
    INSERT
        .execute(tx, &added, |write, values| {
            let (event, now) = (write.event, ms(write.record.polled_at));
            values
                .push(write.record.row)
                .push(event.event_id.to_string())
                .push(i64::try_from(write.position).unwrap_or(i64::MAX))
                .push(event.revision)
                .push(i64::from(event.late))
                .push(now)
                .push(now)
                .push(Fingerprint::pack(&event.fingerprints))
                .push(&*event.raw);
        })
        .await?;
    INSERT_CHANGE
        .execute(tx, &steps, |(record, event_id, step), values| {
            let (fields, before) = match step {
                EventChange::Revised { fields, before } => (json(fields), Some(&**before)),
                EventChange::Returned | EventChange::Retracted => ("[]".to_owned(), None),
            };
            values
                .push(record.row)
                .push(event_id.to_string())
                .push(ms(record.polled_at))
                .push(step.as_str())
                .push(fields)
                .push(before);
        })
        .await?;
    UPDATE
        .execute(tx, &updated, |(record, event), values| {
            values
                .push(record.row)
                .push(event.event_id.to_string())
                .push(event.revision)
                .push(ms(record.polled_at))
                .push(event.missing_polls)
                .push(i64::from(event.retracted))
                .push(i64::from(event.fell_off))
                .push(i64::from(event.flapped))
                .push(Fingerprint::pack(&event.fingerprints))
                .push(&*event.raw);
        })
        .await?;
    Ok(())
}
