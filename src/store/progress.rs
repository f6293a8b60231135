//! Progress of labels and deliveries, for `trackpost demo`.

use super::{Store, StoreError, to_u32};
use crate::domain::label::LabelState;

/// Progress of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelProgress {
    pub label_id: String,
    pub state: LabelState,
    /// Whether another poll is planned.
    pub is_polled: bool,
    /// Number of consecutive failed polls.
    pub failures: u32,
}

/// A message with a delivery to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExpectedDelivery {
    pub subscriber: String,
    pub message_id: String,
}

impl Store {
    /// Returns all labels, in order of registration.
    pub async fn progress(&self) -> Result<Vec<LabelProgress>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT label_id, state, next_poll_at IS NOT NULL AS "is_polled!: bool", failures
               FROM labels ORDER BY label_key"#
        )
        .fetch_all(&self.readers)
        .await?;
        let progress = rows.into_iter().filter_map(|row| {
            Some(LabelProgress {
                label_id: row.label_id,
                state: LabelState::parse(&row.state)?,
                is_polled: row.is_polled,
                failures: to_u32(row.failures),
            })
        });
        Ok(progress.collect())
    }

    /// Returns the number of pending deliveries.
    pub async fn pending_deliveries(&self) -> Result<u64, StoreError> {
        let pending = sqlx::query_scalar!("SELECT count(*) FROM deliveries WHERE state = 'pending'")
            .fetch_one(&self.readers)
            .await?;
        Ok(pending.unsigned_abs())
    }

    /// Returns every message for every subscriber, delivered or not.
    pub async fn expected_deliveries(&self) -> Result<Vec<ExpectedDelivery>, StoreError> {
        let expected = sqlx::query_as!(
            ExpectedDelivery,
            "SELECT d.subscriber, m.message_id FROM deliveries d JOIN messages m USING (message_key)
             ORDER BY d.delivery_key"
        )
        .fetch_all(&self.readers);
        Ok(expected.await?)
    }
}
