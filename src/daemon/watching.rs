//! Watching the label files: a change is a reload, once it has come to rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use crate::clock::{self, Stopwatch};
use crate::config::RowKind;

/// A file is taken for written when nothing happened to it for so long.
const REST: Duration = Duration::from_millis(250);

pub struct Watching {
    watcher: Option<RecommendedWatcher>,
    changes: mpsc::Receiver<()>,
    followed: BTreeSet<PathBuf>,
    /// Runs since the last change that nobody was told of yet. Kept here, so that whoever waits may stop waiting and
    /// come again.
    stirred: Option<Stopwatch>,
}

impl Watching {
    pub fn new(paths: &[PathBuf]) -> Self {
        let (tell, changes) = mpsc::channel(1);
        let heard = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| concerns_labels(&event)) {
                // One waiting change is as good as many.
                let _ = tell.try_send(());
            }
        };
        let watcher = match notify::recommended_watcher(heard) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                warn!(%error, "label files can't be watched: SIGHUP still reads them again");
                None
            }
        };
        let mut watching = Self { watcher, changes, followed: BTreeSet::new(), stirred: None };
        watching.follow(paths);
        watching
    }

    /// Watches the folders of `paths` from now on, and no others.
    pub fn follow(&mut self, paths: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: BTreeSet<PathBuf> = paths.iter().filter_map(|path| folder(path)).collect();
        for gone in self.followed.difference(&folders) {
            // Gone folders are no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        for new in folders.difference(&self.followed) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                warn!(folder = %new.display(), %error, "label files can't be watched here");
            }
        }
        self.followed = folders;
    }

    /// Returns when something changed and has come to rest. A call that is given up loses no change.
    pub async fn changed(&mut self) {
        loop {
            let Some(stirred) = self.stirred else {
                match self.changes.recv().await {
                    Some(()) => self.stirred = Some(Stopwatch::start()),
                    None => return std::future::pending().await,
                }
                continue;
            };
            tokio::select! {
                Some(()) = self.changes.recv() => self.stirred = Some(Stopwatch::start()),
                () = clock::sleep(REST.saturating_sub(stirred.elapsed())) => {
                    self.stirred = None;
                    return;
                }
            }
        }
    }
}

/// Whether a label file was touched: a database may lie in the same folder, and reading changes nothing.
fn concerns_labels(event: &notify::Event) -> bool {
    let written = !matches!(event.kind, EventKind::Access(_));
    event.need_rescan()
        || written && event.paths.iter().any(|path| RowKind::of_path(path).is_some() || path.is_dir())
}

/// A file that is replaced by renaming is only seen from its folder.
fn folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        Some(path.to_owned())
    } else {
        path.parent().filter(|folder| folder.is_dir()).map(Path::to_owned)
    }
}
