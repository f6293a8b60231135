//! Reads of labels for the schedule and the polls.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::label_row::label_record;
use super::{Store, StoreError};
use crate::domain::label::AccountName;
use crate::domain::polling::label_record::LabelRecord;

/// A page of the polled labels.
#[derive(Debug)]
pub struct SchedulePage {
    pub labels: Vec<LabelRecord>,
    /// Start of the next page; `None`: this was the last.
    pub last_row: Option<i64>,
}

/// A page of the labels that the registry changed.
#[derive(Debug)]
pub struct ChangedLabels {
    pub labels: Vec<LabelRecord>,
    /// The registry version up to which the page is complete.
    pub version: i64,
    pub more: bool,
}

impl Store {
    /// Returns the polled labels of an account after the row `after`, ordered by key.
    pub async fn scheduled_labels(
        &self,
        account: &AccountName,
        after: i64,
        limit: u32,
    ) -> Result<SchedulePage, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM labels WHERE label_key > ? AND account = ? AND next_poll_at IS NOT NULL
             ORDER BY label_key LIMIT ?",
        )
        .bind(after)
        .bind(account.as_str())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let last_row = rows.last().filter(|_| rows.len() >= limit as usize);
        let last_row = last_row.map(|row| row.try_get("label_key")).transpose()?;
        Ok(SchedulePage { labels: records(&rows)?, last_row })
    }

    /// Returns the labels of an account that the registry changed after `version`, polled or not. The changes of a
    /// transaction have one version and are returned together, so a page may be longer than `limit`.
    pub async fn changed_labels(
        &self,
        account: &AccountName,
        version: i64,
        limit: u32,
    ) -> Result<ChangedLabels, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let until = sqlx::query_scalar!(
            r#"SELECT max(version) AS "until: i64" FROM
                (SELECT version FROM labels WHERE version > ? ORDER BY version LIMIT ?)"#,
            version,
            limit
        )
        .fetch_one(&mut *connection)
        .await?;
        let Some(until) = until else {
            return Ok(ChangedLabels { labels: Vec::new(), version, more: false });
        };
        let rows = sqlx::query("SELECT * FROM labels WHERE version > ? AND version <= ? AND account = ?")
            .bind(version)
            .bind(until)
            .bind(account.as_str())
            .fetch_all(&mut *connection)
            .await?;
        Ok(ChangedLabels { labels: records(&rows)?, version: until, more: true })
    }
}

fn records(rows: &[SqliteRow]) -> Result<Vec<LabelRecord>, sqlx::Error> {
    rows.iter().filter_map(|row| label_record(row).transpose()).collect()
}
