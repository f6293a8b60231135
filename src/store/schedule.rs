//! Reads of labels for the schedule and the polls.

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::label_row::label_record;
use super::{Store, StoreError, ms};
use crate::domain::label::AccountName;
use crate::domain::polling::label_record::LabelRecord;

// The plus keeps SQLite from reading all labels of the account by an index that begins with it.
const SCHEDULED: &str =
    "SELECT * FROM labels WHERE label_key > ? AND +account = ? AND next_poll_at IS NOT NULL
     ORDER BY label_key LIMIT ?";
const CHANGED: &str = "SELECT * FROM labels WHERE version > ? AND version <= ? AND +account = ?";

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
        let rows = sqlx::query(SCHEDULED)
            .bind(after)
            .bind(account.as_str())
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
        let last_row = rows.last().filter(|_| rows.len() >= limit as usize);
        let last_row = last_row.map(|row| row.try_get("label_key")).transpose()?;
        Ok(SchedulePage { labels: records(&rows)?, last_row })
    }

    /// Makes each label of the account due after its whole wait from `now` at the latest: the clock may have been ahead
    /// when the wait was planned. Without this each start would begin the wait anew.
    pub async fn pull_in_labels(&self, account: &AccountName, now: Timestamp) -> Result<(), StoreError> {
        let (account, now) = (account.to_string(), ms(now));
        // FAIL: without it SQLite would keep a copy of each changed page in memory, to undo the statement.
        let pull_in = sqlx::query!(
            "UPDATE OR FAIL labels SET next_poll_at = ?2 + wait_ms
             WHERE +account = ?1 AND next_poll_at > ?2 + wait_ms",
            account,
            now
        );
        self.execute(pull_in).await.map(drop)
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
        let rows = sqlx::query(CHANGED)
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

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;

    #[tokio::test]
    async fn a_page_is_found_by_its_key_or_version() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _writer) = crate::store::open(&directory.path().join("t.db")).await.unwrap();
        for (query, index) in [
            (SCHEDULED, "USING INTEGER PRIMARY KEY (rowid>?)"),
            (CHANGED, "labels_changed (version>? AND version<?)"),
        ] {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")))
                .fetch_all(&store.readers)
                .await
                .unwrap();
            let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            assert!(steps.len() == 1 && steps[0].contains(index), "{steps:?}");
        }
    }
}
