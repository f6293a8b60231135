//! Finding labels: what becomes of each one in the list, and how the list is walked.
//!
//! `GET /v2/labels` has no cursor, and knows neither "new" nor "changed". But it filters by creation and sorts by it, so
//! a walk goes forward along `created_at`: whatever was created up to its position has been seen. What comes late into
//! an earlier second is caught by an overlap, and what is not yet completed holds the position back for a while.
//! Positions are the vendor's own instants; our clock only says where the very first walk begins.
//!
//! Nothing is asked, stored or polled here, and of a label only what is in [`Listed`] ever gets this far: the list is full
//! of people's names and addresses, and of links that open their labels.

mod walk;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::budget::Month;
use crate::domain::label::{LabelId, Metadata};
use crate::domain::polling::account_status::{AccountSignal, backoff};
use crate::domain::time::{after, later, signed};
use crate::domain::tracking::reading::Reading;
pub use walk::{Ask, PageSize, Taken, Walk};

/// A label as the list has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub id: LabelId,
    /// None if the list does not say, or says it illegibly.
    pub created_at: Option<Timestamp>,
    pub fate: Fate,
    /// Ids and codes that a receiver may want: `order`, `shipment`, `external_shipment`, `carrier`, `service`.
    pub metadata: Metadata,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub labels: Vec<Listed>,
    /// Whether the list says that there are more pages behind.
    pub more: bool,
    /// Labels whose id can't be read.
    pub illegible: usize,
}

/// What becomes of a label that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To be watched.
    Tracked,
    /// Taken back: nobody ships under it any more.
    Voided,
    /// Without tracking, or it never came about.
    Untracked,
    /// Still being made: to be looked at again.
    Undecided,
}

impl Fate {
    /// By the vendor's `status`, `voided` and `trackable`; unknown words do not keep a trackable label out.
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

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// New labels, and voids among the newest.
    News,
    /// Labels that were voided later. The list is asked for voided ones only, so that it is short.
    Voids,
}

/// How far an account's walks have come; it outlives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All that was created until then has been seen.
    pub position: Option<Timestamp>,
    /// When the last walk for voids began that came to its end.
    pub voids_sought_at: Option<Timestamp>,
}

/// How often voids are looked for: a voided label is polled for an hour too long at most.
pub const VOIDS_EVERY: SignedDuration = SignedDuration::from_hours(1);

impl Progress {
    /// What to walk for at `now`, or when to ask again. `last` is what the last walk was for, however it ended; `news_at`
    /// is when new labels are looked for next, and `interval` that between two looks.
    ///
    /// When both are due they take turns: of an account with a small budget news are due again before a walk's rest is
    /// over, and a list of voids that can't be had keeps nobody from the news.
    pub fn next_aim(
        &self,
        last: Option<Aim>,
        news_at: Option<Timestamp>,
        interval: Duration,
        now: Timestamp,
    ) -> Result<Aim, Timestamp> {
        let every = signed(interval).max(VOIDS_EVERY);
        // A clock that was set back must not put the next look off for as long as it jumped.
        let sought = self.voids_sought_at.filter(|at| *at <= now);
        let voids_at = sought.map(|at| later(at, every)).unwrap_or(now);
        let news_at = news_at.unwrap_or(now).min(after(now, interval));
        match (news_at <= now, voids_at <= now) {
            (true, true) if last == Some(Aim::News) => Ok(Aim::Voids),
            (true, _) => Ok(Aim::News),
            (_, true) => Ok(Aim::Voids),
            _ => Err(news_at.min(voids_at)),
        }
    }
}

/// No rest between two calls for the list is longer.
pub const LONGEST_REST: SignedDuration = SignedDuration::from_hours(24);

/// The least time between two calls for the list at `now`, of an account that may make `allowed` calls a second: a walk,
/// however long, takes at most one call in four, and the polls have the rest. A new month has a budget of its own.
pub fn pause(allowed: f64, now: Timestamp) -> SignedDuration {
    let seconds = 4.0 / allowed.max(f64::MIN_POSITIVE);
    let pause = SignedDuration::try_from_secs_f64(seconds).unwrap_or(LONGEST_REST);
    pause.min(LONGEST_REST).min(Month::of(now).end.duration_since(now))
}

/// How long to leave the list alone after so many failures in a row; as with a label that fails.
pub fn retry_in(failures: u32) -> SignedDuration {
    signed(backoff(failures.saturating_sub(1)))
}

/// What a call for the list says about the account, if it says anything. `failure` is what came in place of a list;
/// `probe` whether the call was the probe of a fallen account; `vouched` whether labels were answered about lately.
///
/// That the list came says nothing of the labels, but that the key is taken. That it is forbidden or not there is no
/// reason to stop asking about labels, as long as that goes well: a plan or a gateway may lack the list alone.
pub fn concerns_account(failure: Option<&Reading>, probe: bool, vouched: bool) -> Option<AccountSignal> {
    let signal = failure.map_or(AccountSignal::Fine, Reading::signal);
    let concerns = match failure {
        Some(Reading::Unauthorized { status: 401, .. }) => true,
        Some(Reading::Unauthorized { .. } | Reading::WrongEndpoint { .. }) => !vouched,
        _ => !matches!(signal, AccountSignal::Fine | AccountSignal::Refused { .. } | AccountSignal::OurFault),
    };
    (concerns || probe).then_some(signal)
}
