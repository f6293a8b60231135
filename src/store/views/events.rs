//! Every carrier event of a label ever seen, as `history` shows it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{count, instant, instant_or_null, on_one_line};
use crate::domain::messages::envelope::tracking_of;
use crate::domain::tracking::replace_lone_surrogates;
use crate::store::{Store, StoreError, at};

/// A carrier event as it stands now.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    pub event_id: String,
    pub label_id: String,
    #[serde(serialize_with = "instant")]
    pub first_seen_at: Timestamp,
    pub revision: u64,
    pub late: bool,
    #[serde(serialize_with = "instant_or_null")]
    pub retracted_at: Option<Timestamp>,
    /// What became of it since, oldest first.
    pub changes: Vec<ChangeView>,
    /// The API's own object.
    pub event: Box<RawValue>,
}

/// A step in an event's life.
#[derive(Clone, Debug, Serialize)]
pub struct ChangeView {
    #[serde(serialize_with = "instant")]
    pub at: Timestamp,
    /// `revised`, `retracted` or `returned`.
    pub kind: String,
    /// For a revision: the names of the fields that changed.
    pub fields: Box<RawValue>,
    /// For a revision: the API's own object as it was.
    pub before: Option<Box<RawValue>>,
}

/// A journey as `simulate` and the sandbox play it (contract 4.5).
#[derive(Clone, Debug, Serialize)]
pub struct JourneyView {
    pub label_id: String,
    #[serde(serialize_with = "instant")]
    pub registered_at: Timestamp,
    pub observations: Vec<ObservationView>,
}

/// What the API answered from a moment on.
#[derive(Clone, Debug, Serialize)]
pub struct ObservationView {
    #[serde(serialize_with = "instant")]
    pub at: Timestamp,
    pub tracking: Box<RawValue>,
}

impl Store {
    /// The label's events in the order of their recording; within its first poll that is oldest first already.
    pub async fn label_events(&self, row: i64) -> Result<Vec<EventView>, StoreError> {
        let rows = sqlx::query!(
            "SELECT e.event_id, l.label_id, e.first_seen_at, e.revision, e.late, e.retracted_at, e.raw
             FROM tracking_events e JOIN labels l USING (label_key)
             WHERE e.label_key = ? ORDER BY e.position",
            row
        )
        .fetch_all(&self.readers)
        .await?;
        let mut changes = self.event_changes(row).await?;
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

    async fn event_changes(&self, row: i64) -> Result<HashMap<String, Vec<ChangeView>>, StoreError> {
        let rows = sqlx::query!(
            "SELECT event_id, at, kind, fields, before FROM event_changes WHERE label_key = ? ORDER BY change_key",
            row
        )
        .fetch_all(&self.readers)
        .await?;
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

    /// The journey of a label as it was noticed: every answer that was news, from the first look on, which is when it
    /// counts as registered. One that only made an event's absence certain says what the answer before it said, and is
    /// left out. `None` if it never answered.
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
            if observations.last().is_none_or(|last| !say_the_same(&last.tracking, &tracking)) {
                observations.push(ObservationView { at: at(row.created_at), tracking });
            }
        }
        Ok(Some(JourneyView { label_id, registered_at, observations }))
    }
}

/// Whether two answers are one JSON value, in whatever order of keys.
fn say_the_same(one: &RawValue, other: &RawValue) -> bool {
    let value =
        |raw: &RawValue| serde_json::from_str::<serde_json::Value>(&replace_lone_surrogates(raw.get())).ok();
    one.get() == other.get() || value(one) == value(other)
}
