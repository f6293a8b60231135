//! Detection of commits by other processes: one watcher for the whole process.
//!
//! `PRAGMA data_version` of a connection changes when another connection has committed. The watcher reads it on the
//! writer's connection. All writes of this process use that connection, so a change means another process.
//!
//! The version is read at a fixed interval. Events of the WAL file do not replace it: a commit becomes visible after the
//! WAL is synced, without a further write to the file.

use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::watch;

use crate::clock::{self, Stopwatch};

/// Interval of reading the version (contract 1: a change is noticed within 1 s).
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Watcher {
    version: Option<i64>,
    last: Stopwatch,
    changes: watch::Sender<u64>,
}

impl Watcher {
    pub fn new(changes: watch::Sender<u64>) -> Self {
        Self { version: None, last: Stopwatch::start(), changes }
    }

    /// Returns when the version is to be read. Cancel-safe.
    pub async fn wait(&self) {
        clock::sleep(INTERVAL.saturating_sub(self.last.elapsed())).await;
    }

    /// Reads the version if it is due.
    pub async fn read_version(&mut self, connection: &mut SqliteConnection) {
        if self.version.is_some() && self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Stopwatch::start();
        let read = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await;
        // If reading fails, the next write reports the error.
        let Ok(version) = read else { return };
        if self.version.replace(version).is_some_and(|before| before != version) {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}
