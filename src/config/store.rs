//! `[store]`: where the database lies and how long it remembers.
//!
//! Only says where; whether the place can be written is found out by opening it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Entry;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Below `$STATE_DIRECTORY` if it is relative and that is set.
    pub path: PathBuf,
    /// Finished labels and what hangs on them are pruned so long after they finished.
    pub keep_finished: Duration,
    pub keep_attempts: Duration,
}

pub(super) fn read(section: &Entry<'_>) -> Option<StoreConfig> {
    let table = section.table(&["path", "keep_finished", "keep_attempts"])?;
    let path = table.required("path", "a file name such as \"trackpost.db\"").and_then(path);
    let keep_finished = table.duration("keep_finished");
    let keep_attempts = table.duration("keep_attempts");
    Some(StoreConfig { path: path?, keep_finished: keep_finished?, keep_attempts: keep_attempts? })
}

fn path(entry: &Entry<'_>) -> Option<PathBuf> {
    let text = entry.text()?;
    if text.is_empty() || text.ends_with('/') {
        return entry.fault("names no file", "a file name such as \"trackpost.db\"");
    }
    // systemd separates several state directories by colons; the first is the one to keep things in.
    let directories = entry.context.environment.get("STATE_DIRECTORY").unwrap_or_default();
    Some(Path::new(directories.split(':').next().unwrap_or_default()).join(text))
}
