//! The database: one SQLite file, one writer, a pool of readers. Only this module uses `sqlx`.
//!
//! Every write goes through the [`writer`], which groups polls and ended attempts into one transaction. Readers use
//! snapshots through a small pool and are short. Instants are integers in milliseconds, passed in by the caller.

pub mod accounts;
pub mod backup;
mod bulk;
mod changes;
mod checkpoints;
mod clocks;
pub mod damage_check;
pub mod discovery;
mod error;
pub mod feed;
mod file;
pub mod freshness;
mod health;
mod history;
pub mod invariants;
pub mod label_files;
mod label_reads;
mod label_row;
pub mod labels;
pub mod learned_rates;
pub mod lock;
mod messages;
mod open;
pub mod outbox;
pub mod polls;
pub mod progress;
mod records;
mod registering;
pub mod replay;
mod reschedule;
pub mod schedule;
pub mod upkeep;
pub mod usage;
pub mod views;
pub mod wal;
pub mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::watch;

pub use error::StoreError;
use file::OpenFiles;
use label_reads::LabelReads;
pub use open::open;
use outbox::handover::Handover;
use writer::WriteQueue;

/// Time that running reads have to end when the store is closed.
const LAST_READS: Duration = Duration::from_secs(2);

/// A handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    files: Arc<OpenFiles>,
    /// Whether the database was empty or missing when it was opened.
    is_new: bool,
    readers: SqlitePool,
    /// Connections reserved for the HTTP port.
    page_readers: SqlitePool,
    writer: WriteQueue,
    label_reads: LabelReads,
    /// Hands new deliveries to the couriers.
    handover: Handover,
    /// Counts commits of other processes.
    external: watch::Sender<u64>,
    /// The registry version.
    registry: watch::Sender<u64>,
}

impl Store {
    /// Returns a handle to the same database that reads through the connections reserved for pages.
    pub fn for_pages(&self) -> Self {
        Self { readers: self.page_readers.clone(), ..self.clone() }
    }

    /// Returns the absolute path of the database.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// Whether the database was created when it was opened.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns the mode of the database if others than its owner may read or write it, for example after a copy.
    pub fn wide_mode(&self) -> Option<u32> {
        self.files.wide_mode()
    }

    /// Returns a receiver that changes within a second after another process has committed.
    pub fn external_changes(&self) -> watch::Receiver<u64> {
        self.external.subscribe()
    }

    /// Returns the size of the write-ahead log; 0 if there is none.
    pub fn wal_bytes(&self) -> u64 {
        file::beside(self.path(), "-wal").metadata().map_or(0, |file| file.len())
    }

    /// Returns the size of the database without its write-ahead log.
    pub fn database_bytes(&self) -> u64 {
        self.path().metadata().map_or(0, |file| file.len())
    }

    /// Fails if the path names other files than the open ones.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    /// Returns the first error of the database itself, if any. Later errors follow from it.
    pub fn first_failure(&self) -> Option<StoreError> {
        self.writer.first_failure()
    }

    /// Fails if the database is gone or does not answer a read and a write.
    pub async fn check_alive(&self) -> Result<(), StoreError> {
        self.check_files()?;
        let answered = async {
            sqlx::query_scalar!("SELECT 1").fetch_one(&self.readers).await?;
            self.writer.check_alive().await
        };
        answered.await.map_err(|error: StoreError| error.of(self.path()))
    }

    /// Executes one statement of the writer. Returns the number of rows affected.
    async fn execute(&self, statement: Query<'static, Sqlite, SqliteArguments>) -> Result<u64, StoreError> {
        self.writer
            .write(move |tx| Box::pin(async move { Ok(statement.execute(tx).await?.rows_affected()) }))
            .await
    }

    /// Ends readers and writer, even if other handles exist. Queued jobs are written first.
    pub async fn close(&self) {
        // A hanging reader must not prevent the writer from ending.
        let readers = async {
            self.page_readers.close().await;
            self.readers.close().await;
        };
        let _ = tokio::time::timeout(LAST_READS, readers).await;
        self.writer.end().await;
    }
}

/// Converts an instant to the value of a row.
fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// Returns the hour since 1970 of an instant in milliseconds: the key of `message_hours`.
fn hour_of(ms: i64) -> i64 {
    ms.div_euclid(3_600_000)
}

/// Converts the value of a row to an instant.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Converts a count of a row, which a CHECK keeps at or above zero.
fn to_u32(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Parses a JSON array that a statement made of its rows.
fn from_json<T: DeserializeOwned>(rows: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(rows).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Returns the rows as a JSON array, for `json_each`: one statement for any number of rows.
fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows are plain values")
}
