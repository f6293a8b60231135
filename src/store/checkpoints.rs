//! Checkpoints of the WAL, off the writer's path.
//!
//! A connection of its own copies what was committed into the database while the writer goes on. The next commit after a
//! complete one begins the WAL anew. If it falls behind, the writer does it itself (`wal_autocheckpoint`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::Notify;

use crate::clock;

/// A checkpoint is made after so many polls and settlements; fewer would write hot pages too often.
const AFTER: u64 = 1_000;
/// Or when nothing was written for so long.
const IDLE: Duration = Duration::from_secs(60);

/// Pages of a WAL that should have begun anew: 12 MiB.
const LONG: i64 = 12_000;
/// How long a checkpoint waits for readers, and the writer with it.
pub(super) const BUSY: Duration = Duration::from_millis(500);

/// Whether a WAL grows only because readers follow one another without a gap. A reader that stays would not be waited out.
fn is_kept_long(pages: i64, copied: i64) -> bool {
    pages > LONG && pages - copied < pages / 8
}

/// What was written since the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Written {
    rows: AtomicU64,
    bell: Notify,
}

impl Written {
    pub fn add(&self, rows: usize) {
        let before = self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if before == 0 || before + rows as u64 >= AFTER {
            self.bell.notify_one();
        }
    }
}

/// Makes checkpoints for ever.
pub(super) async fn run(connection: &mut SqliteConnection, written: &Written) {
    loop {
        written.bell.notified().await;
        while written.rows.load(Ordering::Relaxed) < AFTER {
            let before = written.rows.load(Ordering::Relaxed);
            tokio::select! {
                () = written.bell.notified() => {}
                () = clock::sleep(IDLE) => if written.rows.load(Ordering::Relaxed) == before { break },
            }
        }
        written.rows.store(0, Ordering::Relaxed);
        // What could not be copied is copied the next time, or by the writer.
        let done = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(PASSIVE)")
            .fetch_one(&mut *connection)
            .await;
        if let Ok((_, pages, copied)) = done
            && is_kept_long(pages, copied)
        {
            let _ = sqlx::query("PRAGMA wal_checkpoint(RESTART)").execute(&mut *connection).await;
        }
    }
}

pub(super) async fn close(connection: SqliteConnection) {
    let _ = connection.close().await;
}
