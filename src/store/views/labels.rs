//! Labels, for `labels list`, `labels show` and `explain`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{FromRow as _, Row as _};

use super::{PAGE, count, on_one_line};
use crate::domain::polling::label_record::PollState;
use crate::domain::polling::pace::Pace;
use crate::domain::polling::poll::PollSummary;
use crate::domain::time::{serialize_instant, serialize_instant_or_null};
use crate::store::label_row::label_record;
use crate::store::{Store, StoreError, at, from_json};

/// A label in a list.
#[derive(Clone, Debug, Serialize)]
pub struct LabelView {
    pub label_id: String,
    pub account: String,
    pub state: String,
    pub status_code: Option<String>,
    pub tracking_number: Option<String>,
    #[serde(serialize_with = "serialize_instant")]
    pub registered_at: Timestamp,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub last_polled_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub last_changed_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub next_poll_at: Option<Timestamp>,
    /// Interval by which lateness is measured: the exact wait where it rounds to the stored pace, else the pace. `None`:
    /// due as soon as the quota allows.
    #[serde(skip)]
    pub pace: Option<Duration>,
    pub unchanged: u64,
    /// Consecutive failures or refusals; only one of them counts at a time.
    pub failures: u64,
    pub metadata: Box<RawValue>,
    pub source: String,
}

/// Details of a label.
#[derive(Clone, Debug)]
pub struct LabelDetail {
    pub poll_state: PollState,
    /// Origins of its registration: `config`, `hand`, `discovery`.
    pub registered_by: Vec<&'static str>,
    /// Newest last.
    pub recent_polls: Vec<PollSummary>,
}

/// Number of labels of an account in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelCount {
    pub account: String,
    pub state: String,
    pub labels: u64,
}

/// Filter for labels.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelFilter<'a> {
    pub state: Option<&'a str>,
    pub account: Option<&'a str>,
    /// A text in id, tracking number or metadata, ignoring the case of ASCII letters.
    pub find: Option<&'a str>,
}

/// A reference to a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRef {
    pub row: i64,
    pub account: String,
    pub label_id: String,
}

#[derive(sqlx::FromRow)]
struct ViewRow {
    label_id: String,
    account: String,
    state: String,
    status_code: Option<String>,
    tracking_number: Option<String>,
    registered_at: i64,
    last_polled_at: Option<i64>,
    last_changed_at: Option<i64>,
    next_poll_at: Option<i64>,
    wait_ms: i64,
    pace_ms: i64,
    unchanged: i64,
    failures: i64,
    refusals: i64,
    metadata: String,
    source: String,
}

impl From<ViewRow> for LabelView {
    fn from(row: ViewRow) -> Self {
        let span = |ms: i64| Some(Duration::from_millis(count(ms))).filter(|span| !span.is_zero());
        Self {
            label_id: row.label_id,
            account: row.account,
            state: row.state,
            status_code: row.status_code,
            tracking_number: row.tracking_number,
            registered_at: at(row.registered_at),
            last_polled_at: row.last_polled_at.map(at),
            last_changed_at: row.last_changed_at.map(at),
            next_poll_at: row.next_poll_at.map(at),
            pace: span(row.wait_ms)
                .filter(|wait| Pace::of(*wait).as_millis() == row.pace_ms)
                .or(span(row.pace_ms)),
            unchanged: count(row.unchanged),
            failures: count(row.failures.saturating_add(row.refusals)),
            metadata: on_one_line(row.metadata),
            source: row.source,
        }
    }
}

impl Store {
    /// Returns the labels with this id, one for each account that has it.
    pub async fn labels_named(&self, label_id: &str) -> Result<Vec<LabelRef>, StoreError> {
        let rows = sqlx::query_as!(
            LabelRef,
            "SELECT label_key AS row, account, label_id FROM labels WHERE label_id = ? ORDER BY account",
            label_id
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows)
    }

    /// Returns at most two labels with this tracking number, enough to detect an ambiguous number.
    pub async fn labels_tracked_as(
        &self,
        tracking_number: &str,
        account: Option<&str>,
    ) -> Result<Vec<LabelRef>, StoreError> {
        let like = containing(tracking_number);
        // The index finds all labels that contain the number somewhere.
        let rows = sqlx::query_as!(
            LabelRef,
            r#"SELECT label_key AS row, account, label_id FROM labels
               WHERE tracking_number = ?1 AND (?2 IS NULL OR account = ?2) AND label_key IN (
                   SELECT label_key FROM labels
                   WHERE label_id || char(10) || coalesce(tracking_number, '') || char(10) || metadata LIKE ?3 ESCAPE '\')
               LIMIT 2"#,
            tracking_number,
            account,
            like
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows)
    }

    /// Counts the labels by account and state.
    pub async fn label_counts(&self) -> Result<Vec<LabelCount>, StoreError> {
        let rows = sqlx::query!(
            r#"SELECT account, state, count(*) AS "labels!: i64" FROM labels GROUP BY account, state"#
        )
        .fetch_all(&self.readers)
        .await?;
        let label_count = |account, state, labels| LabelCount { account, state, labels: count(labels) };
        Ok(rows.into_iter().map(|row| label_count(row.account, row.state, row.labels)).collect())
    }

    /// Returns the keys of at most `limit` matching labels, in no order. Reads a covering index only, and returns one
    /// text, because sqlx spends more time per row than SQLite.
    pub async fn find_labels(&self, wanted: LabelFilter<'_>, limit: u32) -> Result<Vec<i64>, StoreError> {
        let LabelFilter { state, account, find } = wanted;
        let find = find.map(containing);
        let keys = sqlx::query_scalar!(
            r#"SELECT json_group_array(label_key) AS "keys!: String" FROM (
                   SELECT label_key FROM labels
                   WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR account = ?2)
                     AND (?3 IS NULL OR label_id || char(10) || coalesce(tracking_number, '') || char(10) || metadata
                          LIKE ?3 ESCAPE '\')
                   LIMIT ?4)"#,
            state,
            account,
            find,
            limit
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(from_json(&keys)?)
    }

    /// Returns labels by their keys, in order of registration.
    pub async fn label_views(&self, rows: &[i64]) -> Result<Vec<LabelView>, StoreError> {
        let rows = crate::store::json(rows);
        let rows = sqlx::query_as!(
            ViewRow,
            r#"SELECT label_id, account, state, status_code, tracking_number, registered_at,
                last_polled_at, last_changed_at, next_poll_at, wait_ms, pace_ms, unchanged,
                failures, refusals, metadata, source
             FROM labels WHERE label_key IN (SELECT value FROM json_each(?)) ORDER BY label_key"#,
            rows
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(LabelView::from).collect())
    }

    /// Returns the keys of the next labels after `after`, in order of registration; empty at the end.
    pub async fn label_rows(&self, after: i64) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query_scalar!(
            "SELECT label_key FROM labels WHERE label_key > ? ORDER BY label_key LIMIT ?",
            after,
            PAGE
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows)
    }

    /// Returns a label with its details; `None` if it was deleted.
    pub async fn label_detail(&self, row: i64) -> Result<Option<(LabelView, LabelDetail)>, StoreError> {
        let found = sqlx::query("SELECT * FROM labels WHERE label_key = ?").bind(row);
        let Some(row) = found.fetch_optional(&self.readers).await? else { return Ok(None) };
        let Some(record) = label_record(&row)? else { return Ok(None) };
        let origins = [("config", "by_config"), ("hand", "by_hand"), ("discovery", "by_discovery")];
        let mut registered_by = Vec::new();
        for (name, column) in origins {
            if row.try_get(column)? {
                registered_by.push(name);
            }
        }
        let detail = LabelDetail {
            poll_state: record.poll_state,
            registered_by,
            recent_polls: serde_json::from_str(&record.recent_polls).unwrap_or_default(),
        };
        Ok(Some((LabelView::from(ViewRow::from_row(&row)?), detail)))
    }
}

/// Returns the pattern of LIKE for texts that contain `find`.
fn containing(find: &str) -> String {
    let escaped = find.chars().flat_map(|c| {
        let special = matches!(c, '%' | '_' | '\\');
        special.then_some('\\').into_iter().chain([c])
    });
    format!("%{}%", escaped.collect::<String>())
}
