//! Tracking events of labels and their changes.
//!
//! Part of a poll's transaction: many rows per statement, in order of recording.

use sqlx::SqliteConnection;

use super::bulk::{Bulk, insert};
use super::records::PollRecord;
use super::{json, ms};
use crate::domain::tracking::history::EventChange;
use crate::domain::tracking::matching::{Fingerprint, KnownEvent};

/// Selects the whole history of a label as one text, because sqlx spends more time per row than SQLite. JSON escapes
/// control characters, so neither separator occurs in it.
macro_rules! history_of {
    ($label:literal) => {
        concat!(
            "(SELECT group_concat(format('%d\x1f%s\x1f%d\x1f%d\x1f%d\x1f%d\x1f%d\x1f%d\x1f%s\x1f%s', position, event_id,
                revision, late, missing_polls, retracted_at IS NOT NULL, fell_off, flapped, hex(fingerprints), raw), '\x1e')
              FROM tracking_events WHERE label_key = ", $label, ")"
        )
    };
}
pub(super) use history_of;

/// Parses a text of [`history_of`], in order of recording.
pub(super) fn read_history(text: &str) -> Result<Vec<KnownEvent>, sqlx::Error> {
    let events = text
        .split('\x1e')
        .map(|event| read_event(event).ok_or_else(|| sqlx::Error::Decode(format!("event {event}").into())));
    let mut events = events.collect::<Result<Vec<_>, _>>()?;
    events.sort_by_key(|(position, _)| *position);
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

fn read_event(text: &str) -> Option<(u32, KnownEvent)> {
    let mut fields = text.splitn(10, '\x1f');
    let position = fields.next()?.parse().ok()?;
    let event = KnownEvent {
        event_id: fields.next()?.parse().ok()?,
        revision: fields.next()?.parse().ok()?,
        late: fields.next()? == "1",
        missing_polls: fields.next()?.parse().ok()?,
        retracted: fields.next()? == "1",
        fell_off: fields.next()? == "1",
        flapped: fields.next()? == "1",
        fingerprints: Fingerprint::from_hex(fields.next()?)?,
        raw: fields.next()?.into(),
    };
    Some((position, event))
}

/// An event to write.
struct EventWrite<'a> {
    record: &'a PollRecord,
    event: &'a KnownEvent,
    /// Position in the label's history, from 1.
    position: usize,
}

const INSERT: Bulk = insert!(
    "tracking_events
     (label_key, position, event_id, revision, late, first_seen_at, fingerprints, raw)",
    8
);

const UPDATE: Bulk = Bulk {
    before: "WITH new (label_key, event_id, revision, missing_polls, fell_off, flapped, fingerprints, raw) AS (",
    columns: 8,
    after: ") UPDATE tracking_events SET
        revision = new.revision, missing_polls = new.missing_polls, fell_off = new.fell_off,
        flapped = new.flapped, fingerprints = new.fingerprints, raw = new.raw
     FROM new WHERE tracking_events.label_key = new.label_key AND tracking_events.event_id = new.event_id",
};

const UPDATE_RETRACTED: Bulk = Bulk {
    before: "WITH new (label_key, event_id, retracted_at) AS (",
    columns: 3,
    after: ") UPDATE tracking_events SET retracted_at = new.retracted_at
     FROM new WHERE tracking_events.label_key = new.label_key AND tracking_events.event_id = new.event_id",
};

const INSERT_CHANGE: Bulk = insert!("event_changes (label_key, event_id, at, kind, fields, before)", 6);

/// Writes the event changes of polls into an open transaction.
pub(super) async fn write_events(
    tx: &mut SqliteConnection,
    records: &[&PollRecord],
) -> Result<(), sqlx::Error> {
    let mut added = Vec::new();
    let mut updated = Vec::new();
    let mut changed = Vec::new();
    let mut steps = Vec::new();
    for record in records {
        let new = record.plan.events.added.iter().enumerate();
        added.extend(new.map(|(index, event)| EventWrite {
            record,
            event,
            position: record.known_events + index + 1,
        }));
        for change in &record.plan.events.updated {
            updated.push((record, &change.record));
            // Only this poll can have retracted it, because a retracted event in the answer returns.
            if !change.changes.is_empty() {
                let retracted_at = change.record.retracted.then_some(record.polled_at);
                changed.push((record, change.record.event_id, retracted_at));
            }
            steps.extend(change.changes.iter().map(|step| (record, change.record.event_id, step)));
        }
    }
    INSERT
        .execute(tx, &added, |write, values| {
            let (event, now) = (write.event, ms(write.record.polled_at));
            values
                .push(write.record.row)
                .push(i64::try_from(write.position).unwrap_or(i64::MAX))
                .push(event.event_id.to_string())
                .push(event.revision)
                .push(i64::from(event.late))
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
                .push(event.missing_polls)
                .push(i64::from(event.fell_off))
                .push(i64::from(event.flapped))
                .push(Fingerprint::pack(&event.fingerprints))
                .push(&*event.raw);
        })
        .await?;
    UPDATE_RETRACTED
        .execute(tx, &changed, |(record, event_id, retracted_at), values| {
            values.push(record.row).push(event_id.to_string()).push(retracted_at.map(ms));
        })
        .await?;
    Ok(())
}
