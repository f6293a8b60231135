//! Reads of labels for the schedule and the polls.

use super::label_row::LabelRow;
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

/// Selects all columns of a [`LabelRow`]; takes the condition.
macro_rules! select_labels {
    ($condition:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            LabelRow,
            "SELECT label_key, account, label_id, state, metadata, version, registered_at,
                first_answer_at, last_answer_at, last_changed_at, finished_at, next_poll_at,
                wait_ms, pace_ms, reason, unchanged, failures, failing_since, refusals, refused_since,
                tracking_number, carrier_code, status_code, status_description, status_detail_code, estimate,
                out_for_delivery, utc_offset_minutes, answer_digest, missing_events, last_seq, newest_scan_at,
                delivered_beneath_at, stalled_told, late_told, recent_polls
             FROM labels WHERE " + $condition,
            $($argument),*
        )
    };
}

impl Store {
    /// Returns the polled labels of an account after the row `after`, ordered by key.
    pub async fn scheduled_labels(
        &self,
        account: &AccountName,
        after: i64,
        limit: u32,
    ) -> Result<SchedulePage, StoreError> {
        let account = account.as_str();
        let rows = select_labels!(
            "label_key > ? AND account = ? AND next_poll_at IS NOT NULL ORDER BY label_key LIMIT ?",
            after,
            account,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        let last_row = rows.last().map(|row| row.label_key).filter(|_| rows.len() >= limit as usize);
        Ok(SchedulePage { labels: rows.into_iter().filter_map(LabelRow::into_record).collect(), last_row })
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
        let name = account.as_str();
        let rows = select_labels!("version > ? AND version <= ? AND account = ?", version, until, name)
            .fetch_all(&mut *connection)
            .await?;
        let labels = rows.into_iter().filter_map(LabelRow::into_record).collect();
        Ok(ChangedLabels { labels, version: until, more: true })
    }
}
