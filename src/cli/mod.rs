//! Command line: one file per command.
//!
//! Only this module prints. Exit status 0: done; 1: failed, with the reason on stderr; 2: wrong usage.

mod accounts;
mod args;
mod backup;
mod check;
mod deliveries;
mod demo;
mod explain;
mod failure;
mod history;
mod init;
mod jwks;
mod labels;
mod listen;
mod man;
mod other_signatures;
mod output;
mod progress;
mod reload;
mod replay;
mod resolve;
mod run;
mod sandbox;
mod simulate;
mod status;
mod subscribers;
mod table;
mod telemetry;
mod verify;

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, Environment, Loaded};
use crate::daemon;
use crate::domain::words::counted;
use crate::store::{Store, lock};
use args::{Args, Verb};
use failure::DATABASE;
pub use failure::Failure;
use output::OutputError;

/// Exit status of wrong usage, as in clap.
const USAGE: u8 = 2;

/// Runs the command of the arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print_clap(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::from(error)),
    };
    let code = match runtime.block_on(verb(args)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    };
    // Does not wait for a thread that still reads files.
    runtime.shutdown_background();
    code
}

fn fail(failure: &Failure) -> ExitCode {
    if let Some(OutputError::Closed) = failure.error.downcast_ref() {
        return ExitCode::SUCCESS;
    }
    output::print_error(failure);
    if failure.is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// Prints help or version, or the fault of the arguments.
fn print_clap(printed: &clap::Error) -> ExitCode {
    if printed.use_stderr() {
        let _ = printed.print();
        return ExitCode::from(USAGE);
    }
    match printed.print().and_then(|()| io::stdout().flush()).map_err(OutputError::from) {
        Ok(()) | Err(OutputError::Closed) => ExitCode::SUCCESS,
        Err(error) => fail(&Failure::from(error)),
    }
}

async fn verb(args: Args) -> Result<ExitCode, Failure> {
    let config = args.config;
    match args.verb {
        Verb::Init(args) => init::run(&args),
        Verb::Run => run::run(&config).await,
        Verb::Reload => reload::run(&config).await,
        Verb::Check(args) => check::run(&config, &args).await,
        Verb::Demo(args) => demo::run(&args).await,
        Verb::Sandbox(args) => sandbox::run(&args).await,
        Verb::Listen(args) => listen::run(&args).await,
        Verb::Verify(args) => verify::run(&args),
        Verb::Labels(args) => labels::run(&config, args).await,
        Verb::History(args) => history::run(&config, &args).await,
        Verb::Explain(args) => explain::run(&config, &args).await,
        Verb::Deliveries(args) => deliveries::run(&config, args).await,
        Verb::Status(args) => status::run(&config, &args).await,
        Verb::Accounts(args) => accounts::run(&config, args).await,
        Verb::Subscribers(args) => subscribers::run(&config, args).await,
        Verb::Replay(args) => replay::run(&config, &args).await,
        Verb::Backup(args) => backup::run(&config, &args).await,
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Jwks => jwks::run(&config),
        Verb::Completions(args) => man::completions(&args),
        Verb::Man => man::man(),
    }
}

/// Prints the result for one of several items, or its failure. A failure sets the exit status and does not stop the others.
fn print_result(result: Result<String, Failure>, code: &mut ExitCode) {
    match result {
        Ok(text) => output::line(text),
        Err(failure) => {
            output::print_error(failure);
            *code = ExitCode::FAILURE;
        }
    }
}

/// Prints a note if no daemon runs to do the queued work.
fn note_if_no_daemon_runs(store: &Store) {
    if lock::daemon_record(store.path()).is_none() {
        output::print_error(
            "note: no daemon runs on this database; the work waits until you start one with trackpost run",
        );
    }
}

/// Opens the database for a command that only reads; faults of the configuration do not stop it.
async fn open_store_to_read(path: &Path) -> Result<(Loaded, Store), Failure> {
    open(readable(path)?).await
}

/// Reads the configuration as far as possible, and warns if it has faults.
fn readable(path: &Path) -> Result<Loaded, Failure> {
    let (loaded, faults) = Config::load_to_read(path, &Environment::capture())?;
    if let Some(faults) = faults {
        let faults = counted(faults.faults.len() as u64, "fault");
        output::print_error(format!("warning: the configuration has {faults}; trackpost check shows all"));
    }
    Ok(loaded)
}

/// Opens the database of the configuration, with or without a running daemon. The daemon's secrets need not be readable.
async fn open_store(path: &Path) -> Result<(Loaded, Store), Failure> {
    open(Config::load_beside(path, &Environment::capture())?).await
}

async fn open(loaded: Loaded) -> Result<(Loaded, Store), Failure> {
    let database = existing_database(&loaded.config.store.path)?;
    let store = daemon::open_store(&database).await?;
    Ok((loaded, store))
}

/// Returns the absolute path of the database. It must exist: only the daemon creates it, so that the daemon's user owns it.
fn existing_database(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let _ = DATABASE.set(path.clone());
    let shown = path.display();
    if lock::runs_under_another_name(&path) {
        return Err(Failure::new(format!(
            "a running daemon has the database {shown} open under another name"
        ))
        .hint("set store.path to the name that the daemon uses: SQLite keeps one journal per name, and two journals damage the database"));
    }
    // Closed before SQLite opens it: closing it later would release SQLite's locks.
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(&path);
    match opened.and_then(|file| file.metadata()).map(|file| file.len()) {
        Ok(1..) => Ok(path),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let failure = Failure::new(format!("the database {shown} cannot be opened: {error}"));
            Err(match error.kind() {
                ErrorKind::PermissionDenied => failure
                    .hint("commands that read need write access too: run as the service's user or with sudo"),
                ErrorKind::ReadOnlyFilesystem => failure
                    .hint("commands that read need write access too: the disk must not be mounted read-only"),
                _ => failure,
            })
        }
        Ok(0) | Err(_) => Err(Failure::new(format!("the database {shown} does not exist yet")).hint(
            "the daemon creates it at its first start (trackpost run); a relative store.path is relative to \
             $STATE_DIRECTORY, else to the working directory",
        )),
    }
}
