//! Position of a delivery in its lane, for `deliveries show`.

use jiff::Timestamp;

use super::count;
use crate::store::{Store, StoreError, at};

/// Position of a delivery in its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub queued_again_at: Option<Timestamp>,
    /// Key of the first pending delivery in its lane, if it is another one.
    pub head: Option<i64>,
    /// Number of pending deliveries before it.
    pub before: u64,
}

impl Store {
    pub async fn place_of(&self, row: i64) -> Result<Place, StoreError> {
        let found = sqlx::query!(
            r#"SELECT d.queued_again_at,
                 (SELECT e.delivery_key FROM deliveries e
                  WHERE e.subscriber = d.subscriber AND e.lane = d.lane AND e.state = 'pending'
                    AND e.place < d.place ORDER BY e.place LIMIT 1) AS "head: i64",
                 (SELECT count(*) FROM deliveries e
                  WHERE e.subscriber = d.subscriber AND e.lane = d.lane AND e.state = 'pending'
                    AND e.place < d.place) AS "before!: i64"
               FROM deliveries d WHERE d.delivery_key = ?"#,
            row
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok(found.map_or_else(Place::default, |found| Place {
            queued_again_at: found.queued_again_at.map(at),
            head: found.head,
            before: count(found.before),
        }))
    }
}
