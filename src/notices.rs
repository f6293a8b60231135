//! What is degraded in this process and no reason to restart it, for `/healthz` and the status page.
//!
//! Label files that are left out are in the database, where verbs see them, too.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// A reload whose configuration had faults: what ran goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedReload {
    pub at: Timestamp,
    /// A line each.
    pub faults: Vec<String>,
}

/// Shared by those who find out and those who show it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rejected: Option<RejectedReload>,
    unwatched: Option<String>,
}

impl Notices {
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last reload, if it was rejected.
    pub fn rejected_reload(&self) -> Option<RejectedReload> {
        self.with(|state| state.rejected.clone())
    }

    pub fn set_rejected_reload(&self, rejected: Option<RejectedReload>) {
        self.with(|state| state.rejected = rejected);
    }

    /// Why label files are not watched: changes are found by the look each minute only.
    pub fn unwatched(&self) -> Option<String> {
        self.with(|state| state.unwatched.clone())
    }

    /// Returns whether that is news.
    pub fn set_unwatched(&self, problem: Option<String>) -> bool {
        self.with(|state| {
            let news = state.unwatched != problem;
            state.unwatched = problem;
            news
        })
    }
}
