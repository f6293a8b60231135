//! Degradations of this process that a restart does not repair, for `/healthz` and the status page.
//!
//! Label files that are left out are recorded in the database, so that commands see them too.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

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
}

impl Notices {
    fn with<T>(&self, change: impl FnOnce(&mut NoticesState) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last reload if it was rejected.
    pub fn rejected_reload(&self) -> Option<RejectedReload> {
        self.with(|state| state.rejected.clone())
    }

    pub fn set_rejected_reload(&self, rejected: Option<RejectedReload>) {
        self.with(|state| state.rejected = rejected);
    }

    /// Returns why label files are not watched. The scan each minute then finds changes.
    pub fn unwatched(&self) -> Option<String> {
        self.with(|state| state.unwatched.clone())
    }

    /// Sets or clears the problem. Returns whether it changed.
    pub fn set_unwatched(&self, problem: Option<String>) -> bool {
        self.with(|state| {
            let changed = state.unwatched != problem;
            state.unwatched = problem;
            changed
        })
    }
}
