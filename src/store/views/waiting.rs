//! Position of a delivery in its lane, for `deliveries show`.

use jiff::Timestamp;

use super::count;
use crate::store::{Store, StoreError, at};

/// Position of a delivery in its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanePosition {
    pub queued_again_at: Option<Timestamp>,
    /// Key of the first pending delivery in its lane, if it is another one.
    pub head: Option<i64>,
    /// Number of pending deliveries before it.
    pub before: u64,
}

impl Store {
    pub async fn lane_position(&self, row: i64) -> Result<LanePosition, StoreError> {
        let found = sqlx::query!(
            r#"SELECT d.queued_again_at,
                 (SELECT e.delivery_key FROM deliveries e
                  WHERE e.subscriber = d.subscriber AND e.lane = d.lane AND e.state = 'pending'
                    AND e.position < d.position ORDER BY e.position LIMIT 1) AS "head: i64",
                 (SELECT count(*) FROM deliveries e
                  WHERE e.subscriber = d.subscriber AND e.lane = d.lane AND e.state = 'pending'
                    AND e.position < d.position) AS "before!: i64"
               FROM deliveries d WHERE d.delivery_key = ?"#,
            row
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok(found.map_or_else(LanePosition::default, |found| LanePosition {
            queued_again_at: found.queued_again_at.map(at),
            head: found.head,
            before: count(found.before),
        }))
    }
}
