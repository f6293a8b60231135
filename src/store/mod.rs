//! The only rooms that say `sqlx`: one SQLite file, one writer, readers apart.
//!
//! Every write goes through the [`writer`], which commits whatever has arrived in one transaction; readers see
//! snapshots through a small pool and are short. Instants are integers in milliseconds; no clock is read here.

pub mod accounts;
pub mod backup;
mod bulk;
mod changes;
mod checkpoints;
pub mod discovery;
mod error;
pub mod feed;
mod file;
mod freshness;
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
mod registering;
pub mod replay;
pub mod schedule;
pub mod upkeep;
pub mod usage;
pub mod views;
pub mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqlitePool;
use tokio::sync::watch;

pub use error::StoreError;
use file::OpenFiles;
use label_reads::LabelReads;
pub use open::open;
use outbox::handover::Handover;
use writer::WriteQueue;

/// How long reads under way may take when the store is closed.
const LAST_READS: Duration = Duration::from_secs(2);

/// A handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    files: Arc<OpenFiles>,
    /// Whether it was empty, or missing, when it was opened.
    is_new: bool,
    readers: SqlitePool,
    /// Connections of the HTTP port, which takes none from anybody else.
    page_readers: SqlitePool,
    writer: WriteQueue,
    label_reads: LabelReads,
    /// New deliveries, on their way to their couriers.
    handover: Handover,
    /// Counts what other processes commit.
    foreign: watch::Sender<u64>,
    /// The number of the last change of the registry.
    registry: watch::Sender<u64>,
}

impl Store {
    /// The same database, read over the few connections that are kept for pages.
    pub fn for_pages(&self) -> Self {
        Self { readers: self.page_readers.clone(), ..self.clone() }
    }

    /// The absolute path of the database.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// Whether the database held nothing when it was opened: it was created then.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The mode of the database, if others than its owner may read or write it: it was copied there, for one.
    pub fn wide_mode(&self) -> Option<u32> {
        self.files.wide_mode()
    }

    /// Changes each time that another process has committed something, noticed within a second.
    pub fn foreign_changes(&self) -> watch::Receiver<u64> {
        self.foreign.subscribe()
    }

    /// The size of the write-ahead log; 0: there is none.
    pub fn wal_bytes(&self) -> u64 {
        file::beside(self.path(), "-wal").metadata().map_or(0, |file| file.len())
    }

    /// Whether the path still names the files that are open.
    pub fn check_files(&self) -> Result<(), StoreError> {
        self.files.check()
    }

    /// How the database failed first, if it did: later errors are only what follows from it.
    pub fn disaster(&self) -> Option<StoreError> {
        self.writer.disaster()
    }

    /// Whether the database is still there and answers, reading and writing.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.check_files()?;
        let answered = async {
            sqlx::query_scalar!("SELECT 1").fetch_one(&self.readers).await?;
            self.writer.write(|_| Box::pin(async { Ok(()) })).await
        };
        answered.await.map_err(|error: StoreError| error.of(self.path()))
    }

    /// Ends readers and writer, whoever still holds a handle. What was asked for before is written.
    pub async fn close(&self) {
        // A reader that hangs must not keep the writer from its end.
        let readers = async {
            self.page_readers.close().await;
            self.readers.close().await;
        };
        let _ = tokio::time::timeout(LAST_READS, readers).await;
        self.writer.end().await;
    }
}

/// An instant as a row has it.
fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// An instant of a row.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// Rows as a JSON array, for `json_each`: one statement for any number of them.
fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows are plain values")
}
