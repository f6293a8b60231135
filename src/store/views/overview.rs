//! What the overview of the status page and `/metrics` count: labels by account and state, and the size of the database.

use super::count;
use crate::store::{Store, StoreError};

/// How many labels of an account are in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    pub account: String,
    pub state: String,
    pub labels: u64,
}

impl Store {
    pub async fn label_tally(&self) -> Result<Vec<Tally>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT account, state, count(*) AS "labels!: i64" FROM labels GROUP BY account, state"#
        )
        .fetch_all(&self.readers)
        .await?;
        let tally = |account, state, labels| Tally { account, state, labels: count(labels) };
        Ok(rows.into_iter().map(|row| tally(row.account, row.state, row.labels)).collect())
    }

    /// The size of the database without its write-ahead log.
    pub fn database_bytes(&self) -> u64 {
        self.path().metadata().map_or(0, |file| file.len())
    }
}
