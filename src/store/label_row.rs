//! The row of a label: reading it and writing it after a poll.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::bulk::{Bulk, Values};
use super::records::PollRecord;
use super::{at, ms};
use crate::domain::label::{AccountName, LabelId, LabelKey, LabelState, Metadata};
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::pace::Pace;
use crate::domain::polling::poll::UnchangedPlan;
use crate::domain::polling::reason::PollReason;

/// Reads a row of `labels`; `None` if this version does not know its id or state.
pub(super) fn label_record(row: &SqliteRow) -> Result<Option<LabelRecord>, sqlx::Error> {
    let instant = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(at));
    let span = |column| {
        let ms = row.try_get::<i64, _>(column)?;
        Ok::<_, sqlx::Error>(u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis))
    };
    let id = row.try_get::<&str, _>("label_id")?.parse::<LabelId>().ok();
    let state = LabelState::parse(row.try_get("state")?);
    let (Some(id), Some(state)) = (id, state) else { return Ok(None) };
    let metadata = match row.try_get("metadata")? {
        "{}" => Metadata::new(),
        metadata => serde_json::from_str(metadata).unwrap_or_default(),
    };
    Ok(Some(LabelRecord {
        row: row.try_get("label_key")?,
        key: LabelKey { account: AccountName::new(row.try_get("account")?), id },
        metadata,
        version: row.try_get("version")?,
        registered_at: at(row.try_get("registered_at")?),
        poll_state: PollState {
            state,
            first_answer_at: instant("first_answer_at")?,
            last_answer_at: instant("last_answer_at")?,
            last_changed_at: instant("last_changed_at")?,
            finished_at: instant("finished_at")?,
            next_poll_at: instant("next_poll_at")?,
            reason: row.try_get::<Option<&str>, _>("reason")?.and_then(PollReason::from_json),
            wait: span("wait_ms")?,
            pace: span("pace_ms")?,
            unchanged: row.try_get("unchanged")?,
            failures: row.try_get("failures")?,
            failing_since: instant("failing_since")?,
            refusals: row.try_get("refusals")?,
            refused_since: instant("refused_since")?,
            tracking_number: row.try_get("tracking_number")?,
            carrier_code: row.try_get("carrier_code")?,
            status_code: row.try_get("status_code")?,
            status_description: row.try_get("status_description")?,
            status_detail_code: row.try_get("status_detail_code")?,
            estimate: row.try_get("estimate")?,
            out_for_delivery: row.try_get("out_for_delivery")?,
            utc_offset_minutes: row.try_get("utc_offset_minutes")?,
            answer_digest: row
                .try_get::<Option<&[u8]>, _>("answer_digest")?
                .and_then(|bytes| bytes.try_into().ok()),
            missing_events: row.try_get("missing_events")?,
            last_seq: row.try_get("last_seq")?,
            newest_scan_at: instant("newest_scan_at")?,
            delivered_beneath_at: instant("delivered_beneath_at")?,
            stalled_sent: row.try_get("stalled_sent")?,
            late_sent: row.try_get("late_sent")?,
        },
        recent_polls: row.try_get("recent_polls")?,
    }))
}

/// An update of the columns in the order of [`bind`], and of `$more` columns.
macro_rules! update {
    ($columns:literal, $more:literal, $set:literal) => {
        Bulk {
            before: concat!("WITH new (label_key, version, first_answer_at, last_answer_at, last_polled_at,
                last_changed_at, finished_at, next_poll_at, wait_ms, pace_ms, reason, unchanged, failures,
                failing_since, refusals, refused_since, carrier_code, status_code, status_description,
                status_detail_code, estimate, out_for_delivery, utc_offset_minutes, answer_digest, missing_events,
                last_seq, newest_scan_at, delivered_beneath_at, stalled_sent, late_sent, recent_polls", $more, ") AS ("),
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
                stalled_sent = new.stalled_sent, late_sent = new.late_sent, recent_polls = new.recent_polls", $set, "
             FROM new WHERE labels.label_key = new.label_key AND labels.version = new.version"),
        }
    };
}

pub(super) const WRITE: Bulk = update!(31, "", "");
/// Also writes the columns of `labels_search`. SQLite rewrites an entry of an index even if the values stay the same.
pub(super) const WRITE_SEARCHED: Bulk =
    update!(33, ", state, tracking_number", ", state = new.state, tracking_number = new.tracking_number");

fn bind(record: &&PollRecord, values: &mut Values) {
    let poll_state = &record.plan.poll_state;
    values
        .push(record.row)
        .push(record.version)
        .push(poll_state.first_answer_at.map(ms))
        .push(poll_state.last_answer_at.map(ms))
        .push(ms(record.polled_at))
        .push(poll_state.last_changed_at.map(ms))
        .push(poll_state.finished_at.map(ms))
        .push(poll_state.next_poll_at.map(ms))
        .push(poll_state.wait.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
        .push(poll_state.pace.map_or(Pace::NONE, Pace::of).as_millis())
        .push(poll_state.reason.as_ref().map(PollReason::to_json))
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
        .push(i64::from(poll_state.stalled_sent))
        .push(i64::from(poll_state.late_sent))
        .push(&*record.recent_polls);
}

/// Finds the labels whose version is still the polled one.
pub(super) const CURRENT: Bulk = Bulk {
    before: "WITH polled (label_key, version) AS (",
    columns: 2,
    after: ") SELECT l.label_key FROM polled CROSS JOIN labels l
        ON l.label_key = polled.label_key AND l.version = polled.version",
};

/// Writes the labels of polls into an open transaction. Returns the rows written.
pub(super) async fn write(
    tx: &mut SqliteConnection,
    mut polls: Vec<&PollRecord>,
) -> Result<HashSet<i64>, sqlx::Error> {
    // Sorted, because neighbouring rows share pages.
    polls.sort_unstable_by_key(|poll| (poll.searched_changed, poll.row));
    let (same, changed) = polls.split_at(polls.partition_point(|poll| !poll.searched_changed));
    let mut written = WRITE.execute(tx, same, bind).await?;
    let searched = WRITE_SEARCHED.execute(tx, changed, |record, values| {
        bind(record, values);
        let poll_state = &record.plan.poll_state;
        values.push(poll_state.state.as_str()).push(poll_state.tracking_number.as_deref());
    });
    written += searched.await?;
    if written == polls.len() as u64 {
        return Ok(polls.iter().map(|poll| poll.row).collect());
    }
    let current = CURRENT.rows(tx, &polls, |poll, values| {
        values.push(poll.row).push(poll.version);
    });
    current.await?.iter().map(|row| row.try_get(0)).collect()
}

/// The label columns that an unchanged answer writes.
#[derive(Clone, Debug)]
pub struct UnchangedPoll {
    pub row: i64,
    pub version: i64,
    pub polled_at: Timestamp,
    pub unchanged: u32,
    pub next: UnchangedPlan,
}

impl UnchangedPoll {
    /// The label after this poll.
    pub fn apply(&self, poll_state: &mut PollState) {
        poll_state.last_answer_at = Some(self.polled_at);
        poll_state.next_poll_at = Some(self.next.next_poll_at);
        poll_state.wait = Some(Duration::from_millis(self.next.wait_ms.into()));
        poll_state.pace = Some(Duration::from_millis(self.next.pace.as_millis().unsigned_abs()));
        poll_state.unchanged = self.unchanged;
        poll_state.reason = Some(self.next.reason.clone());
    }
}

pub(super) const WRITE_UNCHANGED: Bulk = Bulk {
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
                .push(ms(poll.next.next_poll_at))
                .push(poll.next.wait_ms)
                .push(poll.next.pace.as_millis())
                .push(poll.unchanged)
                .push(poll.next.reason.to_json());
        })
        .await?;
    Ok(())
}
