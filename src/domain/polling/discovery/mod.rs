//! Discovery of labels: the state of each listed label, and the walk along the list.
//!
//! `GET /v2/labels` has no cursor and no filter for new or changed labels. It filters and sorts by creation, so a walk
//! goes forward along `created_at`: all labels created before its position have been seen. An overlap finds labels that
//! appear late with an earlier `created_at`. A label that is not yet completed holds the position back for some hours.
//! Positions are the vendor's instants. Our clock sets only the start of the first walk.
//!
//! This module sends, stores and polls nothing. It gets only the fields in [`ListedLabel`]: the list also has names and
//! addresses of people, and links that open their labels.

mod walk;
mod walker;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::budget::Month;
use crate::domain::label::{LabelId, Metadata};
use crate::domain::polling::account_status::{AccountSignal, backoff};
use crate::domain::time::{after, later, signed};
use crate::domain::tracking::reading::Reading;
pub use walk::{ListRequest, PageResult, PageSize, Walk};
pub use walker::Walker;

/// A label in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedLabel {
    pub id: LabelId,
    /// `None` if it is missing or cannot be parsed.
    pub created_at: Option<Timestamp>,
    pub state: ListedState,
    /// Ids and codes for the receiver: `order`, `shipment`, `external_shipment`, `carrier`, `service`.
    pub metadata: Metadata,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    pub labels: Vec<ListedLabel>,
    /// Whether the list has more pages after this one.
    pub more: bool,
    /// Number of labels whose id cannot be parsed.
    pub invalid_ids: usize,
}

/// State of a label in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// Completed and trackable: it is registered.
    Tracked,
    /// Voided by the shipper: discovery withdraws its registration.
    Voided,
    /// It has no tracking, or its creation failed.
    Untracked,
    /// It is being created: a later walk reads it again.
    Undecided,
}

impl ListedState {
    /// Returns the state for the vendor's `status`, `voided` and `trackable`. A trackable label with an unknown status
    /// is tracked.
    pub fn of(status: Option<&str>, voided: Option<bool>, trackable: Option<bool>) -> Self {
        let status = status.map(|status| status.trim().to_ascii_lowercase());
        match (status.as_deref(), trackable) {
            _ if voided == Some(true) => Self::Voided,
            (Some("voided"), _) => Self::Voided,
            (Some("error"), _) => Self::Untracked,
            (Some("processing"), _) => Self::Undecided,
            (Some("completed"), Some(false)) => Self::Untracked,
            (Some("completed"), _) | (_, Some(true)) => Self::Tracked,
            _ => Self::Undecided,
        }
    }
}

/// Purpose of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkPurpose {
    /// New labels, and voided ones among the newest.
    NewLabels,
    /// Labels that were voided later. The request filters for voided labels, so the list is short.
    Voids,
}

/// Progress of an account's walks. It is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryProgress {
    /// All labels created before this instant have been seen.
    pub position: Option<Timestamp>,
    /// Whether a listed label confirmed the position. Until then it comes from our clock alone.
    pub confirmed: bool,
    /// Start of the last complete walk for voids.
    pub voids_searched_at: Option<Timestamp>,
}

/// Interval of the walks for voids. A voided label is polled for at most one hour too long.
pub const VOIDS_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

impl DiscoveryProgress {
    /// Returns the position from which a walk at `now` begins. A position in the future that no label confirmed was set
    /// by a clock that was ahead, and does not count.
    pub fn position_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.position.filter(|position| self.confirmed || *position <= now)
    }

    /// Returns the purpose of the walk that is due at `now`, or when the next one is due. `last` is the purpose of the
    /// last walk, complete or not. `new_labels_at` is when the next walk for new labels is due, and `interval` the time
    /// between two of them.
    ///
    /// If both are due, they alternate. So neither starves: with a small budget, new labels are due again as soon as
    /// the pause after a walk ends, and a list of voids may keep failing.
    pub fn next_walk(
        &self,
        last: Option<WalkPurpose>,
        new_labels_at: Option<Timestamp>,
        interval: Duration,
        now: Timestamp,
    ) -> Result<WalkPurpose, Timestamp> {
        let every = signed(interval).max(VOIDS_INTERVAL);
        // After the clock was set back, the next walk is not delayed by the jump.
        let searched = self.voids_searched_at.filter(|at| *at <= now);
        let voids_at = searched.map(|at| later(at, every)).unwrap_or(now);
        let new_labels_at = new_labels_at.unwrap_or(now).min(after(now, interval));
        match (new_labels_at <= now, voids_at <= now) {
            (true, true) if last == Some(WalkPurpose::NewLabels) => Ok(WalkPurpose::Voids),
            (true, _) => Ok(WalkPurpose::NewLabels),
            (_, true) => Ok(WalkPurpose::Voids),
            _ => Err(new_labels_at.min(voids_at)),
        }
    }
}

/// Returns the shortest time between two requests for the list at `now`, for an account that may send `allowed`
/// requests a second. A walk takes at most one request in four; the polls have the others. The pause ends with the
/// month, because a new month has a new budget.
pub fn pause(allowed: f64, now: Timestamp) -> SignedDuration {
    let seconds = 4.0 / allowed.max(f64::MIN_POSITIVE);
    let pause = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
    pause.min(Month::of(now).end.duration_since(now))
}

/// Returns the wait after `failures` failed requests in a row, as for a label that fails.
pub fn retry_in(failures: u32) -> SignedDuration {
    signed(backoff(failures.saturating_sub(1)))
}

/// Time after a good answer to a poll in which a refused list does not concern the account.
pub const LIST_REFUSAL_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Returns the signal of a request for the list about the account, if any. `failure` is the reading of a failed
/// request. `probe`: the request was the probe of an account that is not ok. `recently_answered`: a poll of this
/// account got a good answer lately.
///
/// A good list shows only that the key is accepted. A 403 or 404 of the list does not stop the polls while they
/// succeed: a plan or a gateway may lack only the list.
pub fn account_signal(
    failure: Option<&Reading>,
    probe: bool,
    recently_answered: bool,
) -> Option<AccountSignal> {
    let signal = failure.map_or(AccountSignal::Good, Reading::signal);
    let concerns = match failure {
        Some(Reading::Unauthorized { status: 401, .. }) => true,
        Some(Reading::Unauthorized { .. } | Reading::WrongEndpoint { .. }) => !recently_answered,
        _ => !matches!(signal, AccountSignal::Good | AccountSignal::Refused { .. } | AccountSignal::Shortage),
    };
    (concerns || probe).then_some(signal)
}
