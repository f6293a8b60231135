//! THE transaction: what polls found, written at once or not at all (contract 5.4).
//!
//! Event rows, messages, deliveries and the next poll of many labels go in with a few statements, many rows each. A
//! record whose label was changed by the registry since it was taken up is left out whole; the label is due again.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::accounts::AccountRecord;
use super::freshness;
use super::history::write_events;
use super::messages::write_messages;
use super::outbox::NewDelivery;
use super::usage::{self, Usage};
use super::{Store, StoreError, json, ms};
use crate::domain::digest;
use crate::domain::freshness::Notice;
use crate::domain::history::EventWrites;
use crate::domain::label::AccountName;
use crate::domain::message::Message;
use crate::domain::pace::Pace;
use crate::domain::poll::{GLANCES, Glance, PlannedDelivery, PollPlan};
use crate::domain::snapshot::{Snapshot, Standing};

/// One poll's plan, ready to be written.
#[derive(Debug)]
pub struct PollRecord {
    pub row: i64,
    /// The version the label was taken up under.
    pub version: i64,
    pub account_name: AccountName,
    pub label_id: String,
    pub polled_at: Timestamp,
    pub standing: Standing,
    pub recent_polls: String,
    pub events: EventWrites,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    /// What it tells of how fresh we are.
    pub notices: Vec<Notice>,
    /// The account's new standing, if this poll changed it, with what is to be told of it.
    pub account: Option<AccountRecord>,
    /// What it used of the account's quota.
    pub usage: Usage,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Done,
    /// The registry changed the label meanwhile; nothing was written.
    Superseded,
}

impl PollRecord {
    /// Puts a plan and the label it was made for together.
    pub fn new(
        label: &Snapshot,
        plan: PollPlan,
        now: Timestamp,
        account: Option<AccountRecord>,
        usage: Usage,
    ) -> Self {
        Self {
            row: label.row,
            version: label.version,
            account_name: label.key.account.clone(),
            label_id: label.key.id.to_string(),
            polled_at: now,
            recent_polls: with_glance(&label.recent_polls, plan.glance),
            standing: plan.standing,
            events: plan.events,
            messages: plan.messages,
            deliveries: plan.deliveries,
            notices: plan.notices,
            account,
            usage,
        }
    }

}

fn with_glance(recent: &str, glance: Glance) -> String {
    let mut glances: Vec<Glance> = serde_json::from_str(recent).unwrap_or_default();
    glances.push(glance);
    let surplus = glances.len().saturating_sub(GLANCES);
    serde_json::to_string(&glances[surplus..]).expect("glances are plain values")
}

impl Store {
    /// Writes what a poll found, together with whatever else has arrived.
    pub async fn record_poll(&self, record: PollRecord) -> Result<Recorded, StoreError> {
        self.writer.poll(record).await
    }
}

#[derive(Serialize)]
struct LabelWrite<'a> {
    row: i64,
    version: i64,
    state: &'a str,
    first_answer_at: Option<i64>,
    last_answer_at: Option<i64>,
    last_polled_at: i64,
    last_changed_at: Option<i64>,
    finished_at: Option<i64>,
    next_poll_at: Option<i64>,
    cadence_row: Option<&'a str>,
    interval_ms: Option<i64>,
    wait_ms: i64,
    pace_ms: i64,
    unchanged: u32,
    failures: u32,
    failing_since: Option<i64>,
    refusals: u32,
    refused_since: Option<i64>,
    tracking_number: Option<&'a str>,
    carrier_code: Option<&'a str>,
    status_code: Option<&'a str>,
    status_description: Option<&'a str>,
    status_detail_code: Option<&'a str>,
    estimate: Option<&'a str>,
    out_for_delivery: i64,
    utc_offset_minutes: Option<i32>,
    answer_digest: Option<String>,
    missing_events: u32,
    last_seq: i64,
    newest_scan_at: Option<i64>,
    stalled_told: i64,
    late_told: i64,
    recent_polls: &'a str,
}

impl<'a> LabelWrite<'a> {
    fn of(record: &'a PollRecord) -> Self {
        let standing = &record.standing;
        Self {
            row: record.row,
            version: record.version,
            state: standing.state.as_str(),
            first_answer_at: standing.first_answer_at.map(ms),
            last_answer_at: standing.last_answer_at.map(ms),
            last_polled_at: ms(record.polled_at),
            last_changed_at: standing.last_changed_at.map(ms),
            finished_at: standing.finished_at.map(ms),
            next_poll_at: standing.next_poll_at.map(ms),
            cadence_row: standing.cadence_row.as_deref(),
            interval_ms: standing.interval_ms,
            wait_ms: standing.wait.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            pace_ms: standing.pace.map_or(Pace::NONE, Pace::of).as_millis(),
            unchanged: standing.unchanged,
            failures: standing.failures,
            failing_since: standing.failing_since.map(ms),
            refusals: standing.refusals,
            refused_since: standing.refused_since.map(ms),
            tracking_number: standing.tracking_number.as_deref(),
            carrier_code: standing.carrier_code.as_deref(),
            status_code: standing.status_code.as_deref(),
            status_description: standing.status_description.as_deref(),
            status_detail_code: standing.status_detail_code.as_deref(),
            estimate: standing.estimate.as_deref(),
            out_for_delivery: i64::from(standing.out_for_delivery),
            utc_offset_minutes: standing.utc_offset_minutes,
            answer_digest: standing.answer_digest.map(|bytes| digest::hex(&bytes)),
            missing_events: standing.missing_events,
            last_seq: standing.last_seq,
            newest_scan_at: standing.newest_scan_at.map(ms),
            stalled_told: i64::from(standing.stalled_told),
            late_told: i64::from(standing.late_told),
            recent_polls: &record.recent_polls,
        }
    }
}

/// Writes the records into an open transaction; one [`Recorded`] each, in their order. `new` takes the deliveries that
/// are handed over once it is committed.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    records: &[PollRecord],
    new: &mut Vec<NewDelivery>,
) -> Result<Vec<Recorded>, sqlx::Error> {
    let mut writes: Vec<LabelWrite<'_>> = records.iter().map(LabelWrite::of).collect();
    // Neighbouring rows share pages.
    writes.sort_unstable_by_key(|write| write.row);
    let labels = json(&writes);
    let accepted: Vec<i64> = sqlx::query_scalar!(
        r#"UPDATE labels SET
            state = new.v ->> 'state',
            first_answer_at = new.v ->> 'first_answer_at',
            last_answer_at = new.v ->> 'last_answer_at',
            last_polled_at = new.v ->> 'last_polled_at',
            last_changed_at = new.v ->> 'last_changed_at',
            finished_at = new.v ->> 'finished_at',
            next_poll_at = new.v ->> 'next_poll_at',
            cadence_row = new.v ->> 'cadence_row',
            interval_ms = new.v ->> 'interval_ms',
            wait_ms = new.v ->> 'wait_ms',
            pace_ms = new.v ->> 'pace_ms',
            unchanged = new.v ->> 'unchanged',
            failures = new.v ->> 'failures',
            failing_since = new.v ->> 'failing_since',
            refusals = new.v ->> 'refusals',
            refused_since = new.v ->> 'refused_since',
            tracking_number = new.v ->> 'tracking_number',
            carrier_code = new.v ->> 'carrier_code',
            status_code = new.v ->> 'status_code',
            status_description = new.v ->> 'status_description',
            status_detail_code = new.v ->> 'status_detail_code',
            estimate = new.v ->> 'estimate',
            out_for_delivery = new.v ->> 'out_for_delivery',
            utc_offset_minutes = new.v ->> 'utc_offset_minutes',
            answer_digest = unhex(new.v ->> 'answer_digest'),
            missing_events = new.v ->> 'missing_events',
            last_seq = new.v ->> 'last_seq',
            newest_scan_at = new.v ->> 'newest_scan_at',
            stalled_told = new.v ->> 'stalled_told',
            late_told = new.v ->> 'late_told',
            recent_polls = new.v ->> 'recent_polls'
           FROM (SELECT value AS v, value ->> 'row' AS row, value ->> 'version' AS version FROM json_each(?)) AS new
           WHERE labels.label_key = new.row AND labels.version = new.version
           RETURNING label_key AS "label_key!""#,
        labels
    )
    .fetch_all(&mut *tx)
    .await?;
    let accepted: std::collections::HashSet<i64> = accepted.into_iter().collect();
    // Also of a poll that is left out: it was made.
    let used: Vec<&Usage> = records.iter().map(|record| &record.usage).collect();
    usage::count(tx, &used).await?;
    let taken: Vec<&PollRecord> = records.iter().filter(|record| accepted.contains(&record.row)).collect();
    write_events(tx, &taken).await?;
    new.extend(write_messages(tx, &taken).await?);
    freshness::count(tx, &taken).await?;
    let outcome = |record: &PollRecord| match accepted.contains(&record.row) {
        true => Recorded::Done,
        false => Recorded::Superseded,
    };
    Ok(records.iter().map(outcome).collect())
}
