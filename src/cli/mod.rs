//! The command line: a file per family of verbs.
//!
//! The only rooms that print. Exit status 0: done; 1: it failed, with the reason on stderr; 2: wrong usage.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
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
mod replay;
mod resolve;
mod run;
mod sandbox;
mod simulate;
mod subscribers;
mod telemetry;
mod verify;

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::{Config, Environment, Faults, Loaded};
use crate::daemon;
use crate::store::{Store, lock};
use args::{Args, Verb};

/// Why a verb failed, and a way out where there is one.
#[derive(Debug)]
pub struct Failure {
    what: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// A failure in plain words.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into().into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let hint = known_hint(&error);
        Self { what: Box::new(error), hint }
    }
}

fn known_hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<daemon::DaemonError>() {
        return error.hint();
    }
    error.downcast_ref::<crate::store::StoreError>().and_then(|error| error.hint().map(str::to_owned))
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
    // Clap ends wrong usage with 2 itself.
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::from(error)),
    };
    match runtime.block_on(verb(args)) {
        Ok(code) => code,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::FAILURE
}

async fn verb(args: Args) -> Result<ExitCode, Failure> {
    let config = args.config;
    match args.verb {
        Verb::Run => run::run(&config).await,
        Verb::Check(what) => check::run(&config, &what).await,
        Verb::Demo(what) => demo::run(&what).await,
        Verb::Sandbox(what) => sandbox::run(&what).await,
        Verb::Listen(what) => listen::run(&what).await,
        Verb::Verify(what) => verify::run(&what),
        Verb::Labels(what) => labels::run(&config, what).await,
        Verb::History(what) => history::run(&config, &what).await,
        Verb::Explain(what) => explain::run(&config, &what).await,
        Verb::Deliveries(what) => deliveries::run(&config, what).await,
        Verb::Subscribers(what) => subscribers::run(&config, what).await,
        Verb::Replay(what) => replay::run(&config, &what).await,
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
        eprintln!("note: no daemon runs on this database: it is done when one is started (trackpost run)");
    }
}

/// As [`open_store`], for a verb that only reads: a fault of the configuration does not block it.
async fn open_store_to_read(path: &Path) -> Result<(Loaded, Store), Failure> {
    let (loaded, faults) = Config::load_to_read(path, &Environment::capture()).map_err(unsound)?;
    if let Some(faults) = faults {
        let faults = faults.faults.len();
        eprintln!("warning: the configuration has faults ({faults}); trackpost check shows them");
    }
    open(loaded).await
}

/// Opens the database that the configuration names, beside a running daemon or without one. It must be there: a verb
/// makes none, or it would be whoever called it that owns the daemon's database.
async fn open_store(path: &Path) -> Result<(Loaded, Store), Failure> {
    open(load(path)?).await
}

async fn open(loaded: Loaded) -> Result<(Loaded, Store), Failure> {
    let database = &loaded.config.store.path;
    let size = std::fs::metadata(database).map(|file| file.len());
    let shown = std::path::absolute(database).unwrap_or_else(|_| database.clone());
    let shown = shown.display();
    match size {
        Ok(1..) => {}
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Failure::new(format!("the database {shown} can't be looked at: {error}")));
        }
        Ok(0) | Err(_) => {
            return Err(Failure::new(format!("the database {shown} does not exist yet")).hint(
                "the daemon makes it at its first start (trackpost run); a store.path that is relative is so to \
                 $STATE_DIRECTORY, else to the working directory",
            ));
        }
    }
    let store = daemon::open_store(database).await?;
    Ok((loaded, store))
}
