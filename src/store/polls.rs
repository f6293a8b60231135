//! THE transaction: what polls found, written at once or not at all (contract 5.4).
//!
//! Event rows, messages, deliveries and the next poll of many labels go in with a few statements, many rows each. A
//! record whose label was changed by the registry since it was taken up is left out whole; the label is due again.
//!
//! Unchanged polls come in batches ([`Flush`]). If we die before a batch is written, its labels are polled once more.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::accounts::AccountRecord;
use super::freshness::{self, Noticed};
use super::history::write_events;
use super::label_row::{self, Polled};
use super::messages::write_messages;
use super::outbox::NewDelivery;
use super::usage::{self, Usage};
use super::{Store, StoreError, ms};
use crate::domain::label::AccountName;
use crate::domain::messages::Message;
use crate::domain::messages::fan_out::PlannedDelivery;
use crate::domain::polling::freshness::Notice;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::poll::{POLLS_KEPT, PollPlan, PollSummary};
use crate::domain::tracking::history::EventWrites;

pub use super::label_row::UnchangedPoll;

/// One poll's plan, ready to be written.
#[derive(Debug)]
pub struct PollRecord {
    pub row: i64,
    /// The version the label was taken up under.
    pub version: i64,
    pub account_name: AccountName,
    pub label_id: String,
    pub polled_at: Timestamp,
    pub poll_state: PollState,
    pub recent_polls: String,
    /// Events the label had before.
    pub known_events: usize,
    pub events: EventWrites,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    /// What it tells of how fresh we are.
    pub notices: Vec<Notice>,
    /// The account's new poll_state, if this poll changed it, with what is to be told of it.
    pub account: Option<AccountRecord>,
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
        label: &LabelRecord,
        known_events: usize,
        plan: PollPlan,
        now: Timestamp,
        account: Option<AccountRecord>,
    ) -> Self {
        Self {
            row: label.row,
            version: label.version,
            account_name: label.key.account.clone(),
            label_id: label.key.id.to_string(),
            polled_at: now,
            recent_polls: with_glance(&label.recent_polls, plan.summary),
            poll_state: plan.poll_state,
            known_events,
            events: plan.events,
            messages: plan.messages,
            deliveries: plan.deliveries,
            notices: plan.notices,
            account,
        }
    }
}

fn with_glance(recent: &str, summary: PollSummary) -> String {
    let mut summaries: Vec<PollSummary> = serde_json::from_str(recent).unwrap_or_default();
    summaries.push(summary);
    let surplus = summaries.len().saturating_sub(POLLS_KEPT);
    serde_json::to_string(&summaries[surplus..]).expect("summaries are plain values")
}

impl Store {
    /// Writes what a poll found, together with whatever else has arrived.
    pub async fn record_poll(&self, record: PollRecord) -> Result<Recorded, StoreError> {
        self.writer.poll(record).await
    }

    /// Writes what a poller had in memory, together with whatever else has arrived.
    pub async fn flush(&self, flush: Flush) -> Result<(), StoreError> {
        self.writer.flush(flush).await
    }
}

/// Writes the records into an open transaction; one [`Recorded`] each, in their order. `new` takes the deliveries that
/// are handed over once it is committed.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    records: &[PollRecord],
    new: &mut Vec<NewDelivery>,
) -> Result<Vec<Recorded>, sqlx::Error> {
    let polled = records.iter().map(|record| Polled {
        row: record.row,
        version: record.version,
        polled_at: ms(record.polled_at),
        poll_state: &record.poll_state,
        recent_polls: &record.recent_polls,
    });
    let accepted: HashSet<i64> = label_row::write(tx, polled.collect()).await?.into_iter().collect();
    let taken: Vec<&PollRecord> = records.iter().filter(|record| accepted.contains(&record.row)).collect();
    write_events(tx, &taken).await?;
    new.extend(write_messages(tx, &taken).await?);
    let notices = taken.iter().flat_map(|record| {
        record.notices.iter().map(|notice| Noticed {
            account: &record.account_name,
            carrier: record.poll_state.carrier_code.as_deref(),
            notice: *notice,
            at: record.polled_at,
        })
    });
    let notices: Vec<Noticed<'_>> = notices.collect();
    freshness::count(tx, &notices).await?;
    let outcome = |record: &PollRecord| match accepted.contains(&record.row) {
        true => Recorded::Done,
        false => Recorded::Superseded,
    };
    Ok(records.iter().map(outcome).collect())
}

/// What a poller has in memory only: unchanged polls, and what was used of the quota.
#[derive(Debug)]
pub struct Flush {
    pub account: AccountName,
    pub unchanged: Vec<UnchangedPoll>,
    /// How late polls went out, by carrier.
    pub notices: Vec<(Option<Arc<str>>, Notice)>,
    pub usage: Usage,
    pub now: Timestamp,
}

/// Writes what pollers had in memory into an open transaction.
pub(super) async fn flush(tx: &mut SqliteConnection, flush: &Flush) -> Result<(), sqlx::Error> {
    label_row::write_unchanged(tx, &flush.unchanged).await?;
    let notices = flush.notices.iter().map(|(carrier, notice)| Noticed {
        account: &flush.account,
        carrier: carrier.as_deref(),
        notice: *notice,
        at: flush.now,
    });
    let notices: Vec<Noticed<'_>> = notices.collect();
    freshness::count(tx, &notices).await?;
    usage::count(tx, &flush.account, &flush.usage, flush.now).await
}
