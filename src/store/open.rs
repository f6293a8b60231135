//! Opening the database: is it one, is it ours, is it not from the future.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::watch;

use super::changes::Watcher;
use super::checkpoints;
use super::error::{in_plain_words, way_out};
use super::file::{OpenFiles, create_if_missing};
use super::label_reads::label_reads;
use super::outbox::handover::Handover;
use super::writer::{Connections, Writer, write_queue};
use super::{Store, StoreError};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Readers at once: verbs, status pages, the workers' looks ahead.
const READERS: u32 = 4;
/// A reader forgets what it has read at the next commit, so a large cache would be memory for nothing: 256 KiB.
const READERS_CACHE: &str = "-256";
/// Readers at once for pages of the HTTP port.
const PAGE_READERS: u32 = 2;
/// How long another process may hold the database before we give up on it.
const BUSY: Duration = Duration::from_secs(10);
/// The WAL is cut back to this after a checkpoint.
const WAL_LIMIT: &str = "67108864";
/// Up to this size the whole database is checked for damage at start: some tenths of a second at most.
const QUICK_CHECK: u64 = 32 << 20;
/// Bytes of a page. A poll changes a few small rows on pages of their own, and each page that is touched is written whole.
const PAGE_SIZE: u32 = 1024;
/// Pages in the WAL after which the writer makes a checkpoint itself, should those beside it fall behind: 16 MiB.
const AUTOCHECKPOINT: &str = "16000";
/// Prepared statements that a connection keeps: those of several rows come in seven sizes.
const STATEMENTS: usize = 200;
/// Written by the first migration.
const APPLICATION_ID: i32 = 1_416_646_731;

/// Opens the database at `path`, making it and bringing it up to date. The writer must be run, or no write returns.
pub async fn open(path: &Path) -> Result<(Store, Writer), StoreError> {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let not_opened = |error: io::Error| StoreError::Open {
        path: path.to_owned(),
        reason: error.to_string(),
        hint: Some("store.path must lie in a folder that exists and that the daemon may write to".to_owned()),
    };
    create_if_missing(path).map_err(not_opened)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
        .pragma("journal_size_limit", WAL_LIMIT)
        .pragma("wal_autocheckpoint", AUTOCHECKPOINT)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    let refused = |error: sqlx::Error| refusal(path, &error);
    let is_new = look_inside(path).await?;
    let mut connection = SqliteConnection::connect_with(&options).await.map_err(refused)?;
    MIGRATOR.run(&mut connection).await.map_err(|error| from_the_future(path, error))?;
    let with_limit = options.clone().busy_timeout(checkpoints::BUSY);
    let checkpointer = SqliteConnection::connect_with(&with_limit).await.map_err(refused)?;

    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            // A file does not hang up: asking first would double what a short look costs.
            .test_before_acquire(false)
            .acquire_timeout(Duration::from_secs(30))
    };
    let options = options.read_only(true).pragma("cache_size", READERS_CACHE);
    let page_readers = pool(PAGE_READERS).connect_lazy_with(options.clone());
    let readers = pool(READERS).connect_with(options).await.map_err(refused)?;
    let reading = readers.acquire().await.map_err(refused)?.detach();
    let (label_reads, label_reader) = label_reads(reading);
    let files = Arc::new(OpenFiles::note(path).map_err(not_opened)?);
    let (queue, jobs) = write_queue();
    let (handover, foreign) = (Handover::default(), watch::Sender::new(0));
    let watcher = Watcher::new(files.wal(), foreign.clone());
    let connections = Connections { connection, checkpointer, label_reader };
    let writer = Writer::new(connections, jobs, handover.clone(), watcher, Arc::clone(&files));
    let registry = watch::Sender::new(0);
    let store = Store {
        files,
        is_new,
        readers,
        page_readers,
        writer: queue,
        label_reads,
        handover,
        foreign,
        registry,
    };
    store.refresh_registry_changes().await?;
    Ok((store, writer))
}

/// Whether the database is empty. Refuses a file that is not trackpost's, before anything in it is touched, and one that
/// is damaged, as far as a short look shows.
async fn look_inside(path: &Path) -> Result<bool, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
    let small = path.metadata().is_ok_and(|file| file.len() <= QUICK_CHECK);
    let look = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut connection).await?;
        let ours = id == APPLICATION_ID && tables > 0;
        let damage: Option<String> = match small && ours {
            true => sqlx::query_scalar("PRAGMA quick_check(1)").fetch_optional(&mut connection).await?,
            false => None,
        };
        connection.close().await?;
        Ok((id, tables, damage))
    };
    let (id, tables, damage) = look.await.map_err(|error| refusal(path, &error))?;
    let refused = |reason: String, hint: &str| {
        Err(StoreError::Open { path: path.to_owned(), reason, hint: Some(hint.to_owned()) })
    };
    match damage {
        Some(damage) if damage != "ok" => refused(
            format!("it is damaged ({})", damage.replace('\n', "; ")),
            "keep the damaged file and its -wal file, and restore a backup (deploy/README.md says how)",
        ),
        _ if tables > 0 && id != APPLICATION_ID => refused(
            "it is an SQLite database of another program".to_owned(),
            "set store.path to a file of its own",
        ),
        _ => Ok(tables == 0),
    }
}

fn refusal(path: &Path, error: &sqlx::Error) -> StoreError {
    StoreError::Open {
        path: path.to_owned(),
        reason: in_plain_words(error),
        hint: way_out(error).map(str::to_owned),
    }
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
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return refusal(path, error);
        }
        _ => (error.to_string(), None),
    };
    StoreError::Open { path: path.to_owned(), reason, hint: hint.map(str::to_owned) }
}
