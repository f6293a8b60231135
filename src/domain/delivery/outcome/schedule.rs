//! Schedule of a pending delivery, and its progress on the retry schedule.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Due, DueReason, HastenedBy, RETRY_JITTER, SLOWEST_PROBE};
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::domain::time::{after, earlier};

/// Schedule of a pending delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySchedule {
    pub next: Due,
    pub progress: RetryProgress,
    /// End of this message's `Retry-After`.
    pub retry_after_until: Option<Timestamp>,
}

impl DeliverySchedule {
    /// Schedule of a new delivery.
    pub fn first(now: Timestamp) -> Self {
        Self::begin(Due { at: now, reason: DueReason::First })
    }

    /// Schedule of a message sent again at `at`. The retry schedule restarts.
    pub fn queued_again(at: Timestamp) -> Self {
        Self::begin(Due { at, reason: DueReason::QueuedAgain })
    }

    fn begin(next: Due) -> Self {
        Self { next, progress: RetryProgress::default(), retry_after_until: None }
    }

    /// Makes a delivery due now, or at the end of its `Retry-After`. Replayed messages keep their times. Returns
    /// whether anything changed.
    ///
    /// If this early attempt fails, the delivery waits for its scheduled time ([`super::decide`]).
    pub fn hasten(&mut self, by: HastenedBy, now: Timestamp) -> bool {
        let at = now.max(self.retry_after_until.unwrap_or(now));
        if self.next.at <= at || self.next.reason == DueReason::QueuedAgain {
            return false;
        }
        let reason = match self.next.reason {
            DueReason::RetryAfter { capped } => DueReason::RetryAfter { capped },
            _ if at > now => DueReason::RetryAfter { capped: false },
            _ => DueReason::Hastened { by },
        };
        self.next = Due { at, reason };
        true
    }

    /// Limits all waits from `now` on to their planned lengths, in case the clock was ahead when they were planned
    /// (contract 9.5). `by`: how far the clock was just set back. Returns whether anything changed.
    pub fn shorten_waits(&mut self, by: Option<SignedDuration>, now: Timestamp) -> bool {
        let longest = |wait: Duration| after(now, wait.mul_f64(1.0 + RETRY_JITTER));
        let nearer = |at: Timestamp| by.map_or(at, |by| earlier(at, by));
        let step = match self.next.reason {
            DueReason::Step { wait_ms, .. } | DueReason::LastStep { wait_ms } => {
                Some(longest(Duration::from_millis(wait_ms)))
            }
            _ => None,
        };
        let latest = match self.next.reason {
            DueReason::First | DueReason::Hastened { .. } => now,
            DueReason::Step { .. } | DueReason::LastStep { .. } => step.unwrap_or(now),
            DueReason::WaitsForProbe => nearer(self.next.at).min(after(now, SLOWEST_PROBE)),
            DueReason::RetryAfter { .. } => nearer(self.next.at).min(after(now, LONGEST_RETRY_AFTER)),
            // A replay is spread over time.
            DueReason::QueuedAgain => nearer(self.next.at),
        };
        let before = *self;
        self.next.at = self.next.at.min(latest);
        let was_ahead = self.progress.since.is_some_and(|since| since > now);
        if let Some(latest) = step.or(was_ahead.then(|| longest(LONGEST_RETRY_AFTER))) {
            self.progress.planned_at = self.progress.planned_at.map(|at| at.min(latest));
        }
        self.progress.since = self.progress.since.map(|since| since.min(now));
        self.retry_after_until =
            self.retry_after_until.map(|at| nearer(at).min(after(now, LONGEST_RETRY_AFTER)));
        *self != before
    }

    /// Makes a delivery of a subscriber that is resumed by hand due, regardless of its `Retry-After`; returns whether
    /// anything changed.
    pub fn resume(&mut self, now: Timestamp) -> bool {
        let overruled = self.retry_after_until.take().is_some();
        self.hasten(HastenedBy::Resume, now) || overruled
    }

    /// Makes a delivery of a subscriber with a new URL due, regardless of failures and `Retry-After` of the former
    /// receiver; returns whether anything changed.
    pub fn follow_url(&mut self, now: Timestamp) -> bool {
        let before = *self;
        (self.progress, self.retry_after_until) = (RetryProgress::default(), None);
        self.hasten(HastenedBy::UrlChanged, now) || *self != before
    }
}

/// Progress of a delivery on its retry schedule. It restarts when the message is queued again. Failures while the
/// subscriber is failing and failures of early attempts do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryProgress {
    /// Number of failures that count.
    pub failures: u32,
    /// Time of the first counted failure; `None` exactly if there is none.
    pub since: Option<Timestamp>,
    /// Time of the next attempt by the schedule; `None` unless the delivery is retried.
    pub planned_at: Option<Timestamp>,
}

impl RetryProgress {
    /// Adds a failure at `now`.
    #[must_use]
    pub fn failed(self, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, since: self.since.or(Some(now)), planned_at: None }
    }

    /// Whether the subscriber accepted other messages since the first failure of this one. Then this message is the
    /// cause.
    pub fn is_proven_bad(self, last_success_at: Option<Timestamp>) -> bool {
        self.since.is_some() && last_success_at >= self.since
    }
}
