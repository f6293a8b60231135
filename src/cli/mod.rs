//! The command line: a file per family of verbs.
//!
//! The only rooms that print. Exit status 0: done; 1: it failed, with the reason on stderr; 2: wrong usage.

mod accounts;
mod args;
mod backup;
mod beside;
mod check;
mod deliveries;
mod demo;
mod explain;
mod generated;
mod history;
mod jwks;
mod labels;
mod listen;
mod outlook;
mod output;
mod reload;
mod replay;
mod resolve;
mod run;
mod sandbox;
mod simulate;
mod status;
mod subscribers;
mod telemetry;
mod verify;

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser as _;

use crate::config::{Config, Environment, Faults, Loaded};
use crate::daemon;
use crate::store::backup::BackupError;
use crate::store::{Store, StoreError, lock};
use args::{Args, Verb};
use output::OutputError;

/// The database of this process, so that its failures name it.
static DATABASE: OnceLock<PathBuf> = OnceLock::new();

/// Exit status of wrong usage, as of clap.
const USAGE: u8 = 2;

/// Why a verb failed, and a way out where there is one.
#[derive(Debug)]
pub struct Failure {
    what: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    is_usage: bool,
}

impl Failure {
    /// A failure in plain words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into().into(), hint: None, is_usage: false }
    }

    /// An argument that makes no sense: exit status 2.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(what) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let hint = known_hint(&error);
        let what: Box<dyn Error + Send + Sync> = Box::new(error);
        let what = what.downcast::<StoreError>().map_or_else(|other| other, |error| naming_database(*error));
        Self { what, hint, is_usage: false }
    }
}

fn known_hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<daemon::DaemonError>() {
        return error.hint();
    }
    let hint = match error.downcast_ref::<BackupError>() {
        Some(error) => error.hint(),
        None => error.downcast_ref::<StoreError>().and_then(StoreError::hint),
    };
    hint.map(str::to_owned)
}

fn naming_database(error: StoreError) -> Box<dyn Error + Send + Sync> {
    Box::new(match DATABASE.get() {
        Some(path) => error.of(path),
        None => error,
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        let mut cause = self.what.source();
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Runs the verb that the arguments ask for.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(told) => return tell(&told),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::from(error)),
    };
    let code = match runtime.block_on(verb(args)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    };
    // A thread that still reads files is not waited for.
    runtime.shutdown_background();
    code
}

fn fail(failure: &Failure) -> ExitCode {
    if let Some(OutputError::Closed) = failure.what.downcast_ref() {
        return ExitCode::SUCCESS;
    }
    output::complain(failure);
    if failure.is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Help and version, which were asked for, or what is wrong with the arguments.
fn tell(told: &clap::Error) -> ExitCode {
    if told.use_stderr() {
        // Whether or not somebody hears it.
        let _ = told.print();
        return ExitCode::from(USAGE);
    }
    match told.print().and_then(|()| io::stdout().flush()).map_err(OutputError::from) {
        Ok(()) | Err(OutputError::Closed) => ExitCode::SUCCESS,
        Err(error) => fail(&Failure::from(error)),
    }
}

async fn verb(args: Args) -> Result<ExitCode, Failure> {
    let config = args.config;
    match args.verb {
        Verb::Run => run::run(&config).await,
        Verb::Reload => reload::run(&config).await,
        Verb::Check(what) => check::run(&config, &what).await,
        Verb::Demo(what) => demo::run(&what).await,
        Verb::Sandbox(what) => sandbox::run(&what).await,
        Verb::Listen(what) => listen::run(&what).await,
        Verb::Verify(what) => verify::run(&what),
        Verb::Labels(what) => labels::run(&config, what).await,
        Verb::History(what) => history::run(&config, &what).await,
        Verb::Explain(what) => explain::run(&config, &what).await,
        Verb::Deliveries(what) => deliveries::run(&config, what).await,
        Verb::Status(what) => status::run(&config, &what).await,
        Verb::Accounts(what) => accounts::run(&config, what).await,
        Verb::Subscribers(what) => subscribers::run(&config, what).await,
        Verb::Replay(what) => replay::run(&config, &what).await,
        Verb::Backup(what) => backup::run(&config, &what).await,
        Verb::Simulate(what) => simulate::run(&what),
        Verb::Jwks => jwks::run(&config),
        Verb::Completions(what) => generated::completions(&what),
        Verb::Man => generated::man(),
    }
}

/// Reads the configuration of a verb that works on the database: the daemon's secrets may be out of its reach.
fn load(path: &Path) -> Result<Loaded, Failure> {
    Config::load_beside(path, &Environment::capture()).map_err(unsound)
}

fn unsound(faults: Faults) -> Failure {
    Failure::from(faults).hint("trackpost check shows the same, and what would run once it is sound")
}

/// What was asked for is done by the daemon, and may wait for long.
fn say_if_no_daemon_runs(store: &Store) {
    if lock::daemon_runs(store.path()).is_none() {
        output::complain(
            "note: no daemon runs on this database: it is done when one is started (trackpost run)",
        );
    }
}

/// As [`open_store`], for a verb that only reads: a fault of the configuration does not block it.
async fn open_store_to_read(path: &Path) -> Result<(Loaded, Store), Failure> {
    open(readable(path)?).await
}

/// The configuration as far as it can be read; a warning says that it has faults.
fn readable(path: &Path) -> Result<Loaded, Failure> {
    let (loaded, faults) = Config::load_to_read(path, &Environment::capture()).map_err(unsound)?;
    if let Some(faults) = faults {
        let faults = faults.faults.len();
        output::complain(format!(
            "warning: the configuration has faults ({faults}); trackpost check shows them"
        ));
    }
    Ok(loaded)
}

/// Opens the database that the configuration names, beside a running daemon or without one.
async fn open_store(path: &Path) -> Result<(Loaded, Store), Failure> {
    open(load(path)?).await
}

async fn open(loaded: Loaded) -> Result<(Loaded, Store), Failure> {
    let database = existing_database(&loaded.config.store.path)?;
    let store = daemon::open_store(&database).await?;
    Ok((loaded, store))
}

/// The absolute path of the database, which this process is going to open. It must be there: a verb makes none, or it
/// would be whoever called it that owns the daemon's database.
fn existing_database(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let _ = DATABASE.set(path.clone());
    let shown = path.display();
    if lock::runs_under_another_name(&path) {
        return Err(Failure::new(format!(
            "a running trackpost has the database {shown} open under another name"
        ))
        .hint("SQLite has a journal per name, and two damage the database: use the daemon's store.path"));
    }
    // Closed again before SQLite opens it: afterwards that would end SQLite's locks.
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(&path);
    match opened.and_then(|file| file.metadata()).map(|file| file.len()) {
        Ok(1..) => Ok(path),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::new(format!("the database {shown} can't be opened: {error}"))
                .hint("reading needs write access too: run as the service's user or with sudo"))
        }
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            Err(Failure::new(format!("the database {shown} can't be opened: {error}"))
                .hint("reading needs write access too: the disk must not be mounted read-only"))
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(format!("the database {shown} can't be opened: {error}")))
        }
        Ok(0) | Err(_) => Err(Failure::new(format!("the database {shown} does not exist yet")).hint(
            "the daemon makes it at its first start (trackpost run); a store.path that is relative is so to \
             $STATE_DIRECTORY, else to the working directory",
        )),
    }
}
