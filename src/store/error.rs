//! Errors of the store, in plain words and with a hint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Error of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {} could not be opened: {reason}", path.display())]
    Open { path: PathBuf, reason: String, hint: Option<&'static str> },
    #[error("the database {} is in use by another trackpost{}", path.display(), pid_suffix(*pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    /// The path names another file than the open one. Later writes would be missing at the next start.
    #[error("the database {} {problem} while trackpost runs on it", path.display())]
    Lost { path: PathBuf, problem: String },
    #[error("the database {} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("the database{} failed: {}", path_suffix(path.as_deref()), meaning_of(error))]
    Failed { error: Arc<sqlx::Error>, path: Option<Arc<Path>> },
    #[error("the database was closed, because trackpost stops or an earlier error ended it; see the log")]
    WriterGone,
    /// A task panicked; whether it wrote its result is unknown.
    #[error("a task panicked: {0}")]
    Panicked(String),
}

impl StoreError {
    /// The database at `path` could not be opened.
    pub(super) fn open(path: &Path, reason: impl Into<String>, hint: Option<&'static str>) -> Self {
        Self::Open { path: path.to_owned(), reason: reason.into(), hint }
    }

    /// The database at `path` could not be opened because of an error of SQLite.
    pub(super) fn open_failed(path: &Path, error: &sqlx::Error) -> Self {
        Self::open(path, meaning_of(error), meaning_and_hint(error).map(|(_, hint)| hint))
    }

    /// Adds the path of the database to the error.
    pub fn of(self, path: &Path) -> Self {
        match self {
            Self::Failed { error, path: None } => Self::Failed { error, path: Some(path.into()) },
            named => named,
        }
    }

    /// Returns a hint for the operator, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { hint, .. } => *hint,
            Self::InUse { .. } => Some("stop the other trackpost, or set another store.path"),
            Self::Lost { .. } => Some(
                "nothing is polled or delivered: put the database back and start trackpost again; if the file is missing, the \
                 next start creates an empty database. Stop trackpost before you move or restore its database",
            ),
            Self::Damaged { .. } => Some(RESTORE),
            Self::Failed { error, .. } => meaning_and_hint(error).map(|(_, hint)| hint),
            Self::WriterGone | Self::Panicked(_) => None,
        }
    }

    /// Whether the database itself failed: its disk, its file or its content. Later errors on that connection have no
    /// meaning of their own.
    pub(super) fn is_database_failure(&self) -> bool {
        let Self::Failed { error, .. } = self else { return matches!(self, Self::Lost { .. }) };
        let failures = [READ_ONLY, IO, DAMAGED, FULL, CANNOT_OPEN, NO_DATABASE];
        primary_code(error).is_some_and(|code| failures.contains(&code))
    }

    /// Whether the database works and only rejected these rows.
    pub fn is_refusal(&self) -> bool {
        let Self::Failed { error, .. } = self else { return false };
        // 1: fault in the statement or its data. 18: too large. 19: constraint. 20: type.
        primary_code(error).is_some_and(|code| matches!(code, 1 | 18 | 19 | 20))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed { error: Arc::new(error), path: None }
    }
}

fn pid_suffix(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn path_suffix(path: Option<&Path>) -> String {
    path.map(|path| format!(" {}", path.display())).unwrap_or_default()
}

/// Returns SQLite's primary result code: the low byte of the extended code.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?.parse::<u32>().ok()?;
    Some(code & 0xff)
}

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READ_ONLY: u32 = 8;
const IO: u32 = 10;
const DAMAGED: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NO_DATABASE: u32 = 26;

/// Hint for a damaged database.
pub(super) const RESTORE: &str =
    "keep the damaged file and its -wal file, and restore a backup as in deploy/README.md";

/// Returns the meaning of the error, with SQLite's own text in brackets.
fn meaning_of(error: &sqlx::Error) -> String {
    let Some(error_text) = error.as_database_error() else { return error.to_string() };
    match meaning_and_hint(error) {
        Some((meaning, _)) => format!("{meaning} ({})", error_text.message()),
        None => error_text.message().to_owned(),
    }
}

/// Returns the meaning of an SQLite error and a hint; `None` for other errors.
fn meaning_and_hint(error: &sqlx::Error) -> Option<(&'static str, &'static str)> {
    Some(match primary_code(error)? {
        FULL => (
            "the disk is full",
            "free some space on its disk and start trackpost again; it repeats polls that were not recorded",
        ),
        READ_ONLY => (
            "it cannot be written",
            "commands that read need write access too: run as the service's user or with sudo; the disk must not be \
             mounted read-only",
        ),
        DAMAGED => ("it is damaged", RESTORE),
        NO_DATABASE => {
            ("it is not an SQLite database", "set store.path to another file, or restore a backup")
        }
        IO => (
            "the disk reports an error",
            "check the disk (free space, limits, the kernel's log), then start trackpost again",
        ),
        BUSY | LOCKED => (
            "another process has locked it for too long",
            "stop the other process (fuser FILE shows it), or try again",
        ),
        CANNOT_OPEN => (
            "it or its directory cannot be opened",
            "store.path must be in a directory that exists and that the daemon may write to; commands that read need \
             write access too: run as the service's user or with sudo",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{ConnectOptions as _, SqliteConnection};

    use super::*;

    async fn connection(path: &Path, read_only: bool) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(!read_only);
        options.read_only(read_only).connect().await.unwrap()
    }

    async fn failed_statement(connection: &mut SqliteConnection, sql: &'static str) -> (String, String) {
        let error = StoreError::from(sqlx::query(sql).execute(connection).await.unwrap_err());
        let error = error.of(Path::new("/var/lib/t.db"));
        (error.to_string(), error.hint().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_with_path_and_hint() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = connection(&directory.path().join("a.db"), false).await;
        sqlx::query("CREATE TABLE t (x)").execute(&mut connection).await.unwrap();
        sqlx::query("PRAGMA max_page_count = 3").execute(&mut connection).await.unwrap();
        let (error_text, hint) =
            failed_statement(&mut connection, "INSERT INTO t VALUES (zeroblob(100000))").await;
        let expected = "the database /var/lib/t.db failed: the disk is full (database or disk is full)";
        assert_eq!(error_text, expected);
        assert!(hint.contains("free some space"), "{hint}");
    }

    #[tokio::test]
    async fn without_write_access_the_hint_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        sqlx::query("CREATE TABLE t (x)").execute(&mut connection(&path, false).await).await.unwrap();
        let (error_text, hint) = failed_statement(&mut connection(&path, true).await, "DELETE FROM t").await;
        assert!(
            error_text.ends_with("it cannot be written (attempt to write a readonly database)"),
            "{error_text}"
        );
        assert!(
            hint.contains("commands that read need write access too: run as the service's user or with sudo"),
            "{hint}"
        );
    }

    #[tokio::test]
    async fn damage_is_reported_and_a_rejected_row_is_not_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        let mut open = connection(&path, false).await;
        sqlx::query("CREATE TABLE t (x UNIQUE)").execute(&mut open).await.unwrap();
        let twice = "INSERT INTO t VALUES (1), (1)";
        let refused = StoreError::from(sqlx::query(twice).execute(&mut open).await.unwrap_err());
        assert!(refused.is_refusal() && refused.hint().is_none(), "{refused}");
        drop(open);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4096..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let (error_text, hint) =
            failed_statement(&mut connection(&path, false).await, "INSERT INTO t VALUES (2)").await;
        assert!(error_text.contains("it is damaged (database disk image is malformed)"), "{error_text}");
        assert!(hint.contains("restore a backup"), "{hint}");
    }
}
