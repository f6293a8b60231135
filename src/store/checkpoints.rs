//! Checkpoints of the WAL, off the writer's path.
//!
//! A separate connection copies committed pages into the database while the writer goes on. After a complete checkpoint
//! the next commit restarts the WAL. If checkpoints fall behind, the writer makes one itself (`wal_autocheckpoint`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Notify;

use crate::clock;

/// Polls and settlements between two checkpoints. With fewer, hot pages would be written too often.
const ROWS_BETWEEN: u64 = 1_000;
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

/// Counts the rows written since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct RowsWritten {
    rows: AtomicU64,
    wake: Notify,
}

impl RowsWritten {
    pub fn add(&self, rows: usize) {
        let before = self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if before == 0 || before + rows as u64 >= ROWS_BETWEEN {
            self.wake.notify_one();
        }
    }
}

/// Makes checkpoints until it is dropped.
pub(super) async fn run(connection: &mut SqliteConnection, written: &RowsWritten) {
    loop {
        written.wake.notified().await;
        while written.rows.load(Ordering::Relaxed) < ROWS_BETWEEN {
            let before = written.rows.load(Ordering::Relaxed);
            tokio::select! {
                () = written.wake.notified() => {}
                () = clock::sleep(IDLE_TIME) => if written.rows.load(Ordering::Relaxed) == before { break },
            }
        }
        written.rows.store(0, Ordering::Relaxed);
        // Pages that could not be copied are copied by the next checkpoint or by the writer.
        let done = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(PASSIVE)")
            .fetch_one(&mut *connection)
            .await;
        if let Ok((_, pages, copied)) = done
            && is_held_by_readers(pages, copied)
        {
            let _ = sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(&mut *connection).await;
        }
    }
}

pub(super) async fn close(connection: SqliteConnection) {
    let _ = connection.close().await;
}
