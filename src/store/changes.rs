//! Detection of commits by other processes: one watcher for the whole process.
//!
//! `PRAGMA data_version` of a connection changes when another connection has committed. The watcher reads it on the
//! writer's connection. All writes of this process use that connection, so a change means another process.
//!
//! Every commit writes to the WAL first. So inotify says when to read the version, and an idle process is not woken. A
//! commit counts only after the WAL is synced, so the version is read a few more times after a write. Where inotify
//! does not work, it is read at a fixed interval.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventStream, Inotify, WatchMask, Watches};
use sqlx::SqliteConnection;
use tokio::sync::watch;

use crate::clock::{self, Stopwatch};

/// Interval of reading the version. A change is noticed within it, or when a running commit ends.
const AFTER_WRITE: Duration = Duration::from_millis(500);
/// Number of times that the version is read after a write to the WAL.
const READS_AFTER_WRITE: u32 = 4;
/// Interval of reading the version without a write.
const IDLE: Duration = Duration::from_secs(10);

/// An inotify event of a file has no name and takes 16 bytes.
type Events = EventStream<[u8; 256]>;

pub(super) struct Watcher {
    wal: PathBuf,
    inotify: Option<(Events, Watches)>,
    /// Reads of the version left before waiting for the next write.
    reads_left: u32,
    version: Option<i64>,
    last: Stopwatch,
    changes: watch::Sender<u64>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

impl Watcher {
    /// `wal` is the path of the WAL.
    pub fn new(wal: PathBuf, changes: watch::Sender<u64>) -> Self {
        Self {
            wal,
            inotify: None,
            reads_left: READS_AFTER_WRITE,
            version: None,
            last: Stopwatch::start(),
            changes,
        }
    }

    /// Returns when the version is to be read. Cancel-safe.
    pub async fn wait(&mut self) {
        let rest = clock::sleep(self.pause().saturating_sub(self.last.elapsed()));
        match &mut self.inotify {
            Some((events, _)) if self.reads_left == 0 => tokio::select! {
                () = rest => {}
                () = written(events) => self.reads_left = READS_AFTER_WRITE,
            },
            _ => rest.await,
        }
    }

    /// Reads the version if it is due.
    pub async fn read_version(&mut self, connection: &mut SqliteConnection) {
        // Under load the writer calls this without `wait`.
        if let Some((events, _)) = self.inotify.as_mut().filter(|_| self.reads_left == 0)
            && written(events).now_or_never().is_some()
        {
            self.reads_left = READS_AFTER_WRITE;
        }
        if self.version.is_some() && self.last.elapsed() < self.pause() {
            return;
        }
        self.last = Stopwatch::start();
        self.reads_left = self.reads_left.saturating_sub(1);
        // Watch before reading the version, so that no write in between is lost.
        if self.reads_left == 0 && !self.watch_once() {
            self.reads_left = 1;
        }
        let read = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await;
        // If reading fails, the next write reports the error.
        let Ok(version) = read else { return };
        if self.version.replace(version).is_some_and(|before| before != version) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn pause(&self) -> Duration {
        if self.reads_left > 0 { AFTER_WRITE } else { IDLE }
    }

    /// Requests a single event for the next write, so that many writes cost one event.
    fn watch_once(&mut self) -> bool {
        if self.inotify.is_none() {
            let inotify = Inotify::init().and_then(|inotify| {
                let watches = inotify.watches();
                Ok((inotify.into_event_stream([0; 256])?, watches))
            });
            self.inotify = inotify.ok();
        }
        let mask = WatchMask::MODIFY | WatchMask::ONESHOT;
        self.inotify.as_mut().is_some_and(|(_, watches)| watches.add(&self.wal, mask).is_ok())
    }
}

/// Returns at the next write, and also if inotify fails; then the version is read.
async fn written(events: &mut Events) {
    // The end of the previous watch is an event too.
    while let Some(Ok(event)) = events.next().await
        && event.mask.contains(EventMask::IGNORED)
    {}
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    use sqlx::{ConnectOptions as _, Executor as _};

    use super::*;
    use crate::store::file::beside;

    #[tokio::test]
    async fn a_write_of_another_process_ends_a_long_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal);
        let (mut ours, mut other) = (options.connect().await.unwrap(), options.connect().await.unwrap());
        other.execute("CREATE TABLE t (a)").await.unwrap();
        let (changes, mut noticed) = watch::channel(0);
        let mut watcher = Watcher { reads_left: 1, ..Watcher::new(beside(&path, "-wal"), changes) };
        watcher.read_version(&mut ours).await;
        assert_eq!(watcher.reads_left, 0, "it waits for a write");
        for round in 1..=2 {
            other.execute("INSERT INTO t VALUES (1)").await.unwrap();
            let waited = Stopwatch::start();
            while *noticed.borrow_and_update() < round {
                watcher.wait().await;
                watcher.read_version(&mut ours).await;
            }
            assert!(waited.elapsed() < IDLE / 2, "round {round}: {:?}", waited.elapsed());
            while watcher.reads_left > 0 {
                watcher.wait().await;
                watcher.read_version(&mut ours).await;
            }
        }
    }

    #[tokio::test]
    async fn without_inotify_the_version_is_read_at_an_interval() {
        let options = SqliteConnectOptions::new();
        let (mut connection, changes) = (options.connect().await.unwrap(), watch::Sender::new(0));
        let mut watcher = Watcher { reads_left: 1, ..Watcher::new("/nowhere/a.db-wal".into(), changes) };
        watcher.read_version(&mut connection).await;
        assert_eq!(watcher.pause(), AFTER_WRITE);
    }
}
