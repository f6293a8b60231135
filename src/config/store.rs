//! `[store]`: where the database is and how long it keeps data. Whether it can be opened is not checked here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::duration::ConfigDuration;
use super::table::At;

/// `[store]`, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Below `$STATE_DIRECTORY` if it is relative and that is set.
    pub path: PathBuf,
    /// Time for which finished labels and their history are kept.
    pub keep_finished: Duration,
    pub keep_attempts: Duration,
}

/// `[store]` as written.
#[derive(Deserialize)]
pub(super) struct StoreSection {
    path: String,
    keep_finished: ConfigDuration,
    keep_attempts: ConfigDuration,
}

impl StoreSection {
    pub(super) fn check(self, at: &At<'_>) -> StoreConfig {
        if self.path.is_empty() || self.path.ends_with('/') {
            at.key("path").fault_of(
                &self.path,
                "does not name a file",
                "write a file name such as \"trackpost.db\"",
            );
        }
        // systemd separates several state directories by colons; the first one is used.
        let directories = at.context.environment.get("STATE_DIRECTORY").unwrap_or_default();
        StoreConfig {
            path: Path::new(directories.split(':').next().unwrap_or_default()).join(self.path),
            keep_finished: self.keep_finished.0,
            keep_attempts: self.keep_attempts.0,
        }
    }
}
