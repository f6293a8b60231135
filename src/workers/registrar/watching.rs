//! Watches for changes of label files: their directories, links on the way to them, and the files themselves.
//!
//! Directories are watched for new, renamed and closed files only, and events are filtered by name, so a database beside
//! the files costs nothing. Writes to a file that stays open are found by a watch on the file, up to a number of files.
//! The registrar's scan each minute finds everything else.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use futures_util::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};

use crate::config::{FileScan, LabelSources, fits};

/// The largest number of files with a watch of their own.
const MAX_FILES: usize = 1_000;
/// The largest number of links on the way to a file.
const MAX_LINKS: usize = 20;

/// Changes for which a path is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    /// Whether the file itself is watched.
    file: bool,
    /// Label files in the directory, by patterns of their names.
    patterns: Vec<String>,
    /// Names that lead to a directory or a file.
    steps: Vec<OsString>,
}

impl Interest {
    fn mask(&self) -> WatchMask {
        let gone = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF | WatchMask::ATTRIB;
        if self.file {
            return gone | WatchMask::MODIFY | WatchMask::CLOSE_WRITE;
        }
        let names = gone | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ONLYDIR;
        if self.patterns.is_empty() { names } else { names | WatchMask::CLOSE_WRITE }
    }

    fn concerns(&self, name: Option<&OsStr>) -> bool {
        let Some(name) = name else { return true };
        let is_label_file = || {
            let name = name.to_string_lossy();
            self.patterns.iter().any(|pattern| fits(pattern, &name))
        };
        self.file || self.steps.iter().any(|step| step == name) || is_label_file()
    }

    fn merge(&mut self, other: Self) {
        self.file |= other.file;
        self.patterns.extend(other.patterns);
        self.steps.extend(other.steps);
    }
}

/// Returns all paths to watch for these sources, given the current targets of their names.
pub(super) fn interests(sources: &LabelSources, scan: &FileScan) -> BTreeMap<PathBuf, Interest> {
    let mut interests = BTreeMap::new();
    for (directory, name) in sources.names() {
        steps_to(directory, &mut interests, 0);
        let interest: &mut Interest = interests.entry(directory.to_owned()).or_default();
        interest.patterns.push(name.to_owned());
    }
    for (at, file) in scan.files.iter().enumerate() {
        if let Ok(target) = std::fs::read_link(&file.path) {
            let directory = file.path.parent().unwrap_or(Path::new("/"));
            steps_to(&directory.join(target), &mut interests, 1);
        }
        if at < MAX_FILES {
            interests.entry(file.path.clone()).or_default().file = true;
        }
    }
    interests
}

/// Returns each directory on the way to `path` with the name that leads on, also through links.
fn steps_to(path: &Path, interests: &mut BTreeMap<PathBuf, Interest>, links: usize) {
    if links > MAX_LINKS {
        return;
    }
    let mut directory = PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else {
            directory.push(part);
            continue;
        };
        let interest = interests.entry(directory.clone()).or_default();
        if !interest.steps.iter().any(|step| step == name) {
            interest.steps.push(name.to_owned());
            if let Ok(target) = std::fs::read_link(directory.join(name)) {
                steps_to(&directory.join(target), interests, links + 1);
            }
        }
        directory.push(name);
    }
}

/// The active watches.
#[derive(Default)]
pub(super) struct Watching {
    events: Option<(EventStream<[u8; 4096]>, Watches)>,
    watched: HashMap<WatchDescriptor, Interest>,
    problem: Option<String>,
}

impl Watching {
    /// Why a path is not watched.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Sets the watches for `interests` and removes all others. Returns whether a path is newly watched: it may have
    /// changed before.
    pub(super) fn follow(&mut self, interests: BTreeMap<PathBuf, Interest>) -> bool {
        self.problem = None;
        if self.events.is_none() {
            let stream = Inotify::init().and_then(|inotify| {
                let watches = inotify.watches();
                Ok((inotify.into_event_stream([0; 4096])?, watches))
            });
            match stream {
                Ok(stream) => self.events = Some(stream),
                Err(error) => {
                    self.problem = Some(format!("inotify: {error}"));
                    return false;
                }
            }
        }
        let Some((_, watches)) = &mut self.events else { return false };
        let before = std::mem::take(&mut self.watched);
        for (path, interest) in interests {
            // The same directory may have two names.
            match watches.add(&path, interest.mask() | WatchMask::MASK_ADD) {
                Ok(watch) => self.watched.entry(watch).or_default().merge(interest),
                // A missing directory is found by the watch on the directory above it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) if !interest.patterns.is_empty() => {
                    self.problem = Some(format!("{}: {error}", path.display()));
                }
                // Directories on the way may not be readable.
                Err(_) => {}
            }
        }
        let newly_watched = self.watched.keys().any(|watch| !before.contains_key(watch));
        for watch in before.into_keys().filter(|watch| !self.watched.contains_key(watch)) {
            // The watch may have ended with its file.
            let _ = watches.remove(watch);
        }
        newly_watched
    }

    /// Waits for a change of a label file or of the way to one. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let Some((stream, _)) = &mut self.events else { return std::future::pending().await };
            match stream.next().await {
                Some(Ok(event)) if event.mask.contains(EventMask::Q_OVERFLOW) => return,
                Some(Ok(event)) if event.mask.contains(EventMask::IGNORED) => {}
                Some(Ok(event)) => {
                    let interest = self.watched.get(&event.wd);
                    if interest.is_some_and(|interest| interest.concerns(event.name.as_deref())) {
                        return;
                    }
                }
                Some(Err(_)) | None => {
                    // Set again at the next scan.
                    self.events = None;
                    self.watched.clear();
                    return;
                }
            }
        }
    }
}
