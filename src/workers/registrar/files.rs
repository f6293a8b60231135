//! The state of label files between two scans of the directory: which changed, which are complete, which were read.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::config::{FileScan, FileStamp, FoundFile};
use crate::domain::time::later;

/// A file is read after this time without a change.
pub(super) const STABLE_AFTER: SignedDuration = SignedDuration::from_secs(1);
/// A file that keeps being replaced is read after this time.
const MAX_BUSY: SignedDuration = SignedDuration::from_secs(10);
/// A file that keeps being written in place is read up to its last complete line after this time.
const MAX_GROWING: SignedDuration = SignedDuration::from_secs(60);

/// A file as the last scan found it.
#[derive(Debug)]
struct SeenFile {
    stamp: FileStamp,
    /// The time of its last change.
    since: Timestamp,
    /// Time since which it has been changing without being read.
    busy_since: Timestamp,
    /// Whether the last change replaced the file by another one.
    replaced: bool,
    /// State of the file when it was read; `None` if it was not.
    read: Option<FileStamp>,
}

impl SeenFile {
    fn at_rest(&self, now: Timestamp) -> bool {
        now.duration_since(self.since) >= STABLE_AFTER
            || (self.replaced && now.duration_since(self.busy_since) >= MAX_BUSY)
    }

    /// Whether it is read although it is still being written.
    fn is_growing(&self, now: Timestamp) -> bool {
        !self.at_rest(now) && now.duration_since(self.busy_since) >= MAX_GROWING
    }

    fn is_readable(&self, now: Timestamp) -> bool {
        self.at_rest(now) || self.is_growing(now)
    }
}

#[derive(Debug, Default)]
pub(super) struct Files {
    seen: HashMap<PathBuf, SeenFile>,
    /// Paths that are left out, and since when.
    left_out: HashMap<PathBuf, Timestamp>,
    now: Option<Timestamp>,
}

impl Files {
    /// Applies a scan. Returns whether files must be read: a complete file was not read in this state, or a file that
    /// was read is gone.
    pub(super) fn note(&mut self, scan: &FileScan, now: Timestamp) -> bool {
        let first = self.now.is_none();
        self.now = Some(now);
        // The clock may have been set back.
        for seen in self.seen.values_mut() {
            (seen.since, seen.busy_since) = (seen.since.min(now), seen.busy_since.min(now));
        }
        for FoundFile { path, stamp, .. } in &scan.files {
            match self.seen.get_mut(path) {
                Some(seen) if seen.stamp == *stamp => {}
                Some(seen) => {
                    if seen.read == Some(seen.stamp) {
                        seen.busy_since = now;
                    }
                    seen.replaced = seen.stamp.inode != stamp.inode;
                    (seen.stamp, seen.since) = (*stamp, now);
                }
                None => {
                    // At the start, files with an old modification time count as complete.
                    let old = first && now.as_millisecond().saturating_sub(stamp.changed_ms()) >= 1_000;
                    let since = if old { now.checked_sub(STABLE_AFTER).unwrap_or(now) } else { now };
                    let seen =
                        SeenFile { stamp: *stamp, since, busy_since: now, replaced: false, read: None };
                    self.seen.insert(path.clone(), seen);
                }
            }
        }
        let found: HashSet<&Path> = scan.files.iter().map(|file| file.path.as_path()).collect();
        let count = self.seen.len();
        self.seen.retain(|path, _| found.contains(path.as_path()));
        let gone = self.seen.len() < count;
        self.note_left_out(scan, now, first);
        gone || self.seen.values().any(|seen| seen.read != Some(seen.stamp) && seen.is_readable(now))
    }

    /// A file that exists only briefly, such as a draft, is not reported.
    fn note_left_out(&mut self, scan: &FileScan, now: Timestamp, first: bool) {
        let since = if first { now.checked_sub(STABLE_AFTER).unwrap_or(now) } else { now };
        let before = std::mem::take(&mut self.left_out);
        for left_out in &scan.left_out {
            let since = before.get(&left_out.path).copied().unwrap_or(since);
            self.left_out.insert(left_out.path.clone(), since);
        }
    }

    /// Whether a path has been left out for long enough to report it.
    pub(super) fn is_left_out(&self, path: &Path) -> bool {
        let lasts =
            |since: &Timestamp| self.now.is_some_and(|now| now.duration_since(*since) >= STABLE_AFTER);
        self.left_out.get(path).is_some_and(lasts)
    }

    /// Returns the files that may be read, and the paths of files that are still changing.
    pub(super) fn stable(&self, scan: &FileScan, now: Timestamp) -> (Vec<FoundFile>, Vec<PathBuf>) {
        let is_readable =
            |file: &FoundFile| self.seen.get(&file.path).is_some_and(|seen| seen.is_readable(now));
        let (mut stable, pending): (Vec<FoundFile>, Vec<FoundFile>) =
            scan.files.iter().cloned().partition(is_readable);
        for file in &mut stable {
            file.growing = self.seen.get(&file.path).is_some_and(|seen| seen.is_growing(now));
        }
        let mut pending: Vec<PathBuf> = pending.into_iter().map(|file| file.path).collect();
        // Their labels stay as well.
        pending.extend(scan.left_out.iter().map(|left_out| left_out.path.clone()));
        (stable, pending)
    }

    /// Marks all files of the scan except `pending` as read.
    pub(super) fn read(&mut self, scan: &FileScan, pending: &[PathBuf]) {
        let pending: HashSet<&Path> = pending.iter().map(PathBuf::as_path).collect();
        for file in scan.files.iter().filter(|file| !pending.contains(file.path.as_path())) {
            if let Some(seen) = self.seen.get_mut(&file.path) {
                seen.read = Some(file.stamp);
            }
        }
    }

    /// Returns when the next file may be complete.
    pub(super) fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let unread = self.seen.values().filter(|seen| seen.read != Some(seen.stamp)).map(|seen| seen.since);
        let fresh = self.left_out.values().copied();
        unread.chain(fresh).map(|since| later(since, STABLE_AFTER)).filter(|at| *at > now).min()
    }
}
