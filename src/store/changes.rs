//! What other processes commit, noticed by one watcher for the whole process.
//!
//! `PRAGMA data_version` of a connection changes when another one has committed. It is asked on the writer's connection:
//! all writes of this process go through that one, so what changes there is another process's.

use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::watch;

use crate::clock::{self, Stopwatch};

/// A change is noticed within this, or as soon as a commit that is under way has ended.
const EVERY: Duration = Duration::from_millis(500);

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

    /// Returns when it is time to look.
    pub async fn wait(&self) {
        clock::sleep(EVERY.saturating_sub(self.last.elapsed())).await;
    }

    /// Looks, if it is time to.
    pub async fn look(&mut self, connection: &mut SqliteConnection) {
        if self.version.is_some() && self.last.elapsed() < EVERY {
            return;
        }
        self.last = Stopwatch::start();
        let asked = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await;
        // A database that does not answer is seen by whoever writes next.
        let Ok(version) = asked else { return };
        if self.version.replace(version).is_some_and(|before| before != version) {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}
