//! The only rooms that say `sqlx`: one SQLite file, one writer, readers apart.
//!
//! Every write goes through the [`writer`], which commits whatever has arrived in one transaction; readers see
//! snapshots through a small pool and are short. Instants are integers in milliseconds; no clock is read here.

pub mod accounts;
#[allow(dead_code, reason = "used by the next commits")]
mod bulk;
pub mod discovery;
pub mod due;
pub mod feed;
mod freshness;
mod health;
mod history;
pub mod invariants;
pub mod label_files;
pub mod labels;
pub mod lock;
mod messages;
mod open;
pub mod outbox;
pub mod polls;
pub mod progress;
mod registering;
pub mod replay;
pub mod rhythms;
pub mod upkeep;
pub mod usage;
pub mod views;
pub mod writer;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqlitePool;
use tokio::sync::watch;

pub use open::open;
use writer::WriteQueue;

/// A handle to the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    readers: SqlitePool,
    writer: WriteQueue,
    /// Counts commits that put something into the outbox, so that couriers need not wait for their next look.
    outbox: watch::Sender<u64>,
    /// The number of the last change of the registry.
    registry: watch::Sender<u64>,
}

impl Store {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Wakes when something new may be due in the outbox.
    pub fn outbox_changes(&self) -> watch::Receiver<u64> {
        self.outbox.subscribe()
    }

    /// Whether the database answers, reading and writing.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query_scalar!("SELECT 1").fetch_one(&self.readers).await?;
        self.writer.write(|_| Box::pin(async { Ok(()) })).await
    }

    /// Ends the readers. The writer ends when its queue does.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} could not be opened: {reason}")]
    Open { path: PathBuf, reason: String, hint: Option<String> },
    #[error("the database failed: {0}")]
    Failed(std::sync::Arc<sqlx::Error>),
    #[error("the database's writer has ended")]
    WriterGone,
    /// A step that records did not come to its end: we no longer know what it did.
    #[error("a step ended in a panic: {0}")]
    Panicked(String),
}

impl StoreError {
    /// A way out, where there is one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Open { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

impl StoreError {
    /// Whether the database is well and only would not take these rows.
    pub fn is_refusal(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        let Some(error) = error.as_database_error() else { return false };
        // Of the extended code the low byte is the primary one: 1 is a fault in the statement or its data, 18 too
        // large, 19 a constraint, 20 a type.
        let code = error.code().and_then(|code| code.parse::<u32>().ok());
        code.is_some_and(|code| matches!(code & 0xff, 1 | 18 | 19 | 20))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(std::sync::Arc::new(error))
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
