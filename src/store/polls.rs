//! The transaction of polls: all results of a poll are written together or not at all (contract 5.4).
//!
//! Event rows, messages, deliveries and the next poll of many labels are written with a few statements of many rows
//! each. A record is skipped whole if the registry changed its label since the poll was sent; the label is then due
//! again.
//!
//! Unchanged polls and all measurements of freshness are written in batches ([`PollBatch`]).
//!
//! Crash point: before a batch is written, the labels of its unchanged polls are polled once more, and its measurements
//! are lost.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::freshness::{self, CarrierMeasurement};
use super::history::write_events;
use super::label_row;
use super::messages::write_messages;
use super::records::NewDelivery;
use super::usage::{self, Usage};
use super::{Store, StoreError};
use crate::domain::label::AccountName;

pub use super::label_row::UnchangedPoll;
pub use super::records::PollRecord;

/// Result of writing a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordResult {
    Done,
    /// The registry changed the label meanwhile; nothing was written.
    Superseded,
}

impl Store {
    /// Writes the record of a poll, together with other waiting jobs.
    pub async fn record_poll(&self, record: PollRecord) -> Result<RecordResult, StoreError> {
        self.writer.poll(record).await
    }

    /// Writes a poller's batch, together with other waiting jobs.
    pub async fn flush(&self, batch: PollBatch) -> Result<(), StoreError> {
        self.writer.flush(batch).await
    }
}

/// Writes the records into an open transaction. Returns one [`RecordResult`] for each, in order. New deliveries are
/// added to `new` and handed over after the commit.
pub(super) async fn record(
    tx: &mut SqliteConnection,
    records: &[PollRecord],
    new: &mut Vec<NewDelivery>,
) -> Result<Vec<RecordResult>, sqlx::Error> {
    let accepted = label_row::write(tx, records.iter().collect()).await?;
    let taken: Vec<&PollRecord> = records.iter().filter(|record| accepted.contains(&record.row)).collect();
    write_events(tx, &taken).await?;
    new.extend(write_messages(tx, &taken).await?);
    let result = |record: &PollRecord| match accepted.contains(&record.row) {
        true => RecordResult::Done,
        false => RecordResult::Superseded,
    };
    Ok(records.iter().map(result).collect())
}

/// A poller's batch: unchanged polls, measurements, and the requests that were counted.
#[derive(Debug)]
pub struct PollBatch {
    pub account: AccountName,
    pub unchanged: Vec<UnchangedPoll>,
    /// Measurements of all polls.
    pub measurements: Vec<CarrierMeasurement>,
    pub usage: Usage,
    pub now: Timestamp,
}

/// Writes a poller's batch into an open transaction.
pub(super) async fn flush(tx: &mut SqliteConnection, batch: &PollBatch) -> Result<(), sqlx::Error> {
    label_row::write_unchanged(tx, &batch.unchanged).await?;
    freshness::count(tx, &batch.account, &batch.measurements, batch.now).await?;
    usage::count(tx, &batch.account, &batch.usage, batch.now).await
}
