//! What is due: the heads of each pace's queue, and the labels behind them.
//!
//! In which order they are served is decided by [`crate::domain::pace`]. With a million labels due only the heads are
//! read, through an index, so a look costs as much as with a hundred. Labels of a carrier that waits are left out.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Store, StoreError, at, json, ms};
use crate::domain::label::{AccountName, LabelId, LabelKey, LabelState, Metadata};
use crate::domain::pace::{Due, Pace, Queue};
use crate::domain::snapshot::{Snapshot, Standing};

/// At least so many of each queue are read.
const HEADS: i64 = 8;

impl Store {
    /// What is due at `now`, enough to serve some `count` labels; `busy` more may be under way already.
    pub async fn due_queues(
        &self,
        account: &AccountName,
        now: Timestamp,
        count: u32,
        busy: usize,
    ) -> Result<Vec<Queue>, StoreError> {
        let (account, now, count) = (account.as_str(), ms(now), i64::from(count));
        let (fewest, busy) = (HEADS, i64::try_from(busy).unwrap_or(i64::MAX));
        let rows = sqlx::query!(
            r#"WITH asked AS MATERIALIZED (
                SELECT ?5 + max(?4, 2 * ?3 / max(1, (SELECT count(*) FROM paces WHERE account = ?1 AND labels > 0))) AS most
             )
             SELECT p.pace_ms, asked.most AS "most!: i64",
                (SELECT json_group_array(json_array(label_key, next_poll_at)) FROM (
                    SELECT label_key, next_poll_at FROM labels INDEXED BY labels_pace
                    WHERE account = p.account AND carrier = p.carrier AND pace_ms = p.pace_ms AND next_poll_at <= ?2
                    ORDER BY next_poll_at, label_key LIMIT (SELECT most FROM asked))) AS "heads!: String",
                CASE WHEN p.pace_ms = 0 THEN (SELECT json_group_array(json_array(label_key, next_poll_at)) FROM (
                    SELECT label_key, next_poll_at FROM labels INDEXED BY labels_pace
                    WHERE account = p.account AND carrier = p.carrier AND pace_ms = 0 AND next_poll_at <= ?2
                    ORDER BY next_poll_at DESC, label_key DESC LIMIT ?5 + ?3 / 4 + 1)) END AS "newest: String"
             FROM asked, paces p
             WHERE p.account = ?1 AND p.labels > 0
               AND p.carrier NOT IN (SELECT carrier FROM carriers WHERE account = ?1 AND held_until > ?2)"#,
            account,
            now,
            count,
            fewest,
            busy
        )
        .fetch_all(&self.readers)
        .await?;
        let queue = |pace_ms, most: i64, heads: &str, newest: Option<&str>| {
            let heads = pairs(heads);
            let more = i64::try_from(heads.len()).unwrap_or(i64::MAX) >= most;
            Queue {
                pace: Pace::from_millis(pace_ms),
                heads,
                more,
                newest: newest.map(pairs).unwrap_or_default(),
            }
        };
        let queues = rows.iter().map(|row| queue(row.pace_ms, row.most, &row.heads, row.newest.as_deref()));
        Ok(queues.filter(|queue| !queue.heads.is_empty()).collect())
    }

    /// The labels of these rows, in this order, as far as they are still due at `now`.
    pub async fn due_labels(&self, rows: &[i64], now: Timestamp) -> Result<Vec<Snapshot>, StoreError> {
        let (keys, now) = (json(rows), ms(now));
        let found = sqlx::query_as!(
            LabelRow,
            "SELECT label_key, account, label_id, state, metadata, version, registered_at, first_answer_at,
                last_answer_at, last_changed_at, finished_at, next_poll_at, cadence_row, interval_ms, unchanged, failures,
                failing_since, refusals, refused_since, tracking_number, carrier_code, status_code,
                status_description, status_detail_code, estimate, out_for_delivery, utc_offset_minutes,
                answer_digest, missing_events, last_seq, newest_scan_at, stalled_told, late_told, recent_polls, wait_ms, pace_ms
             FROM labels WHERE label_key IN (SELECT value FROM json_each(?1)) AND next_poll_at <= ?2",
            keys,
            now
        )
        .fetch_all(&self.readers)
        .await?;
        let snapshots = found.into_iter().filter_map(LabelRow::snapshot).map(|label| (label.row, label));
        let mut snapshots: HashMap<i64, Snapshot> = snapshots.collect();
        Ok(rows.iter().filter_map(|row| snapshots.remove(row)).collect())
    }

    /// How many labels of the account are polled; counted up to `most`.
    pub async fn polled_labels(&self, account: &AccountName, most: usize) -> Result<usize, StoreError> {
        let (account, most) = (account.as_str(), i64::try_from(most).unwrap_or(i64::MAX));
        let labels = sqlx::query_scalar!(
            "SELECT count(*) FROM (SELECT 1 FROM labels WHERE account = ? AND next_poll_at IS NOT NULL LIMIT ?)",
            account,
            most
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(usize::try_from(labels).unwrap_or(0))
    }

    /// When the account's next label falls due after `now`.
    pub async fn next_due(
        &self,
        account: &AccountName,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (account, now) = (account.as_str(), ms(now));
        let next = sqlx::query_scalar!(
            r#"SELECT min(next_poll_at) AS "next: i64" FROM labels WHERE account = ? AND next_poll_at > ?"#,
            account,
            now
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(next.map(at))
    }

    /// What the labels of the account ask for, in requests per second.
    pub async fn demand(&self, account: &AccountName) -> Result<f64, StoreError> {
        let account = account.as_str();
        let demand = sqlx::query_scalar!(
            r#"SELECT coalesce(sum(nanohertz), 0) AS "demand!: i64" FROM paces WHERE account = ?"#,
            account
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(demand as f64 / 1e9)
    }
}

fn pairs(json: &str) -> Vec<Due> {
    let pairs: Vec<(i64, i64)> = serde_json::from_str(json).unwrap_or_default();
    pairs.into_iter().map(|(row, due)| (row, at(due))).collect()
}

struct LabelRow {
    label_key: i64,
    account: String,
    label_id: String,
    state: String,
    metadata: String,
    version: i64,
    registered_at: i64,
    first_answer_at: Option<i64>,
    last_answer_at: Option<i64>,
    last_changed_at: Option<i64>,
    finished_at: Option<i64>,
    next_poll_at: Option<i64>,
    cadence_row: Option<String>,
    interval_ms: Option<i64>,
    unchanged: i64,
    failures: i64,
    failing_since: Option<i64>,
    refusals: i64,
    refused_since: Option<i64>,
    tracking_number: Option<String>,
    carrier_code: Option<String>,
    status_code: Option<String>,
    status_description: Option<String>,
    status_detail_code: Option<String>,
    estimate: Option<String>,
    out_for_delivery: i64,
    utc_offset_minutes: Option<i64>,
    answer_digest: Option<Vec<u8>>,
    missing_events: i64,
    last_seq: i64,
    newest_scan_at: Option<i64>,
    stalled_told: i64,
    late_told: i64,
    recent_polls: String,
    wait_ms: i64,
    pace_ms: i64,
}

impl LabelRow {
    /// `None` for a row whose id or state this version doesn't know: it is left alone.
    fn snapshot(self) -> Option<Snapshot> {
        let id: LabelId = self.label_id.parse().ok()?;
        let metadata: Metadata = serde_json::from_str(&self.metadata).unwrap_or_default();
        let span = |ms: i64| u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let count = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        Some(Snapshot {
            row: self.label_key,
            key: LabelKey { account: AccountName::new(&self.account), id },
            metadata,
            version: self.version,
            registered_at: at(self.registered_at),
            standing: Standing {
                state: LabelState::parse(&self.state)?,
                first_answer_at: self.first_answer_at.map(at),
                last_answer_at: self.last_answer_at.map(at),
                last_changed_at: self.last_changed_at.map(at),
                finished_at: self.finished_at.map(at),
                next_poll_at: self.next_poll_at.map(at),
                cadence_row: self.cadence_row,
                interval_ms: self.interval_ms,
                wait: span(self.wait_ms),
                pace: span(self.pace_ms),
                unchanged: count(self.unchanged),
                failures: count(self.failures),
                failing_since: self.failing_since.map(at),
                refusals: count(self.refusals),
                refused_since: self.refused_since.map(at),
                tracking_number: self.tracking_number,
                carrier_code: self.carrier_code,
                status_code: self.status_code,
                status_description: self.status_description,
                status_detail_code: self.status_detail_code,
                estimate: self.estimate,
                out_for_delivery: self.out_for_delivery == 1,
                utc_offset_minutes: self.utc_offset_minutes.and_then(|minutes| i32::try_from(minutes).ok()),
                answer_digest: self.answer_digest.and_then(|bytes| bytes.try_into().ok()),
                missing_events: count(self.missing_events),
                last_seq: self.last_seq,
                newest_scan_at: self.newest_scan_at.map(at),
                stalled_told: self.stalled_told == 1,
                late_told: self.late_told == 1,
            },
            recent_polls: self.recent_polls,
        })
    }
}
