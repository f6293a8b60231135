//! The row of a label: reading it and writing it after a poll.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bulk::{Bulk, Values};
use super::{at, ms};
use crate::domain::label::{AccountName, LabelId, LabelKey, LabelState, Metadata};
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::pace::Pace;
use crate::domain::polling::reason::Reason;

/// A row of `labels`, without the columns of its registration.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LabelRow {
    pub label_key: i64,
    pub account: String,
    pub label_id: String,
    pub state: String,
    pub metadata: String,
    pub version: i64,
    pub registered_at: i64,
    pub first_answer_at: Option<i64>,
    pub last_answer_at: Option<i64>,
    pub last_changed_at: Option<i64>,
    pub finished_at: Option<i64>,
    pub next_poll_at: Option<i64>,
    pub wait_ms: i64,
    pub pace_ms: i64,
    pub reason: Option<String>,
    pub unchanged: i64,
    pub failures: i64,
    pub failing_since: Option<i64>,
    pub refusals: i64,
    pub refused_since: Option<i64>,
    pub tracking_number: Option<String>,
    pub carrier_code: Option<String>,
    pub status_code: Option<String>,
    pub status_description: Option<String>,
    pub status_detail_code: Option<String>,
    pub estimate: Option<String>,
    pub out_for_delivery: i64,
    pub utc_offset_minutes: Option<i64>,
    pub answer_digest: Option<Vec<u8>>,
    pub missing_events: i64,
    pub last_seq: i64,
    pub newest_scan_at: Option<i64>,
    pub delivered_beneath_at: Option<i64>,
    pub stalled_told: i64,
    pub late_told: i64,
    pub recent_polls: String,
}

impl LabelRow {
    /// Returns the label record; `None` if this version does not know the id or state of the row.
    pub(super) fn into_record(self) -> Option<LabelRecord> {
        let id: LabelId = self.label_id.parse().ok()?;
        let metadata = if self.metadata == "{}" {
            Metadata::new()
        } else {
            serde_json::from_str(&self.metadata).unwrap_or_default()
        };
        let span = |ms: i64| u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let count = |value: i64| u32::try_from(value).unwrap_or(u32::MAX);
        Some(LabelRecord {
            row: self.label_key,
            key: LabelKey { account: AccountName::new(&self.account), id },
            metadata,
            version: self.version,
            registered_at: at(self.registered_at),
            poll_state: PollState {
                state: LabelState::parse(&self.state)?,
                first_answer_at: self.first_answer_at.map(at),
                last_answer_at: self.last_answer_at.map(at),
                last_changed_at: self.last_changed_at.map(at),
                finished_at: self.finished_at.map(at),
                next_poll_at: self.next_poll_at.map(at),
                reason: self.reason.as_deref().and_then(Reason::from_json),
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
                delivered_beneath_at: self.delivered_beneath_at.map(at),
                stalled_told: self.stalled_told == 1,
                late_told: self.late_told == 1,
            },
            recent_polls: self.recent_polls,
        })
    }
}

/// The label columns that a poll writes.
#[derive(Debug)]
pub(super) struct Polled<'a> {
    pub row: i64,
    /// The registry version under which the label was polled. Under another version nothing is written.
    pub version: i64,
    pub polled_at: i64,
    pub poll_state: &'a PollState,
    /// Whether the state or the tracking number changed.
    pub searched_changed: bool,
    pub recent_polls: &'a str,
}

/// An update of the columns in the order of [`bind`], and of `$more` columns.
macro_rules! update {
    ($columns:literal, $more:literal, $set:literal) => {
        Bulk {
            before: concat!("WITH new (label_key, version, first_answer_at, last_answer_at, last_polled_at,
                last_changed_at, finished_at, next_poll_at, wait_ms, pace_ms, reason, unchanged, failures,
                failing_since, refusals, refused_since, carrier_code, status_code, status_description,
                status_detail_code, estimate, out_for_delivery, utc_offset_minutes, answer_digest, missing_events,
                last_seq, newest_scan_at, delivered_beneath_at, stalled_told, late_told, recent_polls", $more, ") AS ("),
            columns: $columns,
            after: concat!(") UPDATE labels SET
                first_answer_at = new.first_answer_at, last_answer_at = new.last_answer_at,
                last_polled_at = new.last_polled_at, last_changed_at = new.last_changed_at,
                finished_at = new.finished_at, next_poll_at = new.next_poll_at, wait_ms = new.wait_ms,
                pace_ms = new.pace_ms, reason = new.reason, unchanged = new.unchanged, failures = new.failures,
                failing_since = new.failing_since, refusals = new.refusals, refused_since = new.refused_since,
                carrier_code = new.carrier_code, status_code = new.status_code,
                status_description = new.status_description, status_detail_code = new.status_detail_code,
                estimate = new.estimate, out_for_delivery = new.out_for_delivery,
                utc_offset_minutes = new.utc_offset_minutes, answer_digest = new.answer_digest,
                missing_events = new.missing_events, last_seq = new.last_seq,
                newest_scan_at = new.newest_scan_at, delivered_beneath_at = new.delivered_beneath_at,
                stalled_told = new.stalled_told, late_told = new.late_told, recent_polls = new.recent_polls", $set, "
             FROM new WHERE labels.label_key = new.label_key AND labels.version = new.version
             RETURNING label_key"),
        }
    };
}

const WRITE: Bulk = update!(31, "", "");
/// Also writes the columns of `labels_search`. SQLite rewrites an entry of an index even if the values stay the same.
const WRITE_SEARCHED: Bulk =
    update!(33, ", state, tracking_number", ", state = new.state, tracking_number = new.tracking_number");

fn bind(write: &Polled<'_>, values: &mut Values) {
    let poll_state = write.poll_state;
    values
        .push(write.row)
        .push(write.version)
        .push(poll_state.first_answer_at.map(ms))
        .push(poll_state.last_answer_at.map(ms))
        .push(write.polled_at)
        .push(poll_state.last_changed_at.map(ms))
        .push(poll_state.finished_at.map(ms))
        .push(poll_state.next_poll_at.map(ms))
        .push(poll_state.wait.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
        .push(poll_state.pace.map_or(Pace::NONE, Pace::of).as_millis())
        .push(poll_state.reason.as_ref().map(Reason::to_json))
        .push(poll_state.unchanged)
        .push(poll_state.failures)
        .push(poll_state.failing_since.map(ms))
        .push(poll_state.refusals)
        .push(poll_state.refused_since.map(ms))
        .push(poll_state.carrier_code.as_deref())
        .push(poll_state.status_code.as_deref())
        .push(poll_state.status_description.as_deref())
        .push(poll_state.status_detail_code.as_deref())
        .push(poll_state.estimate.as_deref())
        .push(i64::from(poll_state.out_for_delivery))
        .push(poll_state.utc_offset_minutes)
        .push(poll_state.answer_digest.as_ref().map(|digest| digest.as_slice()))
        .push(poll_state.missing_events)
        .push(poll_state.last_seq)
        .push(poll_state.newest_scan_at.map(ms))
        .push(poll_state.delivered_beneath_at.map(ms))
        .push(i64::from(poll_state.stalled_told))
        .push(i64::from(poll_state.late_told))
        .push(write.recent_polls);
}

/// Writes the labels of polls into an open transaction. Returns the rows written.
pub(super) async fn write(
    tx: &mut SqliteConnection,
    mut polls: Vec<Polled<'_>>,
) -> Result<Vec<i64>, sqlx::Error> {
    // Sorted, because neighbouring rows share pages.
    polls.sort_unstable_by_key(|poll| (poll.searched_changed, poll.row));
    let (same, changed) = polls.split_at(polls.partition_point(|poll| !poll.searched_changed));
    let mut written = WRITE.returning(tx, same, bind).await?;
    let searched = WRITE_SEARCHED.returning(tx, changed, |write, values| {
        bind(write, values);
        values.push(write.poll_state.state.as_str()).push(write.poll_state.tracking_number.as_deref());
    });
    written.extend(searched.await?);
    Ok(written)
}

/// The label columns that an unchanged answer writes.
#[derive(Clone, Debug)]
pub struct UnchangedPoll {
    pub row: i64,
    pub version: i64,
    pub polled_at: Timestamp,
    pub next_poll_at: Timestamp,
    pub wait_ms: u32,
    pub pace: Pace,
    pub unchanged: u32,
    pub reason: Reason,
}

impl UnchangedPoll {
    /// The label after this poll.
    pub fn apply(&self, poll_state: &mut PollState) {
        poll_state.last_answer_at = Some(self.polled_at);
        poll_state.next_poll_at = Some(self.next_poll_at);
        poll_state.wait = Some(Duration::from_millis(self.wait_ms.into()));
        poll_state.pace = Some(Duration::from_millis(self.pace.as_millis().unsigned_abs()));
        poll_state.unchanged = self.unchanged;
        poll_state.reason = Some(self.reason.clone());
    }
}

const WRITE_UNCHANGED: Bulk = Bulk {
    before: "WITH new (label_key, version, polled_at, next_poll_at, wait_ms, pace_ms, unchanged, reason) AS (",
    columns: 8,
    after: ") UPDATE labels SET last_polled_at = new.polled_at, last_answer_at = new.polled_at,
        next_poll_at = new.next_poll_at, wait_ms = new.wait_ms, pace_ms = new.pace_ms,
        unchanged = new.unchanged, reason = new.reason
     FROM new WHERE labels.label_key = new.label_key AND labels.version = new.version",
};

/// Writes labels with an unchanged answer into an open transaction. Skips labels that the registry changed meanwhile.
pub(super) async fn write_unchanged(
    tx: &mut SqliteConnection,
    polls: &[UnchangedPoll],
) -> Result<(), sqlx::Error> {
    WRITE_UNCHANGED
        .execute(tx, polls, |poll, values| {
            values
                .push(poll.row)
                .push(poll.version)
                .push(ms(poll.polled_at))
                .push(ms(poll.next_poll_at))
                .push(poll.wait_ms)
                .push(poll.pace.as_millis())
                .push(poll.unchanged)
                .push(poll.reason.to_json());
        })
        .await?;
    Ok(())
}
