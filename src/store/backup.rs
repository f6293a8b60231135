//! A consistent copy of the live database.
//!
//! `VACUUM INTO` copies within one read transaction, while the daemon keeps writing. The copy is written under a
//! temporary name, checked, and renamed last. So the target file is always complete.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use super::StoreError;
use super::file::{MODE, beside, open_or_create};

/// Error of a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} already exists", path.display())]
    Exists { path: PathBuf },
    #[error("{} is being written by another backup", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Source(StoreError),
    #[error("the copy could not be written to {}: {error}", path.display())]
    Copy { path: PathBuf, error: StoreError },
    #[error(
        "the copy failed its integrity check ({problem}): the database or the disk of the copy is damaged"
    )]
    Damaged { problem: String },
}

impl BackupError {
    /// Returns a hint for the operator, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Exists { .. } => {
                Some("a backup never overwrites a file: choose another name, or remove the file")
            }
            Self::Source(error) | Self::Copy { error, .. } => error.hint(),
            _ => None,
        }
    }
}

/// A backup in progress. Dropping it unfinished removes its partial file.
#[derive(Debug)]
pub struct Backup {
    source: SqliteConnection,
    target: PathBuf,
    partial: PartialFile,
    expected_bytes: u64,
}

/// The file that receives the copy until it is complete. Dropping it removes the file.
#[derive(Debug)]
struct PartialFile {
    path: PathBuf,
    /// Locks the file against another backup to the same target, and sets its mode.
    file: File,
}

impl Backup {
    /// Prepares a copy of the database at `database` to `target`, which must not exist.
    pub async fn begin(database: &Path, target: &Path) -> Result<Self, BackupError> {
        if target.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { path: target.to_owned() });
        }
        let partial = PartialFile::create(beside(target, ".partial"))?;
        let options = SqliteConnectOptions::new().filename(database).read_only(true);
        let look = async {
            let mut source = SqliteConnection::connect_with(&options).await?;
            let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut source).await?;
            let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(&mut source).await?;
            Ok::<_, sqlx::Error>((source, u64::try_from(pages.saturating_mul(size)).unwrap_or(0)))
        };
        let (source, expected_bytes) =
            look.await.map_err(|error| BackupError::Source(StoreError::from(error).of(database)))?;
        Ok(Self { source, target: target.to_owned(), partial, expected_bytes })
    }

    /// Returns the approximate size of the copy.
    pub fn expected_bytes(&self) -> u64 {
        self.expected_bytes
    }

    /// Returns the path of the partial file, for a progress display.
    pub fn partial(&self) -> &Path {
        &self.partial.path
    }

    /// Copies the database, checks the copy, and renames it to the target. Returns its size.
    pub async fn write(mut self) -> Result<u64, BackupError> {
        let copied = sqlx::query("VACUUM INTO ?")
            .bind(self.partial.path.as_os_str().to_string_lossy().into_owned())
            .execute(&mut self.source)
            .await;
        copied.map_err(|error| BackupError::Copy { path: self.partial.path.clone(), error: error.into() })?;
        self.verify().await?;
        let failed = |error: io::Error| BackupError::File { path: self.target.clone(), error };
        self.partial.file.sync_all().map_err(failed)?;
        let bytes = self.partial.file.metadata().map_err(failed)?.len();
        // Fails if the target exists by now.
        std::fs::hard_link(&self.partial.path, &self.target)
            .or_else(|error| match self.target.symlink_metadata() {
                Ok(_) => Err(error),
                // The file system has no hard links.
                Err(_) => std::fs::rename(&self.partial.path, &self.target),
            })
            .map_err(failed)?;
        if let Some(directory) = self.target.parent() {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            // Sync the directory, so that the new name survives a power loss. Not all file systems support this.
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(bytes)
    }

    async fn verify(&self) -> Result<(), BackupError> {
        let options =
            SqliteConnectOptions::new().filename(&self.partial.path).read_only(true).immutable(true);
        let check = async {
            let mut copy = SqliteConnection::connect_with(&options).await?;
            let found: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut copy).await?;
            // Fails if the copy has no schema.
            let _labels: i64 = sqlx::query_scalar("SELECT count(*) FROM labels").fetch_one(&mut copy).await?;
            copy.close().await?;
            Ok::<_, sqlx::Error>(found)
        };
        match check.await {
            Ok(found) if found == "ok" => Ok(()),
            Ok(found) => Err(BackupError::Damaged { problem: found }),
            Err(error) => Err(BackupError::Damaged { problem: StoreError::from(error).to_string() }),
        }
    }
}

impl PartialFile {
    /// Creates the file, or empties that of a killed backup, and locks it.
    fn create(path: PathBuf) -> Result<Self, BackupError> {
        let failed = |error: io::Error| BackupError::File { path: path.clone(), error };
        let file = open_or_create(&path).map_err(failed)?;
        file.try_lock().map_err(|_| BackupError::Busy { path: path.clone() })?;
        file.set_len(0).map_err(failed)?;
        file.set_permissions(Permissions::from_mode(MODE)).map_err(failed)?;
        Ok(Self { path, file })
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // After the rename the file is gone. If removing fails, the next backup to that target overwrites it.
        let _ = std::fs::remove_file(&self.path);
    }
}
