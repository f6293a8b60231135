//! Counts for the overview of the status page and `/metrics`: labels by account and state, and the size of the
//! database.

use super::count;
use crate::store::{Store, StoreError};

/// Number of labels of an account in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    pub account: String,
    pub state: String,
    pub labels: u64,
}

impl Store {
    pub async fn label_counts_by_account(&self) -> Result<Vec<LabelCount>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT account, state, count(*) AS "labels!: i64" FROM labels GROUP BY account, state"#
        )
        .fetch_all(&self.readers)
        .await?;
        let label_count = |account, state, labels| LabelCount { account, state, labels: count(labels) };
        Ok(rows.into_iter().map(|row| label_count(row.account, row.state, row.labels)).collect())
    }

    /// Returns the size of the database without its write-ahead log.
    pub fn database_bytes(&self) -> u64 {
        self.path().metadata().map_or(0, |file| file.len())
    }
}
