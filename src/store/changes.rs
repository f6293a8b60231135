//! What other processes commit, noticed by one watcher for the whole process.
//!
//! `PRAGMA data_version` of a connection changes when another one has committed. It is asked on the writer's connection:
//! all writes of this process go through that one, so what changes there is another process's.
//!
//! Every commit writes to the WAL first. So inotify says when to ask, and a process with nothing to do is not woken. A
//! commit counts only when the WAL is synced, so the version is asked for some more times after a write. Where inotify
//! does not work, it is asked for all the time.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventStream, Inotify, WatchMask, Watches};
use sqlx::SqliteConnection;
use tokio::sync::watch;

use crate::clock::{self, Stopwatch};

/// A change is noticed within this, or as soon as a commit that is under way has ended.
const EVERY: Duration = Duration::from_millis(500);
/// The version is asked for so many times after a write to the WAL.
const LOOKS: u32 = 4;
/// And this often without a write.
const RARELY: Duration = Duration::from_secs(10);

/// No event of a file has a name, so each takes 16 bytes.
type Events = EventStream<[u8; 256]>;

pub(super) struct Watcher {
    wal: PathBuf,
    inotify: Option<(Events, Watches)>,
    /// How often the version is still asked for before the next write is waited for.
    looks: u32,
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
        Self { wal, inotify: None, looks: LOOKS, version: None, last: Stopwatch::start(), changes }
    }

    /// Returns when it is time to look. A call that is given up loses nothing.
    pub async fn wait(&mut self) {
        let rest = clock::sleep(self.pause().saturating_sub(self.last.elapsed()));
        match &mut self.inotify {
            Some((events, _)) if self.looks == 0 => tokio::select! {
                () = rest => {}
                () = written(events) => self.looks = LOOKS,
            },
            _ => rest.await,
        }
    }

    /// Looks, if it is time to.
    pub async fn look(&mut self, connection: &mut SqliteConnection) {
        // While much is written, nobody waits.
        if let Some((events, _)) = self.inotify.as_mut().filter(|_| self.looks == 0)
            && written(events).now_or_never().is_some()
        {
            self.looks = LOOKS;
        }
        if self.version.is_some() && self.last.elapsed() < self.pause() {
            return;
        }
        self.last = Stopwatch::start();
        self.looks = self.looks.saturating_sub(1);
        // Before the version is asked for: no write falls between the two.
        if self.looks == 0 && !self.arm() {
            self.looks = 1;
        }
        let asked = sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await;
        // A database that does not answer is seen by whoever writes next.
        let Ok(version) = asked else { return };
        if self.version.replace(version).is_some_and(|before| before != version) {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    fn pause(&self) -> Duration {
        if self.looks > 0 { EVERY } else { RARELY }
    }

    /// Asks for one event at the next write, so that many writes cost no more than one.
    fn arm(&mut self) -> bool {
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

/// Returns at the next write; also if inotify fails, so that the version is asked for.
async fn written(events: &mut Events) {
    // The end of the last watch is an event, too.
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
        let mut watcher = Watcher { looks: 1, ..Watcher::new(beside(&path, "-wal"), changes) };
        watcher.look(&mut ours).await;
        assert_eq!(watcher.looks, 0, "it waits for a write");
        for round in 1..=2 {
            other.execute("INSERT INTO t VALUES (1)").await.unwrap();
            let waited = Stopwatch::start();
            while *noticed.borrow_and_update() < round {
                watcher.wait().await;
                watcher.look(&mut ours).await;
            }
            assert!(waited.elapsed() < RARELY / 2, "round {round}: {:?}", waited.elapsed());
            while watcher.looks > 0 {
                watcher.wait().await;
                watcher.look(&mut ours).await;
            }
        }
    }

    #[tokio::test]
    async fn without_inotify_the_version_is_asked_for_all_the_time() {
        let options = SqliteConnectOptions::new();
        let (mut connection, changes) = (options.connect().await.unwrap(), watch::Sender::new(0));
        let mut watcher = Watcher { looks: 1, ..Watcher::new("/nowhere/a.db-wal".into(), changes) };
        watcher.look(&mut connection).await;
        assert_eq!(watcher.pause(), EVERY);
    }
}
