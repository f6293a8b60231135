//! Outcome of an attempt, and the decision about its delivery.
//!
//! Pure: retry schedule, `Retry-After` and dead messages (contract 7.4, 7.5). [`crate::domain::delivery::health`]
//! decides about a failing subscriber.

mod schedule;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::delivery::attempt::Stage;
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::domain::time::{millis, whole_ms_after};

pub use schedule::{DeliverySchedule, RetryProgress};

/// Outcome of one attempt. All but [`Outcome::Accepted`] are failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx.
    Accepted { status: u16 },
    /// Any other status, including redirects, which are not followed.
    ErrorStatus { status: u16 },
    /// The host has no address.
    NameUnknown,
    /// Address refused by policy, or unusable URL.
    AddressRefused,
    /// Connection refused.
    ConnectionRefused,
    /// TLS handshake failed, or the certificate is not valid.
    Tls,
    /// Time limit reached in this stage.
    TimedOut { stage: Stage },
    /// Connection broken.
    Reset,
    /// The answer is not HTTP, so it has no status.
    Unreadable,
    /// The message cannot be rendered in the subscriber's format: a bug of trackpost. Nothing was sent.
    Unsendable,
    /// This machine lacked a descriptor, memory, a port or a name server. The attempt is not recorded and does not
    /// count for message or subscriber; it is repeated soon.
    Shortage,
}

impl Outcome {
    /// Every outcome, with a status where it has one.
    pub const ALL: [Self; 14] = [
        Self::Accepted { status: 200 },
        Self::ErrorStatus { status: 500 },
        Self::NameUnknown,
        Self::AddressRefused,
        Self::ConnectionRefused,
        Self::Tls,
        Self::TimedOut { stage: Stage::Resolving },
        Self::TimedOut { stage: Stage::Connecting },
        Self::TimedOut { stage: Stage::Handshaking },
        Self::TimedOut { stage: Stage::Waiting },
        Self::Reset,
        Self::Unreadable,
        Self::Unsendable,
        Self::Shortage,
    ];

    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// Name in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::ErrorStatus { .. } => "status",
            Self::NameUnknown => "name",
            Self::AddressRefused => "address",
            Self::ConnectionRefused => "refused",
            Self::Tls => "tls",
            Self::TimedOut { stage: Stage::Resolving } => "name_timeout",
            Self::TimedOut { stage: Stage::Connecting } => "connect_timeout",
            Self::TimedOut { stage: Stage::Handshaking } => "tls_timeout",
            Self::TimedOut { stage: Stage::Waiting } => "timeout",
            Self::Reset => "reset",
            Self::Unreadable => "unreadable",
            Self::Unsendable => "unsendable",
            Self::Shortage => "shortage",
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted { status } | Self::ErrorStatus { status } => Some(*status),
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

/// Reason for the time of a delivery's next attempt. Waits of the whole subscriber are in its health.
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
    RetryAfter { capped: bool },
    /// The subscriber was failing: the message waits for the next probe.
    WaitsForProbe,
    /// Earlier than the retry schedule says.
    Hastened { by: HastenedBy },
}

/// Cause that makes deliveries due earlier than scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HastenedBy {
    /// The subscriber began to fail; waiting deliveries serve as probes.
    Failing,
    Recovery,
    /// The URL changed.
    UrlChanged,
    /// `subscribers resume`.
    Resume,
}

/// The outcome of an attempt in words. `recorded`: its name, with the status after it where there is one.
pub fn outcome_in_words(recorded: &str) -> String {
    let words = match recorded {
        "status" => "HTTP error status",
        "name" => "name not found",
        "address" => "address not allowed",
        "refused" => "connection refused",
        "tls" => "TLS failed",
        "name_timeout" => "name lookup timed out",
        "connect_timeout" => "connect timed out",
        "tls_timeout" => "TLS handshake timed out",
        "timeout" => "timed out",
        "reset" => "connection reset",
        "unreadable" => "not HTTP",
        "unsendable" => "cannot be sent in this format",
        "shortage" => "this machine lacks a resource",
        other => match other.strip_prefix("status ") {
            Some(code) => return format!("HTTP {code}"),
            None => other,
        },
    };
    words.to_owned()
}

impl DueReason {
    /// Name in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::QueuedAgain => "queued_again",
            Self::Step { .. } => "step",
            Self::LastStep { .. } => "last_step",
            Self::RetryAfter { .. } => "retry_after",
            Self::WaitsForProbe => "waits_for_probe",
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
    /// Time of the next attempt and its reason, if there is one.
    pub fn due(self) -> Option<Due> {
        match self {
            Self::Retry(due) => Some(due),
            Self::Delivered | Self::Dead => None,
        }
    }
}

/// Decision after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptDecision {
    pub next: AfterAttempt,
    pub progress: RetryProgress,
    /// End of the `Retry-After` for this message.
    pub retry_after_until: Option<Timestamp>,
    /// End of the `Retry-After` for the whole subscriber (429 or 503).
    pub hold_until: Option<Timestamp>,
}

/// Maximum wait between two probes of a failing subscriber (contract 7.6).
pub const SLOWEST_PROBE: Duration = Duration::from_secs(300);

/// Maximum jitter of a scheduled wait, as a fraction of it.
pub const RETRY_JITTER: f64 = 0.10;

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
    let (retry_after_until, hold_until) = retry_after_ends(attempt, now);
    let decision = |next, progress| AttemptDecision { next, progress, retry_after_until, hold_until };
    if attempt.outcome.is_accepted() {
        return decision(AfterAttempt::Delivered, RetryProgress { planned_at: None, ..progress });
    }
    if let Some(plan) = progress.planned_at.filter(|plan| *plan > now) {
        let reason = step(progress.failures, schedule).1;
        return decision(AfterAttempt::Retry(later_of(plan, reason, attempt, retry_after_until)), progress);
    }
    let after_failing = progress.failed(now);
    let (wait, reason) = step(after_failing.failures, schedule);
    if matches!(reason, DueReason::LastStep { .. }) && after_failing.is_proven_bad(last_success_at) {
        return decision(AfterAttempt::Dead, after_failing);
    }
    let plan = whole_ms_after(now, wait.mul_f64(1.0 + RETRY_JITTER * jitter.clamp(-1.0, 1.0)));
    let next = AfterAttempt::Retry(later_of(plan, reason, attempt, retry_after_until));
    decision(next, RetryProgress { planned_at: Some(plan), ..after_failing })
}

/// Returns the wait after failure `number` (from 1) and its reason.
fn step(number: u32, schedule: &[Duration]) -> (Duration, DueReason) {
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
fn later_of(
    plan: Timestamp,
    reason: DueReason,
    attempt: &Attempt,
    retry_after_until: Option<Timestamp>,
) -> Due {
    match retry_after_until.filter(|until| *until > plan) {
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
    AttemptDecision { next, progress: RetryProgress::default(), retry_after_until: None, hold_until: None }
}

/// Decides after a failed attempt that does not count for the message. The message waits for the next probe, at
/// `probe_at`, so that others are tried before it.
pub fn defer_to_probe(
    progress: RetryProgress,
    attempt: &Attempt,
    probe_at: Option<Timestamp>,
    now: Timestamp,
) -> AttemptDecision {
    let (retry_after_until, hold_until) = retry_after_ends(attempt, now);
    let plan = later_of(probe_at.unwrap_or(now), DueReason::WaitsForProbe, attempt, retry_after_until);
    AttemptDecision { next: AfterAttempt::Retry(plan), progress, retry_after_until, hold_until }
}

/// Returns the ends of `Retry-After` for this message and for the whole subscriber.
fn retry_after_ends(attempt: &Attempt, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let wait = attempt.retry_after.filter(|_| !attempt.outcome.is_accepted());
    let until = wait.map(|wait| whole_ms_after(now, wait.min(LONGEST_RETRY_AFTER)));
    (until, until.filter(|_| attempt.outcome.status().is_some_and(holds_subscriber)))
}

/// Whether a `Retry-After` with this status holds all messages of the subscriber.
pub fn holds_subscriber(status: u16) -> bool {
    matches!(status, 429 | 503)
}

#[cfg(test)]
mod tests;
