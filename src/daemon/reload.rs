//! Reload of the configuration: all of it or nothing (contract 2.2). Label files are separate.

use std::collections::BTreeMap;

use tracing::{error, info, warn};

use super::{Daemon, DaemonError, load};
use crate::clock;
use crate::config::{Config, Fault, Faults, Loaded};
use crate::daemon::systemd;
use crate::notices::{Notices, RejectedReload};
use crate::store::lock::ReloadOutcome;

impl Daemon {
    /// Reads the whole configuration and applies it if it has no faults. Otherwise the running configuration stays.
    /// `None`: a signal to stop came while a file was read.
    pub(super) async fn reload(&mut self) -> Result<Option<ReloadOutcome>, DaemonError> {
        systemd::reloading();
        info!("reloading the configuration");
        let loaded = tokio::select! {
            loaded = load(&self.path, &self.environment) => loaded,
            () = self.signals.stop() => return Ok(None),
        };
        let outcome = match loaded {
            Ok(loaded) => match self.lost_all_accounts(&loaded.config) {
                None => {
                    let lines = self.apply(loaded).await?;
                    ReloadOutcome { applied: true, lines }
                }
                Some(fault) => self.reject(&Faults::of(vec![fault])),
            },
            Err(faults) => self.reject(&faults),
        };
        systemd::ready(&self.status());
        Ok(Some(outcome))
    }

    /// Returns a fault if the new configuration has no accounts and the running one has some. An empty or half-written
    /// file is valid TOML, and applying it would stop all polls.
    fn lost_all_accounts(&self, new: &Config) -> Option<Fault> {
        (new.accounts.is_empty() && !self.config.accounts.is_empty()).then(|| {
            let problem = "the new configuration has no accounts: the file is empty or incomplete";
            Fault::new(self.path.display().to_string(), "accounts", problem)
                .hint("to run without accounts, restart trackpost")
        })
    }

    fn reject(&self, faults: &Faults) -> ReloadOutcome {
        for fault in &faults.faults {
            error!(%fault, "configuration fault: {fault}");
        }
        for fault in &faults.label_faults.kept {
            warn!(%fault, "label row left out: {fault}");
        }
        error!(faults = faults.faults.len(), "reload rejected, the running configuration stays");
        let faults: Vec<String> = faults.faults.iter().map(Fault::to_string).collect();
        self.notices.set_rejected_reload(Some(RejectedReload { at: clock::now(), faults: faults.clone() }));
        ReloadOutcome { applied: false, lines: faults }
    }

    /// Applies the configuration and returns the changes.
    async fn apply(&mut self, loaded: Loaded) -> Result<Vec<String>, DaemonError> {
        let mut lines = Vec::new();
        let (before, after) = (&self.config, &loaded.config);
        for (key, changed) in [
            ("store", before.store != after.store),
            ("http", before.http != after.http),
            ("log", before.log != after.log),
        ] {
            if changed {
                warn!(key, "the change of [{key}] takes effect at the next start");
                lines.push(format!("[{key}] changed: takes effect at the next start"));
            }
        }
        let accounts = Changes::between(&before.accounts, &after.accounts);
        let subscribers = Changes::between(&before.subscribers, &after.subscribers);
        let polling = before.cadence != after.cadence
            || before.alerts != after.alerts
            || before.first_poll != after.first_poll;
        let signing = before.rsa_keys != after.rsa_keys;
        report(&loaded, &self.logged_faults, &self.notices);
        self.logged_faults = loaded.label_faults.kept;
        // A half-applied configuration is worse than a restart, which applies all of it or says why not.
        self.workers.apply(&loaded.config).await?;
        self.workers.register(loaded.sources);
        self.config = loaded.config;
        self.notices.set_rejected_reload(None);
        lines.extend(accounts.lines("accounts"));
        lines.extend(subscribers.lines("subscribers"));
        if polling {
            lines.push("[cadence], [alerts] or first_poll changed".to_owned());
        }
        if signing {
            lines.push("[signing] changed".to_owned());
        }
        let unchanged = "no change; labels are read separately";
        info!(
            accounts_added = accounts.added,
            accounts_changed = accounts.changed,
            accounts_removed = accounts.removed,
            subscribers_added = subscribers.added,
            subscribers_changed = subscribers.changed,
            subscribers_removed = subscribers.removed,
            polling_changed = polling,
            signing_changed = signing,
            "configuration reloaded: {}",
            if lines.is_empty() { unchanged.to_owned() } else { lines.join("; ") }
        );
        Ok(lines)
    }
}

/// Names of changed entries, separated by commas.
#[derive(Debug, Default)]
struct Changes {
    added: String,
    changed: String,
    removed: String,
}

impl Changes {
    fn between<N: Ord + ToString, T: PartialEq>(before: &BTreeMap<N, T>, after: &BTreeMap<N, T>) -> Self {
        let names = |entries: &mut dyn Iterator<Item = &N>| {
            entries.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let is_new = |name: &&N| !before.contains_key(*name);
        let differs = |(name, value): &(&N, &T)| before.get(*name).is_some_and(|before| before != *value);
        Self {
            added: names(&mut after.keys().filter(is_new)),
            changed: names(&mut after.iter().filter(differs).map(|(name, _)| name)),
            removed: names(&mut before.keys().filter(|name| !after.contains_key(*name))),
        }
    }

    /// Lines for the command that requested the reload.
    fn lines(&self, of: &str) -> Vec<String> {
        let all = [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        let some = all.iter().filter(|(_, names)| !names.is_empty());
        some.map(|(what, names)| format!("{of} {what}: {names}")).collect()
    }
}

/// Logs warnings, and rows that are left out and not in `logged_faults`. They stop nothing.
pub(super) fn report(loaded: &Loaded, logged_faults: &[Fault], notices: &Notices) {
    notices.set_rows_of_configuration(loaded.label_faults.summary());
    for fault in loaded.label_faults.kept.iter().filter(|fault| !logged_faults.contains(fault)) {
        warn!(%fault, "label row left out: {fault}");
    }
    for warning in &loaded.warnings {
        warn!(%warning, "configuration warning: {warning}");
    }
}
