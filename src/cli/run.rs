//! `trackpost run`: the daemon, in the foreground.

use std::path::Path;
use std::process::ExitCode;

use tokio::sync::watch;

use super::{DATABASE, Failure, telemetry};
use crate::config::{Config, Environment};
use crate::daemon::{Daemon, DaemonError, Signals};

pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    // First of all: a signal that comes while a million labels are read must not end the process.
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    let environment = Environment::capture();
    let (file, variables) = (path.to_owned(), environment.clone());
    let reading = tokio::task::spawn_blocking(move || Config::load(&file, &variables));
    let loaded = tokio::select! {
        biased;
        () = signals.stop() => return Ok(ExitCode::SUCCESS),
        loaded = reading => loaded?.map_err(DaemonError::from)?,
    };
    let _ = DATABASE.set(std::path::absolute(&loaded.config.store.path)?);
    telemetry::start(&loaded.config.log);
    // Nobody stops this one but a signal.
    let (_stop, shutdown) = watch::channel(false);
    let daemon = Daemon::start(path.to_owned(), environment, loaded, signals).await?;
    daemon.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
