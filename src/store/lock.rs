//! Keeps a second daemon out.
//!
//! An advisory lock on a file beside the database. It is the kernel's: it dies with its holder, however that ends, so
//! nothing has to be cleaned up after a crash.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Held as long as the daemon runs.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

impl DaemonLock {
    /// Takes the lock of the database at `path`, or says that somebody has it.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        let beside = lock_path(path);
        let failed = |reason: String, hint: Option<&str>| StoreError::Open {
            path: path.to_owned(),
            reason,
            hint: hint.map(str::to_owned),
        };
        if let Some(folder) = beside.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| {
                failed(format!("its folder {} can't be made: {error}", folder.display()), Some(WRITABLE))
            })?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&beside)
            .map_err(|error| failed(format!("{}: {error}", beside.display()), Some(WRITABLE)))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(failed(
                "another trackpost runs on it".to_owned(),
                Some("stop the other one, or give this one a store.path of its own"),
            )),
            Err(TryLockError::Error(error)) => Err(failed(format!("{}: {error}", beside.display()), None)),
        }
    }
}

/// The process id of the daemon that runs on the database at `path`, if one does; 0 while it is not known.
pub fn daemon_runs(path: &Path) -> Option<u32> {
    let file = File::open(lock_path(path)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(0),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

const WRITABLE: &str = "store.path must lie in a folder that the daemon may write to";

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
