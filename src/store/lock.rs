//! Lock against a second daemon, and a record of the running daemon.
//!
//! The lock is a kernel lock (`flock`). It ends with the process, so a crash leaves nothing to clean up. It is on the
//! database file itself, so another name of the file (symbolic link, hard link) does not bypass it. SQLite locks byte
//! ranges with `fcntl`, which does not interfere with `flock` on local Linux file systems.
//!
//! A second file, `DATABASE.lock`, is locked too. It contains the process id of the daemon and the result of its last
//! reload. It also keeps a second daemon away from the side files of a database that was removed under a running
//! daemon.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::file::{FileId, beside, open_or_create};
use crate::domain::degraded::Degraded;

/// The lock of a running daemon.
#[derive(Debug)]
pub struct DaemonLock {
    /// Closing any descriptor of the database drops SQLite's own locks on it, so this one is dropped last.
    _database: File,
    lock_file: File,
    path: PathBuf,
    record: DaemonRecord,
}

/// The record of a running daemon in `DATABASE.lock`. A `pid` of 0: not yet written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonRecord {
    pub pid: u32,
    /// Number of reloads by SIGHUP that have started.
    pub reloads_begun: u64,
    /// Number of reloads by SIGHUP that have ended.
    pub reloads_ended: u64,
    /// Result of the last reload.
    pub last_reload: Option<ReloadOutcome>,
    /// Degradations that only the daemon's process knows.
    pub degraded: Vec<Degraded>,
}

/// Result of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadOutcome {
    pub applied: bool,
    /// The changes, or the errors.
    pub lines: Vec<String>,
}

impl DaemonLock {
    /// Locks the database at `path`, and creates the file if it is missing.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| {
                not_locked(
                    &path,
                    format!("its directory {} could not be created: {error}", directory.display()),
                )
            })?;
        }
        let failed = |error: io::Error| not_locked(&path, error.to_string());
        match path.metadata() {
            Ok(file) if !file.is_file() => return Err(not_locked(&path, "it is not a regular file")),
            // For a dangling symbolic link: the lock file belongs beside the real file, so create that first.
            Err(_) if path.is_symlink() => drop(open_or_create(&path).map_err(failed)?),
            _ => {}
        }
        let lock_path = lock_path(&path);
        let lock_file = open_or_create(&lock_path)
            .map_err(|error| not_locked(&path, format!("{}: {error}", lock_path.display())))?;
        try_lock(&lock_file, &path, &lock_file)?;
        let database = open_or_create(&path).map_err(failed)?;
        try_lock(&database, &path, &lock_file)?;
        let mut lock = Self {
            _database: database,
            lock_file,
            path: lock_path.clone(),
            record: DaemonRecord { pid: std::process::id(), ..DaemonRecord::default() },
        };
        lock.write().map_err(|error| not_locked(&path, format!("{}: {error}", lock_path.display())))?;
        Ok(lock)
    }

    /// Records the start of a reload by SIGHUP. A signal sent from now on leads to another reload.
    pub fn reload_begins(&mut self) -> io::Result<()> {
        self.record.reloads_begun += 1;
        self.write()
    }

    /// Records the end of the last reload.
    pub fn reload_ended(&mut self, outcome: ReloadOutcome) -> io::Result<()> {
        self.record.reloads_ended = self.record.reloads_begun;
        self.record.last_reload = Some(outcome);
        self.write()
    }

    /// Records the degradations that only this process knows.
    pub fn record_degraded(&mut self, degraded: Vec<Degraded>) -> io::Result<()> {
        if self.record.degraded == degraded {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.record.degraded, degraded);
        let written = self.write();
        if written.is_err() {
            // The next call writes again.
            self.record.degraded = before;
        }
        written
    }

    /// Creates `DATABASE.lock` again if it was removed: commands find the running daemon by it.
    pub fn renew(&mut self) -> io::Result<()> {
        let ours = FileId::of(&self.lock_file.metadata()?);
        if self.path.metadata().is_ok_and(|file| FileId::of(&file) == ours) {
            return Ok(());
        }
        let lock_file = open_or_create(&self.path)?;
        // A command may hold it just now; the next check tries again.
        lock_file.try_lock().map_err(io::Error::from)?;
        self.lock_file = lock_file;
        self.write()
    }

    /// Writes the record in one call, so that a reader does not see half of it. A shorter text is padded with spaces.
    fn write(&mut self) -> io::Result<()> {
        let mut text = serde_json::to_vec(&self.record).map_err(io::Error::other)?;
        let before = usize::try_from(self.lock_file.metadata()?.len()).unwrap_or(0);
        text.resize(text.len().max(before), b' ');
        self.lock_file.write_all_at(&text, 0)
    }
}

/// Returns the record of the daemon that runs on the database at `path`, if any.
pub fn daemon_record(path: &Path) -> Option<DaemonRecord> {
    let file = File::open(lock_path(path)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read(&file)),
        // The lock was free; closing the file releases it.
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Whether a daemon has the file at `path` open under another name (hard link). SQLite keeps a journal per name, so two
/// names damage the database. Call this before this process opens the database: see [`DaemonLock`].
pub fn runs_under_another_name(path: &Path) -> bool {
    if !path.metadata().is_ok_and(|file| file.nlink() > 1) || daemon_record(path).is_some() {
        return false;
    }
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Reads the record. It may be incomplete while it is being written.
fn read(file: &File) -> DaemonRecord {
    for _ in 0..100 {
        let length = file.metadata().map_or(0, |file| file.len());
        let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = file.read_exact_at(&mut text, 0).ok().and_then(|()| serde_json::from_slice(&text).ok());
        if let Some(record) = read {
            return record;
        }
        std::thread::yield_now();
    }
    DaemonRecord::default()
}

fn try_lock(file: &File, path: &Path, lock_file: &File) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
            path: path.to_owned(),
            // Under another name of the database the holder has another record file, so this record may have a wrong
            // process id or none.
            pid: std::ptr::eq(file, lock_file).then(|| read(lock_file).pid).filter(|pid| *pid != 0),
        }),
        Err(TryLockError::Error(error)) => Err(not_locked(path, format!("it could not be locked: {error}"))),
    }
}

fn not_locked(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::open(path, reason, Some(WRITABLE))
}

const WRITABLE: &str =
    "store.path must name a file in a directory that the daemon may write to, on a local file system";

/// Returns the path of the lock file, beside the real file.
fn lock_path(path: &Path) -> PathBuf {
    beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), ".lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_the_file_and_a_missing_lock_file_do_not_bypass_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut held = DaemonLock::acquire(&path).unwrap();
        let (symbolic, hard) = (directory.path().join("symbolic.db"), directory.path().join("hard.db"));
        std::os::unix::fs::symlink(&path, &symbolic).unwrap();
        std::fs::hard_link(&path, &hard).unwrap();
        let refused = |path: &Path| DaemonLock::acquire(path).unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        assert!(refused(&path).contains(&pid) && refused(&symbolic).contains(&pid));
        assert!(refused(&hard).contains("in use by another trackpost"), "{}", refused(&hard));
        assert!(runs_under_another_name(&hard) && !runs_under_another_name(&path));
        std::fs::remove_file(lock_path(&path)).unwrap();
        assert!(refused(&path).contains("in use by another trackpost"));
        held.renew().unwrap();
        assert!(refused(&path).contains(&pid));
        drop(held);
        assert!(!runs_under_another_name(&hard));
        DaemonLock::acquire(&symbolic).unwrap();
    }

    #[test]
    fn a_database_removed_under_a_daemon_is_not_created_again_while_side_files_exist() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let _held = DaemonLock::acquire(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = DaemonLock::acquire(&path).unwrap_err().to_string();
        assert!(refused.contains("in use by another trackpost"), "{refused}");
    }

    #[test]
    fn the_lock_file_names_the_running_daemon_and_the_result_of_its_reload() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        assert_eq!(daemon_record(&path), None);
        let mut lock = DaemonLock::acquire(&path).unwrap();
        assert_eq!(daemon_record(&path).map(|record| record.pid), Some(std::process::id()));
        let outcome = ReloadOutcome { applied: false, lines: vec!["a fault".repeat(1000)] };
        lock.reload_begins().unwrap();
        assert_eq!(
            daemon_record(&path).map(|record| (record.reloads_begun, record.reloads_ended)),
            Some((1, 0))
        );
        lock.reload_ended(outcome.clone()).unwrap();
        lock.reload_begins().unwrap();
        let record = daemon_record(&path).unwrap();
        assert_eq!((record.reloads_begun, record.reloads_ended), (2, 1));
        assert_eq!(record.last_reload, Some(outcome));
        drop(lock);
        assert!(daemon_record(&path).is_none());
        DaemonLock::acquire(&path).unwrap();
    }

    #[test]
    fn only_a_regular_file_can_be_a_database() {
        let refused = DaemonLock::acquire(Path::new("/dev/null")).unwrap_err().to_string();
        assert!(refused.contains("/dev/null") && refused.contains("not a regular file"), "{refused}");
    }
}
