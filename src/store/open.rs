//! Opens the database, and refuses files that are damaged, of another program or of a newer version.

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
use super::error::RESTORE;
use super::file::{OpenFiles, create_if_missing};
use super::label_reads::label_reads;
use super::outbox::handover::Handover;
use super::writer::{Writer, write_queue};
use super::{Store, StoreError};

static MIGRATOR: Migrator = sqlx::migrate!();

/// Reading connections of commands and workers.
const READERS: u32 = 4;
/// Page cache of a reader: 256 KiB. Each commit invalidates it, so a larger one wastes memory.
const READERS_CACHE: &str = "-256";
/// Reading connections of the HTTP port.
const PAGE_READERS: u32 = 2;
/// Maximum wait for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Size to which the WAL is truncated after a checkpoint.
const WAL_LIMIT: &str = "67108864";
/// Maximum size of a database that is checked for damage at start; takes some tenths of a second at most.
const QUICK_CHECK: u64 = 32 << 20;
/// Page size in bytes. A poll changes a few small rows on different pages, and each changed page is written whole.
const PAGE_SIZE: u32 = 1024;
/// WAL pages after which the writer makes a checkpoint itself if the separate checkpoints fall behind: 32 MiB.
const AUTOCHECKPOINT: &str = "32000";
/// Prepared statements cached per connection. Statements over several rows come in seven sizes.
const CACHED_STATEMENTS: usize = 200;
/// Application id, written by the first migration.
const APPLICATION_ID: i32 = 1_416_646_731;

/// Opens the database at `path`; creates it or migrates it if needed. Writes return only while the writer runs.
pub async fn open(path: &Path) -> Result<(Store, Writer), StoreError> {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let not_opened = |error: io::Error| {
        let hint = "store.path must be in a directory that exists and that the daemon may write to";
        StoreError::open(path, error.to_string(), Some(hint))
    };
    create_if_missing(path).map_err(not_opened)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .page_size(PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", WAL_LIMIT)
        .pragma("wal_autocheckpoint", AUTOCHECKPOINT)
        .statement_cache_capacity(CACHED_STATEMENTS)
        .disable_statement_logging();
    let refused = |error: sqlx::Error| StoreError::open_failed(path, &error);
    let is_new = check_content(path).await?;
    // Keeps the journals of statements in memory. They are small: each statement changes few rows, or has `OR FAIL` and
    // needs no journal.
    let writing = options.clone().pragma("temp_store", "MEMORY");
    let mut connection = SqliteConnection::connect_with(&writing).await.map_err(refused)?;
    MIGRATOR.run(&mut connection).await.map_err(|error| migration_failed(path, error))?;
    let with_limit = options.clone().busy_timeout(checkpoints::BUSY_TIMEOUT);
    let checkpointer = SqliteConnection::connect_with(&with_limit).await.map_err(refused)?;

    let pool = |connections| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            // A file has no connection to lose: testing it before use would double the cost of a short read.
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
    let (handover, external) = (Handover::default(), watch::Sender::new(0));
    let watcher = Watcher::new(external.clone());
    let writer = Writer::new(
        connection,
        checkpointer,
        label_reader,
        jobs,
        handover.clone(),
        watcher,
        Arc::clone(&files),
    );
    let registry = watch::Sender::new(0);
    let store = Store {
        files,
        is_new,
        readers,
        page_readers,
        writer: queue,
        label_reads,
        handover,
        external,
        registry,
    };
    store.refresh_registry_version().await?;
    Ok((store, writer))
}

/// Whether the database is empty. Before any write it refuses a file of another program, and a file that a quick check
/// finds damaged.
async fn check_content(path: &Path) -> Result<bool, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let small = path.metadata().is_ok_and(|file| file.len() <= QUICK_CHECK);
    let check = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let id: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut connection).await?;
        // The table of the migrations alone: the first start ended before the schema was written.
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE tbl_name <> '_sqlx_migrations'")
                .fetch_one(&mut connection)
                .await?;
        let ours = id == APPLICATION_ID && tables > 0;
        let damage: Option<String> = match small && ours {
            true => sqlx::query_scalar("PRAGMA quick_check(1)").fetch_optional(&mut connection).await?,
            false => None,
        };
        connection.close().await?;
        Ok((id, tables, damage))
    };
    let (id, tables, damage) = check.await.map_err(|error| StoreError::open_failed(path, &error))?;
    match damage {
        Some(damage) if damage != "ok" => {
            let reason = format!("it is damaged ({})", damage.replace('\n', "; "));
            Err(StoreError::open(path, reason, Some(RESTORE)))
        }
        _ if tables > 0 && id != APPLICATION_ID => {
            let reason = "it is an SQLite database of another program";
            Err(StoreError::open(path, reason, Some("set store.path to a file of its own")))
        }
        _ => Ok(tables == 0),
    }
}

fn migration_failed(path: &Path, error: MigrateError) -> StoreError {
    let (reason, hint) = match &error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => (
            format!("it was written by a newer trackpost (its schema has version {version})"),
            Some("run the newer trackpost, or restore a backup made before the upgrade"),
        ),
        MigrateError::VersionMismatch(version) => (
            format!("its schema version {version} differs from that of this trackpost"),
            Some("a development version created it: set store.path to a new file"),
        ),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            return StoreError::open_failed(path, error);
        }
        _ => (error.to_string(), None),
    };
    StoreError::open(path, reason, hint)
}
