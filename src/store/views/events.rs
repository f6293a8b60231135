//! All tracking events of a label, for `history`.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{count, on_one_line};
use crate::domain::messages::envelope::tracking_of;
use crate::domain::time::{serialize_instant, serialize_instant_or_null};
use crate::domain::tracking::replace_lone_surrogates;
use crate::store::{Store, StoreError, at};

/// A tracking event with its latest content.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    pub event_id: String,
    pub label_id: String,
    #[serde(serialize_with = "serialize_instant")]
    pub first_seen_at: Timestamp,
    pub revision: u64,
    pub late: bool,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub retracted_at: Option<Timestamp>,
    /// Its changes, oldest first.
    pub changes: Vec<ChangeView>,
    /// The event as received from the API.
    pub event: Box<RawValue>,
}

/// A change of an event.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    #[serde(serialize_with = "serialize_instant")]
    pub at: Timestamp,
    /// `revised`, `retracted` or `returned`.
    pub kind: String,
    /// For a revision: names of the changed fields.
    pub fields: Box<RawValue>,
    /// For a revision: the previous event as received from the API.
    pub before: Option<Box<RawValue>>,
}

/// A journey that `simulate` and the sandbox can play (contract 4.5).
#[derive(Clone, Debug, Serialize)]
pub struct JourneyView {
    pub label_id: String,
    #[serde(serialize_with = "serialize_instant")]
    pub registered_at: Timestamp,
    pub observations: Vec<ObservationView>,
}

/// The answer of the API from an instant on.
#[derive(Clone, Debug, Serialize)]
pub struct ObservationView {
    #[serde(serialize_with = "serialize_instant")]
    pub at: Timestamp,
    pub tracking: Box<RawValue>,
}

impl Store {
    /// Returns the label's events in order of recording; the events of the first poll are ordered oldest first.
    ///
    /// `limit`: the number of newest events, and of their newest changes.
    pub async fn label_events(&self, row: i64, limit: u32) -> Result<Vec<EventView>, StoreError> {
        let mut rows = sqlx::query!(
            "SELECT e.event_id, l.label_id, e.first_seen_at, e.revision, e.late, e.retracted_at, e.raw
             FROM tracking_events e JOIN labels l USING (label_key)
             WHERE e.label_key = ? ORDER BY e.position DESC LIMIT ?",
            row,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        rows.reverse();
        let mut changes = self.event_changes(row, limit).await?;
        let views = rows.into_iter().map(|row| EventView {
            changes: changes.remove(&row.event_id).unwrap_or_default(),
            event_id: row.event_id,
            label_id: row.label_id,
            first_seen_at: at(row.first_seen_at),
            revision: count(row.revision),
            late: row.late == 1,
            retracted_at: row.retracted_at.map(at),
            event: on_one_line(row.raw),
        });
        Ok(views.collect())
    }

    async fn event_changes(
        &self,
        row: i64,
        limit: u32,
    ) -> Result<HashMap<String, Vec<ChangeView>>, StoreError> {
        let mut rows = sqlx::query!(
            "SELECT event_id, at, kind, fields, before FROM event_changes WHERE label_key = ?
             ORDER BY change_key DESC LIMIT ?",
            row,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        rows.reverse();
        let mut changes: HashMap<String, Vec<ChangeView>> = HashMap::new();
        for row in rows {
            changes.entry(row.event_id).or_default().push(ChangeView {
                at: at(row.at),
                kind: row.kind,
                fields: on_one_line(row.fields),
                before: row.before.map(on_one_line),
            });
        }
        Ok(changes)
    }

    /// Returns the journey of a label as observed: every changed answer since the first poll, which counts as the time
    /// of registration. Leaves out answers that only confirmed a retraction, because they equal the answer before.
    /// `None` if no answer was recorded.
    pub async fn journey(&self, row: i64) -> Result<Option<JourneyView>, StoreError> {
        let label = sqlx::query!("SELECT label_id, first_answer_at FROM labels WHERE label_key = ?", row)
            .fetch_optional(&self.readers)
            .await?;
        let answered = label.and_then(|label| Some((label.label_id, at(label.first_answer_at?))));
        let Some((label_id, registered_at)) = answered else { return Ok(None) };
        let rows = sqlx::query!(
            "SELECT created_at, body FROM messages
             WHERE label_key = ? AND type = 'tracking.updated' ORDER BY seq",
            row
        )
        .fetch_all(&self.readers)
        .await?;
        let mut observations: Vec<ObservationView> = Vec::new();
        for row in rows {
            let Some(tracking) = tracking_of(&row.body) else { continue };
            let tracking = on_one_line(tracking.get().to_owned());
            if observations.last().is_none_or(|last| !are_equal(&last.tracking, &tracking)) {
                observations.push(ObservationView { at: at(row.created_at), tracking });
            }
        }
        Ok(Some(JourneyView { label_id, registered_at, observations }))
    }
}

/// Whether two answers are equal JSON values, regardless of the order of keys.
fn are_equal(one: &RawValue, other: &RawValue) -> bool {
    let value =
        |raw: &RawValue| serde_json::from_str::<serde_json::Value>(&replace_lone_surrogates(raw.get())).ok();
    one.get() == other.get() || value(one) == value(other)
}
