//! Degradations that only the daemon's process knows, for `/healthz`, the status page and `trackpost status`.
//!
//! Label files that are left out are recorded in the database.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::clock;
use crate::domain::degraded::{DegradationKind, Degraded};
use crate::shortage;

/// A rejected reload; the running configuration stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedReload {
    pub at: Timestamp,
    /// Faults, one a line.
    pub faults: Vec<String>,
}

/// Shared by the workers and the HTTP server. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<NoticesState>>);

#[derive(Debug, Default)]
struct NoticesState {
    rejected: Option<RejectedReload>,
    unwatched: Option<String>,
    rows_of_configuration: Option<String>,
    rows_of_files: Option<String>,
}

impl Notices {
    fn with<T>(&self, change: impl FnOnce(&mut NoticesState) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns all degradations that this process knows at `now`.
    pub fn degraded(&self, now: Timestamp) -> Vec<Degraded> {
        let (rejected, unwatched, rows) = self.with(|state| {
            let rows = [
                ("registration.labels", state.rows_of_configuration.clone()),
                ("registration.files", state.rows_of_files.clone()),
            ];
            (state.rejected.clone(), state.unwatched.clone(), rows)
        });
        let rows = rows.into_iter().filter_map(|(key, left_out)| {
            Some(Degraded::new(DegradationKind::LabelRow, Some(key), None, left_out?))
        });
        let reload = rejected.map(|rejected| {
            let faults = rejected.faults.join("; ");
            let detail = format!("rejected, the running configuration stays: {faults}");
            Degraded::new(DegradationKind::Reload, None, Some(rejected.at), detail)
        });
        let watch = unwatched.map(|why| Degraded::new(DegradationKind::Watch, None, None, why));
        let shortage = shortage::current(now).map(|shortage| {
            Degraded::new(DegradationKind::Shortage, None, Some(shortage.since), shortage.detail)
        });
        let jump = clock::recent_jump().map(|jump| {
            Degraded::new(DegradationKind::Clock, None, Some(jump.to), clock::jump_in_words(jump))
        });
        [shortage, jump, reload].into_iter().flatten().chain(rows).chain(watch).collect()
    }

    /// Sets or clears which label rows of the configuration are left out.
    pub fn set_rows_of_configuration(&self, left_out: Option<String>) {
        self.with(|state| state.rows_of_configuration = left_out);
    }

    /// Sets or clears which rows of label files are left out.
    pub fn set_rows_of_files(&self, left_out: Option<String>) {
        self.with(|state| state.rows_of_files = left_out);
    }

    pub fn set_rejected_reload(&self, rejected: Option<RejectedReload>) {
        self.with(|state| state.rejected = rejected);
    }

    /// Sets or clears why label files are not watched; the scan each minute then finds changes. Returns whether that
    /// changed.
    pub fn set_unwatched(&self, problem: Option<String>) -> bool {
        self.with(|state| {
            let changed = state.unwatched != problem;
            state.unwatched = problem;
            changed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_only_the_process_knows() {
        let (notices, now) = (Notices::default(), clock::now());
        assert_eq!(notices.degraded(now), []);
        assert!(notices.set_unwatched(Some("inotify: Too many open files".to_owned())));
        notices.set_rejected_reload(Some(RejectedReload { at: now, faults: vec!["a".to_owned()] }));
        notices.set_rows_of_configuration(Some("1 row".to_owned()));
        notices.set_rows_of_files(Some("3 rows".to_owned()));
        let degraded = notices.degraded(now);
        assert_eq!(
            degraded.iter().map(|degraded| degraded.what).collect::<Vec<_>>(),
            [
                DegradationKind::Reload,
                DegradationKind::LabelRow,
                DegradationKind::LabelRow,
                DegradationKind::Watch
            ]
        );
        assert_eq!(
            [&degraded[1], &degraded[2]].map(|rows| rows.name.as_deref().unwrap()),
            ["registration.labels", "registration.files"]
        );
        assert_eq!(degraded[3].detail.as_deref(), Some("inotify: Too many open files"));
        notices.set_unwatched(None);
        notices.set_rows_of_configuration(None);
        notices.set_rows_of_files(None);
        notices.set_rejected_reload(None);
        assert_eq!(notices.degraded(now), []);
    }
}
