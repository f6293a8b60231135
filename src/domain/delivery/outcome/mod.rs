//! Outcome of an attempt, and the decision about its delivery.
//!
//! Pure: retry schedule, `Retry-After` and dead messages (contract 7.4, 7.5). [`crate::domain::delivery::health`]
//! decides about a failing subscriber.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::time::{after, earlier, later};

/// Outcome of one attempt. All but [`Outcome::Accepted`] are failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx.
    Accepted { status: u16 },
    /// Any other status, including redirects, which are not followed.
    Refused { status: u16 },
    /// The host has no address.
    NameUnknown,
    /// Address refused by policy, or unusable URL.
    AddressRefused,
    /// Connection refused.
    ConnectionRefused,
    /// TLS handshake failed, or the certificate is not valid.
    Tls,
    /// Time limit reached, before or after there was a connection.
    TimedOut { connected: bool },
    /// Connection broken.
    Reset,
    /// The answer is not HTTP, so it has no status.
    Unreadable,
    /// The message cannot be rendered in the subscriber's format: a bug of trackpost. Nothing was sent.
    Unsendable,
    /// This machine lacked a descriptor, memory, a port or a name server. The attempt is not recorded and does not
    /// count for message or subscriber; it is repeated soon.
    OurFault,
}

impl Outcome {
    /// Every outcome, with a status where it has one.
    pub const ALL: [Self; 12] = [
        Self::Accepted { status: 200 },
        Self::Refused { status: 500 },
        Self::NameUnknown,
        Self::AddressRefused,
        Self::ConnectionRefused,
        Self::Tls,
        Self::TimedOut { connected: false },
        Self::TimedOut { connected: true },
        Self::Reset,
        Self::Unreadable,
        Self::Unsendable,
        Self::OurFault,
    ];

    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// Name in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "status",
            Self::NameUnknown => "name",
            Self::AddressRefused => "address",
            Self::ConnectionRefused => "refused",
            Self::Tls => "tls",
            Self::TimedOut { connected: false } => "connect_timeout",
            Self::TimedOut { connected: true } => "timeout",
            Self::Reset => "reset",
            Self::Unreadable => "unreadable",
            Self::Unsendable => "unsendable",
            Self::OurFault => "ours",
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted { status } | Self::Refused { status } => Some(*status),
            _ => None,
        }
    }

    /// Name and status, for display.
    pub fn shown(&self) -> String {
        match self.status() {
            Some(status) => format!("{} {status}", self.as_str()),
            None => self.as_str().to_owned(),
        }
    }
}

/// A finished attempt, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub started_at: Timestamp,
    pub duration: Duration,
    pub outcome: Outcome,
    /// Description of the failure.
    pub detail: Option<String>,
    /// First KiB of the answer.
    pub answer: Option<String>,
    pub retry_after: Option<Duration>,
}

/// Decision about a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterAttempt {
    Delivered,
    Retry(Due),
    /// Retry schedule used up: kept, counted, shown and replayable. Later messages of the label follow.
    Dead,
}

/// Time of the next attempt and its reason, as decided and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub reason: DueReason,
}

/// Reason for the time of the next attempt. Holds of all deliveries of a subscriber are in its health instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    /// The delivery was never attempted.
    First,
    /// Queued again by `deliveries retry` or a replay.
    QueuedAgain,
    /// Wait number `number` of the `of` waits in the retry schedule.
    Step { number: u32, of: u32, wait_ms: u64 },
    /// The retry schedule is used up, but no other message was accepted either: the last wait repeats.
    LastStep { wait_ms: u64 },
    /// `Retry-After` for this message. `capped`: it was longer than [`LONGEST_RETRY_AFTER`].
    #[serde(rename = "asked_to_wait")]
    RetryAfter { capped: bool },
    /// The subscriber was failing: the message waits for the next probe.
    #[serde(rename = "spared")]
    WaitsForProbe,
    /// Earlier than the retry schedule says.
    Hastened { by: HastenedBy },
}

/// Cause that makes deliveries due earlier than scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HastenedBy {
    /// The subscriber began to fail; waiting deliveries serve as probes.
    #[serde(rename = "fall")]
    Failing,
    Recovery,
    /// The URL changed.
    #[serde(rename = "move")]
    UrlChanged,
    /// `subscribers resume`.
    Resume,
}

impl DueReason {
    /// Name in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::QueuedAgain => "queued_again",
            Self::Step { .. } => "step",
            Self::LastStep { .. } => "last_step",
            Self::RetryAfter { .. } => "asked_to_wait",
            Self::WaitsForProbe => "spared",
            Self::Hastened { .. } => "hastened",
        }
    }

    /// Stored form.
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("a reason is a plain value")
    }

    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl AfterAttempt {
    /// Time of the next attempt, if there is one.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Retry(plan) => Some(plan.at),
            Self::Delivered | Self::Dead => None,
        }
    }
}

/// Schedule of a pending delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySchedule {
    pub next: Due,
    pub progress: RetryProgress,
    /// End of this message's `Retry-After`.
    pub asked_until: Option<Timestamp>,
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
        Self { next, progress: RetryProgress::default(), asked_until: None }
    }

    /// Makes a delivery due now, or at the end of its `Retry-After`. Replayed messages keep their times. Returns
    /// whether anything changed.
    ///
    /// If this early attempt fails, the delivery waits for its scheduled time ([`decide`]).
    pub fn hasten(&mut self, by: HastenedBy, now: Timestamp) -> bool {
        let at = now.max(self.asked_until.unwrap_or(now));
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
        let longest = |wait: Duration| after(now, wait.mul_f64(1.0 + JITTER));
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
            DueReason::WaitsForProbe => after(now, SLOWEST_PROBE),
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
        self.asked_until = self.asked_until.map(|at| nearer(at).min(after(now, LONGEST_RETRY_AFTER)));
        *self != before
    }

    /// Drops the `Retry-After`; returns whether there was one.
    pub fn overrule_retry_after(&mut self) -> bool {
        self.asked_until.take().is_some()
    }

    /// Drops failures and `Retry-After` of the former receiver; returns whether anything changed.
    pub fn forget_receiver(&mut self) -> bool {
        let before = std::mem::take(&mut self.progress);
        self.overrule_retry_after() | (before != RetryProgress::default())
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

/// Decision after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptDecision {
    pub next: AfterAttempt,
    pub progress: RetryProgress,
    /// End of the `Retry-After` for this message.
    pub asked_until: Option<Timestamp>,
    /// End of the `Retry-After` for the whole subscriber (429 or 503).
    pub hold_until: Option<Timestamp>,
}

/// Maximum `Retry-After` that is honoured (contract 7.4).
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Maximum wait between two probes of a failing subscriber (contract 7.6).
pub const SLOWEST_PROBE: Duration = Duration::from_secs(300);

/// Maximum jitter of a scheduled wait, as a share of it.
pub const JITTER: f64 = 0.10;

/// Decides about the delivery after an attempt that ended at `now`. `progress`: before the attempt. `schedule`: the
/// subscriber's `retry`. `last_success_at`: when the subscriber last accepted any message. `jitter`: -1 to 1.
///
/// A message is dead when its schedule is used up and the subscriber has accepted others since the first counted
/// failure (contract 7.5). A failed early attempt leaves the schedule as it is, so an unstable subscriber neither
/// shortens nor prolongs it.
pub fn decide(
    progress: RetryProgress,
    attempt: &Attempt,
    schedule: &[Duration],
    last_success_at: Option<Timestamp>,
    now: Timestamp,
    jitter: f64,
) -> AttemptDecision {
    let (asked_until, hold_until) = retry_after_ends(attempt, now);
    let settled = |next, progress| AttemptDecision { next, progress, asked_until, hold_until };
    if attempt.outcome.is_accepted() {
        return settled(AfterAttempt::Delivered, RetryProgress { planned_at: None, ..progress });
    }
    if let Some(plan) = progress.planned_at.filter(|plan| *plan > now) {
        let reason = step(progress.failures, schedule).1;
        return settled(AfterAttempt::Retry(later_of(plan, reason, attempt, asked_until)), progress);
    }
    let after_failing = progress.failed(now);
    let (wait, reason) = step(after_failing.failures, schedule);
    if matches!(reason, DueReason::LastStep { .. }) && after_failing.is_proven_bad(last_success_at) {
        return settled(AfterAttempt::Dead, after_failing);
    }
    let plan = whole_ms_after(now, wait.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)));
    let next = AfterAttempt::Retry(later_of(plan, reason, attempt, asked_until));
    settled(next, RetryProgress { planned_at: Some(plan), ..after_failing })
}

/// Returns the wait after failure `number` (from 1) and its reason.
fn step(number: u32, schedule: &[Duration]) -> (Duration, DueReason) {
    let millis = |wait: Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    match schedule.get(number.saturating_sub(1) as usize) {
        Some(wait) => {
            let of = u32::try_from(schedule.len()).unwrap_or(u32::MAX);
            (*wait, DueReason::Step { number, of, wait_ms: millis(*wait) })
        }
        None => {
            let wait = schedule.last().copied().unwrap_or(LONGEST_RETRY_AFTER);
            (wait, DueReason::LastStep { wait_ms: millis(wait) })
        }
    }
}

/// Returns the later of the planned time and the end of `Retry-After`.
fn later_of(plan: Timestamp, reason: DueReason, attempt: &Attempt, asked_until: Option<Timestamp>) -> Due {
    match asked_until.filter(|until| *until > plan) {
        Some(at) => Due { at, reason: retry_after_reason(attempt) },
        None => Due { at: plan, reason },
    }
}

fn retry_after_reason(attempt: &Attempt) -> DueReason {
    DueReason::RetryAfter { capped: attempt.retry_after.is_some_and(|wait| wait > LONGEST_RETRY_AFTER) }
}

/// Decides after the attempt of a ping, which is sent only once (contract 6.1).
pub fn decide_ping(attempt: &Attempt) -> AttemptDecision {
    let next = if attempt.outcome.is_accepted() { AfterAttempt::Delivered } else { AfterAttempt::Dead };
    AttemptDecision { next, progress: RetryProgress::default(), asked_until: None, hold_until: None }
}

/// Decides after a failed attempt that does not count for the message. The message waits for the next probe, at
/// `probe_at`, so that others are tried before it.
pub fn defer_to_probe(
    progress: RetryProgress,
    attempt: &Attempt,
    probe_at: Option<Timestamp>,
    now: Timestamp,
) -> AttemptDecision {
    let (asked_until, hold_until) = retry_after_ends(attempt, now);
    let plan = later_of(probe_at.unwrap_or(now), DueReason::WaitsForProbe, attempt, asked_until);
    AttemptDecision { next: AfterAttempt::Retry(plan), progress, asked_until, hold_until }
}

/// Returns the ends of `Retry-After` for this message and for the whole subscriber.
fn retry_after_ends(attempt: &Attempt, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let wait = attempt.retry_after.filter(|_| !attempt.outcome.is_accepted());
    let until = wait.map(|wait| whole_ms_after(now, wait.min(LONGEST_RETRY_AFTER)));
    (until, until.filter(|_| matches!(attempt.outcome.status(), Some(429 | 503))))
}

/// Returns the end of a wait in whole milliseconds, as stored, rounded up.
fn whole_ms_after(now: Timestamp, wait: Duration) -> Timestamp {
    let ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    later(now, SignedDuration::from_millis(ms))
}

#[cfg(test)]
mod tests;
