//! Opening the database: is it one, is it ours, is it not from the future.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::watch;

use super::writer::{Writer, write_queue};
use super::{Store, StoreError};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Readers at once: verbs, status pages, the trades' looks ahead.
const READERS: u32 = 4;
/// How long another process may hold the database before we give up on it.
const BUSY: Duration = Duration::from_secs(10);
/// The WAL is cut back to this after a checkpoint.
const WAL_LIMIT: &str = "67108864";
/// Written by the first migration.
const APPLICATION_ID: i32 = 1_416_646_731;

/// Opens the database at `path`, making it and bringing it up to date. The writer must be run, or no write returns.
pub async fn open(path: &Path) -> Result<(Store, Writer), StoreError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .pragma("journal_size_limit", WAL_LIMIT)
        .disable_statement_logging();
    let refused = |error: sqlx::Error| refusal(path, &error);
    is_ours(path).await?;
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(refused)?;
    MIGRATOR.run(&mut connection).await.map_err(|error| from_the_future(path, error))?;

    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        // A file does not hang up: asking first would double what a short look costs.
        .test_before_acquire(false)
        .acquire_timeout(Duration::from_secs(30))
        .connect_with(options.create_if_missing(false).read_only(true))
        .await
        .map_err(refused)?;
    let (queue, jobs) = write_queue();
    let (outbox, registry) = (watch::Sender::new(0), watch::Sender::new(0));
    let store = Store { path: path.to_owned(), readers, writer: queue, outbox: outbox.clone(), registry };
    store.refresh_registry_changes().await?;
    Ok((store, Writer::new(connection, jobs, outbox)))
}

/// Refuses a file that is no database of ours before anything in it is touched.
async fn is_ours(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let look = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok((id, tables))
    };
    let (id, tables) = look.await.map_err(|error| refusal(path, &error))?;
    if tables == 0 || id == APPLICATION_ID {
        return Ok(());
    }
    Err(StoreError::Open {
        path: path.to_owned(),
        reason: "it is an SQLite database, but none of trackpost's".to_owned(),
        hint: Some("set store.path to a file of its own".to_owned()),
    })
}

fn refusal(path: &Path, error: &sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    let hint = match code.as_deref() {
        Some("26") => Some("the file is no SQLite database: set store.path to another, or restore a backup"),
        Some("14") => Some("store.path must lie in a folder that exists and that the daemon may write to"),
        Some("8" | "1032") => Some("the file must be writable by the user that runs trackpost"),
        Some("11") => Some("the file is damaged: restore a backup, and keep the damaged one"),
        _ => None,
    };
    StoreError::Open { path: path.to_owned(), reason: error.to_string(), hint: hint.map(str::to_owned) }
}

fn from_the_future(path: &Path, error: MigrateError) -> StoreError {
    let (reason, hint) = match &error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => (
            format!("it was written by a newer trackpost (its schema has version {version})"),
            Some("run the newer trackpost, or restore a backup made before the upgrade"),
        ),
        MigrateError::VersionMismatch(version) => (
            format!("its schema version {version} is not the one this trackpost knows"),
            Some("it was made by a development build: start with a new database"),
        ),
        _ => (error.to_string(), None),
    };
    StoreError::Open { path: path.to_owned(), reason, hint: hint.map(str::to_owned) }
}
