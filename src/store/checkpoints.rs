//! Checkpoints of the WAL, off the writer's path.
//!
//! A separate connection copies committed pages into the database while the writer writes. The writer then copies the few
//! pages that it wrote during that time, between two transactions. After such a complete checkpoint the next commit
//! restarts the WAL. If checkpoints fall behind, the writer makes a whole one (`wal_autocheckpoint`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::sync::Notify;

use crate::clock;

/// Number of polls, ended attempts and other transactions between two checkpoints. With fewer, pages that change often
/// would be written too often.
const WRITES_BETWEEN: u64 = 1_000;
/// Idle time after which a checkpoint is made.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Pages of a WAL that should have been restarted: 12 MiB.
const LONG_WAL: i64 = 12_000;
/// Maximum time that a checkpoint waits for readers; the writer waits too.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// Whether the WAL grows only because short reads overlap all the time. Waiting does not help against one long read.
fn is_held_by_readers(pages: i64, copied: i64) -> bool {
    pages > LONG_WAL && pages - copied < pages / 8
}

/// Counts polls, ended attempts and other transactions since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct WritesSinceCheckpoint {
    rows: AtomicU64,
    wake: Notify,
    /// Whether the writer is to complete the checkpoint.
    incomplete: AtomicBool,
}

impl WritesSinceCheckpoint {
    pub fn add(&self, rows: usize) {
        let before = self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if before == 0 || before + rows as u64 >= WRITES_BETWEEN {
            self.wake.notify_one();
        }
    }

    /// Completes a checkpoint on the writer's connection, if there is one to complete.
    pub async fn complete_checkpoint(&self, connection: &mut SqliteConnection) {
        if self.incomplete.swap(false, Ordering::Relaxed) {
            passive(connection).await;
        }
    }
}

/// Copies the pages of the WAL that no reader needs there. Returns the numbers of pages in the WAL and of copied pages.
/// Pages that could not be copied are copied by the next checkpoint.
async fn passive(connection: &mut SqliteConnection) -> Option<(i64, i64)> {
    let done =
        sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connection).await;
    done.ok().map(|(_, pages, copied)| (pages, copied))
}

/// Makes checkpoints until it is dropped.
pub(super) async fn run(connection: &mut SqliteConnection, written: &WritesSinceCheckpoint) {
    loop {
        written.wake.notified().await;
        while written.rows.load(Ordering::Relaxed) < WRITES_BETWEEN {
            let before = written.rows.load(Ordering::Relaxed);
            tokio::select! {
                () = written.wake.notified() => {}
                () = clock::sleep(IDLE_TIME) => if written.rows.load(Ordering::Relaxed) == before { break },
            }
        }
        written.rows.store(0, Ordering::Relaxed);
        let mut done = passive(connection).await;
        if written.rows.load(Ordering::Relaxed) > 0 {
            // The first pass took long. The second leaves only few pages to the writer.
            done = passive(connection).await;
            written.incomplete.store(true, Ordering::Relaxed);
        }
        if done.is_some_and(|(pages, copied)| is_held_by_readers(pages, copied)) {
            let _ = sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(&mut *connection).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::ConnectOptions as _;
    use sqlx::Connection as _;
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

    use super::*;

    #[tokio::test]
    async fn the_wal_restarts_although_the_writer_wrote_during_the_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("t.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let mut writer = options.connect().await.unwrap();
        let mut checkpointer = options.connect().await.unwrap();
        let insert = "INSERT INTO t (content) VALUES (randomblob(3000))";
        sqlx::query("CREATE TABLE t (content)").execute(&mut writer).await.unwrap();
        for _ in 0..50 {
            sqlx::query(insert).execute(&mut writer).await.unwrap();
        }
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query(insert).execute(&mut *transaction).await.unwrap();
        let (pages, copied) = passive(&mut checkpointer).await.unwrap();
        assert!(pages > 50 && copied == pages, "{copied} of {pages}");
        transaction.commit().await.unwrap();
        let (longer, _) = passive(&mut checkpointer).await.unwrap();
        assert!(longer > pages, "{longer} of {pages}");

        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
        sqlx::query(insert).execute(&mut *transaction).await.unwrap();
        passive(&mut checkpointer).await.unwrap();
        transaction.commit().await.unwrap();
        let written = WritesSinceCheckpoint::default();
        written.incomplete.store(true, Ordering::Relaxed);
        written.complete_checkpoint(&mut writer).await;
        sqlx::query(insert).execute(&mut writer).await.unwrap();
        let (restarted, _) = passive(&mut checkpointer).await.unwrap();
        assert!(restarted < pages, "{restarted} pages");
    }
}
