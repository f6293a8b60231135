//! `trackpost run`: the daemon, in the foreground.

use std::path::Path;
use std::process::ExitCode;

use tokio::sync::watch;

use super::{Failure, telemetry};
use crate::config::{Config, Environment};
use crate::daemon::{Daemon, DaemonError, Signals};

pub async fn run(path: &Path) -> Result<ExitCode, Failure> {
    // First of all: a signal that comes while the configuration is read must not end us by its default.
    let signals = Signals::new()?;
    let environment = Environment::capture();
    let loaded = Config::load(path, &environment).map_err(DaemonError::from)?;
    telemetry::start(&loaded.config.log);
    // Nobody stops this one but a signal.
    let (_stop, shutdown) = watch::channel(false);
    let daemon = Daemon::start(path.to_owned(), environment, loaded, signals).await?;
    daemon.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}
