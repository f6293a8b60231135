//! The registrar: the worker that keeps the registry equal to the configuration and its label files.
//!
//! A step scans the names, sizes and times of all label files. If a file changed and is complete, it reads the files as
//! a stream, compares the registry with them, and writes the differences chunk by chunk. Polls and deliveries go on
//! between two chunks.
//!
//! - A file is read when it has not changed for a second. A file that is replaced again and again is read after ten
//!   seconds at the latest. A file that is written all the time is read each minute up to its last complete line; none of
//!   its labels is removed then.
//! - A file that cannot be read is left out with its reason: its labels stay as they are, all other files apply.
//! - A label that is missing from the files for a minute is removed.
//!
//! Crash point: between two chunks. The next start reads the same files and continues.

mod compare;
mod files;
mod watching;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock::{self, Stopwatch};
use crate::config::{Fault, FileScan, LabelSources, LeftOut, RowFaults};
use crate::domain::time::later;
use crate::notices::Notices;
use crate::store::{Store, StoreError};
use crate::workers::blocking;
use compare::MissingLabels;
use files::Files;
use watching::Watching;

/// The label sources of the configuration; `None` until it was read.
pub type CurrentSources = Option<Arc<LabelSources>>;

/// The scan interval of all label files, watched or not.
const SCAN_INTERVAL: SignedDuration = SignedDuration::from_secs(60);
/// The scan interval while files cannot be watched.
const UNWATCHED_SCAN_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// Time after which a label that is missing from the files is removed.
const REMOVE_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// The shortest time between two scans.
const MIN_SCAN_INTERVAL: Duration = Duration::from_millis(500);
/// The wait after an event, because events of a file come in groups.
const COALESCE_WAIT: Duration = Duration::from_millis(100);

/// Applies `current`, and each change of it, until `shutdown`.
pub async fn run(
    store: Store,
    mut current: watch::Receiver<CurrentSources>,
    notices: Notices,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let mut registrar = Registrar::new(store);
    let mut watching = Watching::default();
    current.mark_changed();
    loop {
        if current.has_changed().unwrap_or(false) {
            let sources = current.borrow_and_update().clone();
            if let Some(sources) = sources {
                // The watches start before the first scan, so that no change is missed.
                watching.follow(watching::interests(&sources, &FileScan::default()));
                registrar.configure(sources);
            }
        }
        let scan_started = Stopwatch::start();
        let mut wake = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            wake = registrar.step(clock::now()) => wake?,
        };
        if let Some((sources, scan)) = registrar.last_scan() {
            let newly_watched = watching.follow(watching::interests(sources, scan));
            let again = if watching.problem().is_some() {
                Some(UNWATCHED_SCAN_INTERVAL)
            } else {
                newly_watched.then_some(files::STABLE_AFTER)
            };
            wake = again.map_or(wake, |again| wake.min(later(clock::now(), again)));
        }
        notices.set_rows_of_files(registrar.rows_left_out.clone());
        if notices.set_unwatched(watching.problem().map(str::to_owned)) {
            match watching.problem() {
                Some(problem) => {
                    warn!(problem, "label files cannot be watched; they are scanned every 5 s")
                }
                None => info!("label files are watched"),
            }
        }
        let coalesced = async {
            watching.changed().await;
            clock::sleep(MIN_SCAN_INTERVAL.saturating_sub(scan_started.elapsed()).max(COALESCE_WAIT)).await;
        };
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            changed = current.changed() => match changed {
                Ok(()) => current.mark_changed(),
                Err(_) => return Ok(()),
            },
            () = coalesced => {}
            () = clock::sleep_until(wake) => {}
        }
    }
}

/// State of the registrar between two steps.
pub struct Registrar {
    store: Store,
    sources: CurrentSources,
    /// Whether the configuration changed, so everything is read.
    forced: bool,
    scan: FileScan,
    files: Files,
    missing: MissingLabels,
    /// The files that are left out, as logged and recorded; `None` before the first step.
    left_out: Option<BTreeMap<PathBuf, Fault>>,
    /// Files that could not be read at the last reading.
    unreadable: Vec<LeftOut>,
    /// The wrong rows of the last reading.
    rows_left_out: Option<String>,
    /// Rows and warnings of the last reading. Each is logged once.
    logged: HashSet<u64>,
}

impl Registrar {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            sources: None,
            forced: false,
            scan: FileScan::default(),
            files: Files::default(),
            missing: MissingLabels::default(),
            left_out: None,
            unreadable: Vec::new(),
            rows_left_out: None,
            logged: HashSet::new(),
        }
    }

    /// Lets the next step read everything that `sources` name.
    pub fn configure(&mut self, sources: Arc<LabelSources>) {
        self.sources = Some(sources);
        self.forced = true;
    }

    /// The scan of the last step.
    fn last_scan(&self) -> Option<(&LabelSources, &FileScan)> {
        self.sources.as_deref().map(|sources| (sources, &self.scan))
    }

    /// Scans the files, reads them if something changed, and updates the registry. Returns when to call again.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let Some(sources) = self.sources.clone() else { return Ok(later(now, SCAN_INTERVAL)) };
        let scanned = Arc::clone(&sources);
        self.scan = blocking(move || scanned.scan()).await?;
        let changed = self.files.note(&self.scan, now);
        let missing = self.missing.wake(&clock::gaps(), now);
        if self.forced || changed || missing.is_some_and(|at| at <= now) {
            self.read(&sources, now).await?;
            self.forced = false;
        }
        self.record_left_out(now).await?;
        let wake = [self.files.wake(now), self.missing.wake(&clock::gaps(), now)];
        Ok(wake.into_iter().flatten().fold(later(now, SCAN_INTERVAL), Timestamp::min))
    }

    async fn read(&mut self, sources: &Arc<LabelSources>, now: Timestamp) -> Result<(), StoreError> {
        let (stable, pending) = self.files.stable(&self.scan, now);
        let growing: Vec<PathBuf> =
            stable.iter().filter(|file| file.growing).map(|file| file.path.clone()).collect();
        let reading_from = Arc::clone(sources);
        let reading = blocking(move || reading_from.read(stable)).await?;
        self.files.read(&self.scan, &pending);
        self.unreadable = reading.left_out.clone();
        self.rows_left_out = reading.faults.summary();
        self.log_rows(&reading.faults, &reading.warnings);
        if self.forced {
            self.scan
                .unmatched
                .iter()
                .for_each(|warning| warn!(%warning, "a pattern of label files matches no file"));
        }
        let labels = reading.label_set.labels();
        let left_out = self.left_out_now().map(|left_out| &left_out.path);
        let kept = pending.iter().chain(&growing).chain(left_out).cloned().collect();
        let applied = compare::apply(&self.store, sources, reading, kept, &mut self.missing, now).await?;
        if applied.missing > 0 {
            info!(
                labels = applied.missing,
                "labels missing from the label files: {}; they are removed in a minute", applied.missing
            );
        }
        if applied.added + applied.changed + applied.removed > 0 {
            let compare::AppliedChanges { added, changed, removed, .. } = applied;
            info!(
                labels,
                added,
                changed,
                removed,
                "labels registered: {added} added, {changed} changed, {removed} removed of {labels}"
            );
        }
        Ok(())
    }

    fn left_out_now(&self) -> impl Iterator<Item = &LeftOut> {
        self.scan
            .left_out
            .iter()
            .filter(|left_out| self.files.is_left_out(&left_out.path))
            .chain(&self.unreadable)
    }

    /// Logs each wrong row once, not at each reading.
    fn log_rows(&mut self, faults: &RowFaults, warnings: &[Fault]) {
        let mut logged = HashSet::new();
        let mut is_new = |fault: &Fault| {
            let mut hasher = DefaultHasher::new();
            fault.to_string().hash(&mut hasher);
            let hash = hasher.finish();
            logged.insert(hash);
            !self.logged.contains(&hash)
        };
        let mut fresh = 0;
        for fault in faults.kept.iter().filter(|fault| is_new(fault)) {
            fresh += 1;
            warn!(%fault, "label row left out: {fault}");
        }
        if fresh > 0 {
            warn!(rows = faults.total, "label rows left out: {}", faults.total);
        }
        warnings
            .iter()
            .filter(|warning| is_new(warning))
            .for_each(|warning| warn!(%warning, "label listed twice: {warning}"));
        self.logged = logged;
    }

    /// Logs and records files that are newly left out or read again.
    async fn record_left_out(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let now_out = self.left_out_now().map(|LeftOut { path, fault }| (path.clone(), fault.clone()));
        let left_out: BTreeMap<PathBuf, Fault> = now_out.collect();
        let before = self.left_out.take();
        if before.as_ref() != Some(&left_out) {
            let before = before.unwrap_or_default();
            for (path, fault) in left_out.iter().filter(|(path, fault)| before.get(*path) != Some(*fault)) {
                warn!(file = %path.display(), %fault, "label file left out, its labels stay as they are: {fault}");
            }
            for path in before.keys().filter(|path| !left_out.contains_key(*path)) {
                info!(file = %path.display(), "label file can be read again");
            }
            let row = |(path, fault): (&PathBuf, &Fault)| {
                (path.display().to_string(), fault.problem.clone(), fault.hint.clone())
            };
            let rows: Vec<_> = left_out.iter().map(row).collect();
            self.store.set_left_out_label_files(&rows, now).await?;
        }
        self.left_out = Some(left_out);
        Ok(())
    }
}
