//! Every carrier event of a label ever seen, as `history` shows it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{count, instant, instant_or_null, on_one_line};
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
    /// The API's own object.
    pub event: Box<RawValue>,
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
        let views = rows.into_iter().map(|row| EventView {
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
}
