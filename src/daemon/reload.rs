//! Reading the configuration again: all of it, or nothing (contract 2.2).

use tracing::{error, info, warn};

use super::{Daemon, DaemonError};
use crate::config::{Config, Loaded};
use crate::store::lock::ReloadOutcome;
use crate::systemd;

impl Daemon {
    /// Reads everything, and only if it is sound, applies it as a whole; otherwise what runs goes on.
    pub(super) async fn reload(&mut self, why: &str) -> Result<ReloadOutcome, DaemonError> {
        systemd::reloading();
        info!(why, "reading the configuration again");
        let (path, environment) = (self.path.clone(), self.environment.clone());
        // A million labels take their time to read; meanwhile everything goes on.
        let read = tokio::task::spawn_blocking(move || Config::load(&path, &environment)).await;
        let outcome = match read {
            Ok(Ok(loaded)) => {
                self.apply(loaded).await?;
                ReloadOutcome { applied: true, lines: Vec::new() }
            }
            Ok(Err(faults)) => {
                for fault in &faults.faults {
                    error!(%fault, "the configuration is not sound");
                }
                for fault in &faults.label_faults {
                    warn!(%fault, "a label would be left out");
                }
                error!(faults = faults.faults.len(), "nothing was applied: what ran goes on");
                let lines = faults.faults.iter().map(ToString::to_string).collect();
                ReloadOutcome { applied: false, lines }
            }
            Err(error) => {
                error!(%error, "the configuration could not be read; what ran goes on");
                ReloadOutcome { applied: false, lines: vec![error.to_string()] }
            }
        };
        systemd::ready(&self.status());
        Ok(outcome)
    }

    async fn apply(&mut self, loaded: Loaded) -> Result<(), DaemonError> {
        for (key, before, after) in [
            (
                "store.path",
                format!("{:?}", self.config.store.path),
                format!("{:?}", loaded.config.store.path),
            ),
            (
                "http.listen",
                format!("{:?}", self.config.http.listen),
                format!("{:?}", loaded.config.http.listen),
            ),
            ("log", format!("{:?}", self.config.log), format!("{:?}", loaded.config.log)),
        ] {
            if before != after {
                warn!(key, "this takes effect at the next start");
            }
        }
        // Apart from those above: a secret can't be compared by what is shown of it.
        if self.config.http.token != loaded.config.http.token {
            warn!(key = "http.token", "this takes effect at the next start");
        }
        report(&loaded);
        // Half of it would be worse than an end: the next start applies it whole, or says why not.
        self.trades.employ(&loaded.config).await?;
        self.watching.follow(&loaded.watched);
        self.trades.register(loaded.labels);
        self.config = loaded.config;
        info!("the configuration was applied");
        Ok(())
    }
}

/// Says what was left out and what is odd; none of it stops anything.
pub(super) fn report(loaded: &Loaded) {
    for fault in &loaded.label_faults {
        warn!(%fault, "a label was left out");
    }
    for warning in &loaded.warnings {
        warn!(%warning, "the configuration is odd");
    }
}
