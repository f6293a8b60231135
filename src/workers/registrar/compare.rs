//! Compares the registry with the label files and writes the differences.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::info;

use super::REMOVE_AFTER;
use crate::clock::{self, Stopwatch};
use crate::config::{Comparison, FileNumber, LabelReading, LabelSources};
use crate::domain::clock::Gaps;
use crate::domain::label::Registration;
use crate::domain::time::later;
use crate::store::labels::REGISTER_CHUNK;
use crate::store::{Store, StoreError};
use crate::workers::blocking;

/// Interval between log lines while many labels are registered.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Changes of a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AppliedChanges {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    /// Labels that are newly missing from the files and not yet removed.
    pub missing: usize,
}

/// Labels that are missing from the files, by key, with the start of the absence.
#[derive(Debug, Default)]
pub(super) struct MissingLabels(Vec<(i64, Timestamp)>);

impl MissingLabels {
    /// Returns when the first of them has been missing for long enough. Only time that really passed counts.
    pub(super) fn wake(&mut self, gaps: &Gaps, now: Timestamp) -> Option<Timestamp> {
        // The clock may have been set back.
        self.0.iter_mut().for_each(|(_, since)| *since = now.min(*since));
        self.0.iter().map(|(_, since)| remove_at(*since, gaps, now)).min()
    }

    /// Replaces the missing labels by `gone` (sorted). Returns the labels that have been missing for long enough, and
    /// the number of newly missing ones.
    fn update(&mut self, gone: Vec<i64>, gaps: &Gaps, now: Timestamp) -> (Vec<i64>, usize) {
        let before = std::mem::take(&mut self.0);
        let (mut remove, mut fresh) = (Vec::new(), 0);
        for label in gone {
            let since = match before.binary_search_by_key(&label, |(label, _)| *label) {
                Ok(at) => before[at].1.min(now),
                Err(_) => {
                    fresh += 1;
                    now
                }
            };
            if remove_at(since, gaps, now) <= now { remove.push(label) } else { self.0.push((label, since)) }
        }
        (remove, fresh)
    }
}

fn remove_at(since: Timestamp, gaps: &Gaps, now: Timestamp) -> Timestamp {
    later(gaps.moved(since, now), REMOVE_AFTER)
}

/// Applies a reading to the registry. Labels of the files `kept` stay as they are.
pub(super) async fn apply(
    store: &Store,
    sources: &Arc<LabelSources>,
    mut reading: LabelReading,
    kept: HashSet<PathBuf>,
    missing: &mut MissingLabels,
    now: Timestamp,
) -> Result<AppliedChanges, StoreError> {
    let keys = keys(store, &reading.files).await?;
    let file_numbers: HashMap<&Path, FileNumber> =
        (1..).zip(&reading.files).map(|(number, path)| (path.as_path(), number)).collect();
    // The state of each file that the database knows: read (with its number), kept, or gone.
    let mut number_of_key = HashMap::new();
    let mut left_alone = HashSet::new();
    let directories: Vec<&PathBuf> = kept.iter().filter(|path| pattern_of(path).is_some()).collect();
    for (path, key) in &keys {
        if let Some(number) = file_numbers.get(path.as_path()) {
            number_of_key.insert(*key, *number);
        }
        if kept.contains(path) || directories.iter().any(|directory| is_directory_of(directory, path)) {
            left_alone.insert(*key);
        }
    }
    let (mut gone, mut gone_inline, mut changed) = (Vec::new(), Vec::new(), 0);
    let mut after = 0;
    while let Some(page) = store.configured_labels(after).await? {
        after = page.last;
        for label in page.labels() {
            let file_number = match label.file_key {
                None => Some(0),
                Some(key) => number_of_key.get(&key).copied(),
            };
            match reading.label_set.compare(label.account, label.label_id, label.metadata, file_number) {
                Comparison::Same => {}
                Comparison::Changed => changed += 1,
                Comparison::Unknown => match label.file_key {
                    None => gone_inline.push(label.label_key),
                    Some(key) if left_alone.contains(&key) => {}
                    Some(_) => gone.push(label.label_key),
                },
            }
        }
    }
    let wanted = reading.label_set.keep_wanted();
    if wanted > 0 {
        let keys_by_number = reading.files.iter().map(|path| keys.get(path).copied()).collect();
        register(store, sources, reading, keys_by_number, wanted, now).await?;
    }
    // A label that is gone from registration.labels is removed at once. A label of a file may return soon.
    let (mut remove, missing) = missing.update(gone, &clock::gaps(), now);
    remove.extend(gone_inline);
    for chunk in remove.chunks(REGISTER_CHUNK) {
        store.withdraw_configured(chunk, now).await?;
    }
    Ok(AppliedChanges { added: wanted.saturating_sub(changed), changed, removed: remove.len(), missing })
}

fn pattern_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']))
}

/// Whether `kept` is a pattern, such as `labels.d/*`, that could not be listed, and `path` may be one of its files.
fn is_directory_of(kept: &Path, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    kept.parent() == path.parent()
        && pattern_of(kept).zip(name).is_some_and(|(pattern, name)| crate::config::fits(pattern, name))
}

/// Returns the key of each file that the database knows, and adds the new `files`.
async fn keys(store: &Store, files: &[PathBuf]) -> Result<HashMap<PathBuf, i64>, StoreError> {
    let known = async || -> Result<HashMap<PathBuf, i64>, StoreError> {
        let files = store.label_files().await?;
        Ok(files.into_iter().map(|file| (PathBuf::from(file.path), file.file_key)).collect())
    };
    let keys = known().await?;
    let new: Vec<&str> =
        files.iter().filter(|path| !keys.contains_key(*path)).filter_map(|path| path.to_str()).collect();
    if new.is_empty() {
        return Ok(keys);
    }
    store.insert_label_files(&new).await?;
    known().await
}

/// Reads the files again and registers the labels that are wanted.
async fn register(
    store: &Store,
    sources: &Arc<LabelSources>,
    mut reading: LabelReading,
    keys: Vec<Option<i64>>,
    wanted: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (chunks, mut read) = mpsc::channel::<Vec<(Registration, Option<i64>)>>(2);
    let sources = Arc::clone(sources);
    let rows = blocking(move || {
        let mut chunk = Vec::with_capacity(REGISTER_CHUNK);
        sources.each_wanted(&mut reading, &mut |label, file_number| {
            let key = file_number.checked_sub(1).and_then(|at| keys.get(at as usize).copied().flatten());
            chunk.push((label, key));
            if chunk.len() < REGISTER_CHUNK {
                return ControlFlow::Continue(());
            }
            match chunks.blocking_send(std::mem::replace(&mut chunk, Vec::with_capacity(REGISTER_CHUNK))) {
                Ok(()) => ControlFlow::Continue(()),
                // The writer has stopped.
                Err(_) => ControlFlow::Break(()),
            }
        });
        if !chunk.is_empty() {
            let _ = chunks.blocking_send(chunk);
        }
    });
    let written = async move {
        let (mut registered, mut logged) = (0, Stopwatch::start());
        while let Some(chunk) = read.recv().await {
            store.register_configured(&chunk, now).await?;
            registered += chunk.len();
            if logged.elapsed() >= PROGRESS_INTERVAL {
                logged = Stopwatch::start();
                info!(registered, of = wanted, "registering labels: {registered} of {wanted}");
            }
        }
        Ok(())
    };
    let (rows, written) = tokio::join!(rows, written);
    written.and(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minute_of_a_missing_label_is_real_time() {
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        let mut missing = MissingLabels::default();
        assert_eq!(missing.update(vec![7], &Gaps::default(), at(0)), (vec![], 1));
        let forward = Gaps::new(vec![(at(10), at(3_610))]);
        assert_eq!(missing.wake(&forward, at(3_611)), Some(at(3_660)));
        assert_eq!(missing.update(vec![7], &forward, at(3_659)), (vec![], 0));
        assert_eq!(missing.update(vec![7], &forward, at(3_660)), (vec![7], 0));
        missing.update(vec![7], &Gaps::default(), at(0));
        assert_eq!(missing.wake(&Gaps::default(), at(-3_600)), Some(at(-3_540)), "set back");
    }
}
