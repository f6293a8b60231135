//! `trackpost run`: the daemon, in the foreground.

use std::path::Path;
use std::process::ExitCode;

use tokio::sync::watch;

use super::{DATABASE, Failure, telemetry};
use crate::config::Environment;
use crate::daemon::{self, Daemon, DaemonError, Signals};

pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    // Created first, so that a signal during the reading of a million labels does not kill the process.
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    let environment = Environment::capture();
    let Some(loaded) = daemon::read_config(path, &environment, &mut signals).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let _ = DATABASE.set(std::path::absolute(&loaded.config.store.path)?);
    telemetry::start(&loaded.config.log);
    // Only a signal stops this daemon.
    let (_stop, shutdown) = watch::channel(false);
    let daemon = Daemon::start(path.to_owned(), environment, loaded, signals).await?;
    daemon.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
