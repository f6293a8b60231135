//! The status of an account with the API, and how each answer changes it (contract 3).
//!
//! A refused key, a wrong URL or an outage concerns the account, not the label. The labels of such an account are not
//! polled; one probe at a time is sent until the API answers again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::messages::MessageType;
use crate::domain::named_enum::named_enum;
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::domain::time::{SHORTAGE_PAUSE, after, later, signed};
use crate::domain::tracking::reading::Reading;

/// The meaning of one answer for its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountSignal {
    /// The API answered the poll; the account works.
    Good,
    /// 401, 402; a 400 or 403 about the account.
    Unauthorized { detail: String },
    /// Any other 4xx. It concerns the label, unless several labels in a row get the same refusal.
    Refused { detail: String },
    /// A 404 about the endpoint.
    Misconfigured { detail: String },
    /// 429: the whole account waits.
    Throttled { wait: Duration },
    /// 5xx, garbled, time-out, no connection. It may concern this label or the whole API.
    Failed { detail: String },
    /// No request was sent, because this machine lacks descriptors, memory or a resolver.
    Shortage,
}

impl Reading {
    /// Returns the meaning of the answer for the account.
    pub fn signal(&self) -> AccountSignal {
        let detail = || self.detail().unwrap_or_default();
        match self {
            Self::Answer { .. } | Self::SameBytes | Self::CarrierThrottled { .. } => AccountSignal::Good,
            Self::Refused { .. } => AccountSignal::Refused { detail: detail() },
            Self::Unauthorized { status, .. } => {
                AccountSignal::Unauthorized { detail: format!("the server answered {status}: {}", detail()) }
            }
            Self::WrongEndpoint { .. } => AccountSignal::Misconfigured { detail: detail() },
            Self::Throttled { retry_after } => {
                AccountSignal::Throttled { wait: throttled_wait(*retry_after) }
            }
            Self::Garbled { .. } | Self::ServerError { .. } | Self::TimedOut | Self::NoConnection { .. } => {
                AccountSignal::Failed { detail: detail() }
            }
            Self::Shortage { .. } => AccountSignal::Shortage,
        }
    }
}

named_enum! {
    /// Status of an account with the API.
    #[derive(Default)]
    pub enum AccountStatus {
        #[default]
        Ok = "ok",
        Unauthorized = "unauthorized",
        Misconfigured = "misconfigured",
        /// Every label fails: the API or the network of this machine is down.
        Down = "down",
    }
}

impl AccountStatus {
    fn is_refused(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Misconfigured)
    }
}

/// Status of an account with its details.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountState {
    pub status: AccountStatus,
    pub since: Timestamp,
    /// Failed probes since `since`.
    pub probes: u32,
    /// When the next probe is due; set if and only if the status is not `Ok`.
    pub probe_at: Option<Timestamp>,
    pub throttled_until: Option<Timestamp>,
    pub detail: Option<String>,
    /// Labels that failed since the last answer that accepted the key; not stored.
    pub failed_labels: BTreeSet<i64>,
    /// Failures in a row; not stored.
    pub failures_in_a_row: u32,
    /// Time of the last answer that accepted the key: a good one, or the refusal of one label; not stored.
    pub last_success_at: Option<Timestamp>,
    /// The last refusal without a good answer since; not stored.
    pub refusal: Option<String>,
    /// Labels that got this refusal in a row; not stored.
    pub refused: BTreeSet<i64>,
    /// The label whose answer changed the status. Another label is the better probe; not stored.
    pub status_changed_by: Option<i64>,
    /// No request is sent before this time, after a shortage of this machine; not stored.
    pub paused_until: Option<Timestamp>,
}

/// A change of the status that matters to subscribers and labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountChange {
    /// The API refuses the account: `system.account.unauthorized`.
    Refused,
    /// The API accepts the account again: `system.account.recovered`.
    Accepted,
    /// All labels fail. From here on no label's failures count.
    WentDown,
    /// The API answers again. The overdue labels are spread.
    CameBack,
}

impl AccountChange {
    /// Returns the type of the message about the change; `None`: no message is sent.
    pub fn message_type(self) -> Option<MessageType> {
        match self {
            Self::Refused => Some(MessageType::AccountUnauthorized),
            Self::Accepted => Some(MessageType::AccountRecovered),
            Self::WentDown | Self::CameBack => None,
        }
    }
}

/// Failures in a row that make an outage, if all labels of the account are among them.
const OUTAGE_FAILURES: u32 = 5;
/// Number of labels from which on an outage is detected. With fewer, the backoff of each label is enough.
const MIN_OUTAGE_LABELS: usize = 3;
/// Time after an answer that accepted the key, in which failures are not an outage.
const OUTAGE_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Number of different labels whose failures in a row mean an outage, for an account with more labels.
pub const MAX_OUTAGE_LABELS: usize = 20;

/// Number of labels in a row with the same refusal that mean that the account is refused (contract 3).
const REFUSED_LABELS: usize = 3;

/// Returns the wait of an account or a carrier after a 429: at least a second, also after `Retry-After: 0`; a minute
/// without `Retry-After` (contract 3).
pub fn throttled_wait(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(Duration::from_secs(60)).clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER)
}

impl AccountState {
    pub fn new(now: Timestamp) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// Returns when a request may be sent; `None`: now.
    pub fn open_at(&self, now: Timestamp) -> Option<Timestamp> {
        [self.throttled_until, self.probe_at, self.paused_until]
            .into_iter()
            .flatten()
            .max()
            .filter(|at| *at > now)
    }

    /// Moves all times by a jump of the wall clock, so that each wait keeps its length.
    pub fn apply_jump(&mut self, by: SignedDuration, now: Timestamp) {
        for at in
            [&mut self.probe_at, &mut self.throttled_until, &mut self.last_success_at, &mut self.paused_until]
                .into_iter()
                .flatten()
        {
            *at = later(*at, by);
        }
        self.shorten_waits(now);
    }

    /// Continues the waits of the last run. Its last request was counted at `last_request_at`, its last 429 came at
    /// `throttled_at`. If the last 429 (without one, the last request) is in the future, the clock was set back since:
    /// the rest of the `Retry-After` then counts from `now`.
    pub fn continue_at(
        &mut self,
        last_request_at: Option<Timestamp>,
        throttled_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let ended_at = last_request_at.max(throttled_at).filter(|at| *at > now);
        if let (Some(until), Some(ended_at)) = (&mut self.throttled_until, ended_at)
            && throttled_at.is_none_or(|at| at > now)
        {
            *until = later(now, until.duration_since(ended_at));
        }
        self.shorten_waits(now);
    }

    /// Moves times that lie further ahead than the longest wait allows: the clock may have been ahead when they were
    /// planned.
    pub fn shorten_waits(&mut self, now: Timestamp) {
        let longest_probe = later(now, signed(backoff(self.probes)));
        self.probe_at = self.probe_at.map(|at| at.min(longest_probe));
        let longest_wait = later(now, signed(LONGEST_RETRY_AFTER));
        self.throttled_until = self.throttled_until.map(|at| at.min(longest_wait));
        self.last_success_at = self.last_success_at.map(|at| at.min(now));
    }

    /// Whether only one request at a time may go out.
    pub fn probing(&self) -> bool {
        self.status != AccountStatus::Ok
    }

    /// Applies an answer, about the row `label` if it was a poll. `labels` is the number of labels that the account
    /// polls; it counts up to [`MAX_OUTAGE_LABELS`]. `probe`: the request was the probe of an account that is not ok.
    /// Answers to requests that were in flight when the status changed are ignored.
    pub fn observe(
        &mut self,
        label: Option<i64>,
        signal: &AccountSignal,
        labels: usize,
        probe: bool,
        now: Timestamp,
    ) -> Option<AccountChange> {
        match signal {
            // The request was sent before the status changed.
            AccountSignal::Good if self.probing() && !probe => None,
            AccountSignal::Good => self.good_answer(now),
            AccountSignal::Throttled { wait } => {
                let until = later(now, signed(*wait));
                self.throttled_until = self.throttled_until.max(Some(until));
                None
            }
            AccountSignal::Unauthorized { detail } => {
                self.status_changed_by = label.or(self.status_changed_by);
                self.fail(AccountStatus::Unauthorized, detail, probe, now)
            }
            AccountSignal::Misconfigured { detail } => {
                self.status_changed_by = label.or(self.status_changed_by);
                self.fail(AccountStatus::Misconfigured, detail, probe, now)
            }
            AccountSignal::Refused { .. } if self.probing() && !probe => None,
            AccountSignal::Refused { detail } => self.refuse(label, detail, probe, now),
            AccountSignal::Shortage => {
                let until = after(now, SHORTAGE_PAUSE);
                self.paused_until = Some(until);
                if probe {
                    self.probe_at = self.probe_at.max(Some(until));
                }
                None
            }
            AccountSignal::Failed { detail } => {
                self.failures_in_a_row += 1;
                self.failed_labels.extend(label);
                let all = labels.clamp(MIN_OUTAGE_LABELS, MAX_OUTAGE_LABELS);
                let lately = self.last_success_at.is_some_and(|at| now.duration_since(at) < OUTAGE_GRACE);
                let outage =
                    !lately && self.failures_in_a_row >= OUTAGE_FAILURES && self.failed_labels.len() >= all;
                if self.probing() || outage {
                    self.fail(AccountStatus::Down, detail, probe, now)
                } else {
                    None
                }
            }
        }
    }

    fn good_answer(&mut self, now: Timestamp) -> Option<AccountChange> {
        self.refusal = None;
        self.refused.clear();
        self.record_accepted(now)
    }

    /// Applies a refusal of a label. It concerns the account if several labels in a row get the same one.
    fn refuse(
        &mut self,
        label: Option<i64>,
        detail: &str,
        probe: bool,
        now: Timestamp,
    ) -> Option<AccountChange> {
        let is_the_same = self.status == AccountStatus::Unauthorized
            && self.detail.as_deref().is_some_and(|reason| reason.ends_with(detail));
        if self.refusal.as_deref() != Some(detail) {
            self.refusal = Some(detail.to_owned());
            self.refused.clear();
        }
        self.refused.extend(label);
        if is_the_same || self.refused.len() >= REFUSED_LABELS {
            self.status_changed_by = label.or(self.status_changed_by);
            let detail = format!("several labels in a row got the same refusal: {detail}");
            return self.fail(AccountStatus::Unauthorized, &detail, probe, now);
        }
        self.record_accepted(now)
    }

    /// Applies an answer that shows that the API works and accepts the key.
    fn record_accepted(&mut self, now: Timestamp) -> Option<AccountChange> {
        self.failed_labels.clear();
        self.failures_in_a_row = 0;
        self.last_success_at = Some(now);
        let change = match self.status {
            AccountStatus::Ok => return None,
            AccountStatus::Down => AccountChange::CameBack,
            AccountStatus::Unauthorized | AccountStatus::Misconfigured => AccountChange::Accepted,
        };
        *self = Self {
            throttled_until: self.throttled_until,
            last_success_at: Some(now),
            refusal: self.refusal.take(),
            refused: std::mem::take(&mut self.refused),
            ..Self::new(now)
        };
        Some(change)
    }

    fn fail(
        &mut self,
        to: AccountStatus,
        detail: &str,
        probe: bool,
        now: Timestamp,
    ) -> Option<AccountChange> {
        // A refused account stays refused when its probe finds no connection, because the key was not accepted.
        let to = if to == AccountStatus::Down && self.status.is_refused() { self.status } else { to };
        if to == self.status {
            if probe {
                self.probes += 1;
                self.probe_at = now.checked_add(signed(backoff(self.probes))).ok();
                self.detail = Some(detail.to_owned());
            }
            return None;
        }
        let was = self.status;
        self.status = to;
        self.since = now;
        self.probes = 0;
        self.probe_at = now.checked_add(signed(backoff(0))).ok();
        self.detail = Some(detail.to_owned());
        match to {
            AccountStatus::Down => Some(AccountChange::WentDown),
            _ if was.is_refused() => None,
            _ => Some(AccountChange::Refused),
        }
    }
}

/// Returns the wait after `failures` earlier failures: 1 m, doubling up to 1 h. For a failing label and for the probe of
/// an account (contract 3).
pub fn backoff(failures: u32) -> Duration {
    Duration::from_secs(60 * (1_u64 << failures.min(6))).min(Duration::from_secs(3600))
}

/// Returns the due time, after an outage, of a label that failed in it: `now` at the latest, without its backoff.
pub fn due_after_outage(due_at: Timestamp, now: Timestamp) -> Timestamp {
    due_at.min(now)
}

#[cfg(test)]
mod tests;
