//! What became of an attempt, and what is next for its delivery.
//!
//! Pure: the schedule, `Retry-After` and the end of a message that fails. What a subscriber that fails as a whole is
//! due is decided in [`crate::domain::delivery::health`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::time::{after, earlier, later};

/// How one attempt ended. Anything but [`Outcome::Accepted`] is a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx.
    Accepted { status: u16 },
    /// Any other status; redirects too, they are not followed.
    Refused { status: u16 },
    /// The host has no address.
    NameUnknown,
    /// An address we don't send to, or a URL we can't.
    AddressRefused,
    /// Nobody listens.
    ConnectionRefused,
    /// No TLS was agreed on, or the certificate doesn't hold.
    Tls,
    /// The time limit ran out: before there was a connection, or after.
    TimedOut { connected: bool },
    /// The connection broke.
    Reset,
    /// An answer came that is not HTTP as we read it, without a status.
    Unreadable,
    /// The message can't be put into the subscriber's form: our fault, and no receiver was asked.
    Unsendable,
    /// This machine had no descriptor, memory, port or name server for it. It is not recorded: the attempt is made again
    /// a little later, and says nothing about the message or the subscriber.
    OurFault,
}

impl Outcome {
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// The word under which it is recorded.
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

    /// As people are shown it: the word, and the status if there is one.
    pub fn shown(&self) -> String {
        match self.status() {
            Some(status) => format!("{} {status}", self.as_str()),
            None => self.as_str().to_owned(),
        }
    }
}

/// One attempt, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub started_at: Timestamp,
    pub duration: Duration,
    pub outcome: Outcome,
    /// What went wrong, in words.
    pub detail: Option<String>,
    /// The first KiB of the answer.
    pub answer: Option<String>,
    pub retry_after: Option<Duration>,
}

/// What is next for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    Delivered,
    Again(Plan),
    /// Kept, counted, shown, replayable; the label goes on.
    Dead,
}

/// When a delivery is attempted next, and why then. Decided once, stored, and read by everything that tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub at: Timestamp,
    pub reason: DueReason,
}

/// Why a delivery is attempted when it is. What holds the whole subscriber is said by its health, not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueReason {
    /// Never attempted.
    First,
    /// Queued again by `deliveries retry` or a replay, and not attempted since.
    QueuedAgain,
    /// The wait after failure `number` of the `of` that the retry schedule has.
    Step { number: u32, of: u32, wait_ms: u64 },
    /// The schedule is used up, but no other message got through either: the last wait repeats.
    LastStep { wait_ms: u64 },
    /// The receiver asked by `Retry-After` that this message wait; `capped`: for longer than we do.
    AskedToWait { capped: bool },
    /// The subscriber was failing as a whole: the message waits for the next probe.
    Spared,
    /// Sooner than the retry schedule has it.
    Hastened { by: HastenedBy },
}

/// What makes the deliveries of a subscriber due before their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HastenedBy {
    /// It began to fail: its probes are made with what waits.
    Fall,
    Recovery,
    /// Its URL is another.
    Move,
    /// `subscribers resume`.
    Resume,
}

impl DueReason {
    /// One word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::QueuedAgain => "queued_again",
            Self::Step { .. } => "step",
            Self::LastStep { .. } => "last_step",
            Self::AskedToWait { .. } => "asked_to_wait",
            Self::Spared => "spared",
            Self::Hastened { .. } => "hastened",
        }
    }

    /// As it is stored.
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("a reason is a plain value")
    }

    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl NextStep {
    /// When the delivery is attempted again, if it is.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Again(plan) => Some(plan.at),
            Self::Delivered | Self::Dead => None,
        }
    }
}

/// When a pending delivery is attempted, and what that depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverySchedule {
    pub next: Plan,
    pub progress: RetryProgress,
    /// The end of this message's own `Retry-After`.
    pub asked_until: Option<Timestamp>,
}

impl DeliverySchedule {
    /// The schedule of a new delivery.
    pub fn first(now: Timestamp) -> Self {
        Self::begin(Plan { at: now, reason: DueReason::First })
    }

    /// The schedule of a message that is sent again at `at`: the retry schedule begins anew.
    pub fn queued_again(at: Timestamp) -> Self {
        Self::begin(Plan { at, reason: DueReason::QueuedAgain })
    }

    fn begin(next: Plan) -> Self {
        Self { next, progress: RetryProgress::default(), asked_until: None }
    }

    /// Makes a delivery due that waits for a time of our own; one that the receiver asked to leave alone, when it said.
    /// What is sent again keeps its pace. Returns whether anything changed.
    ///
    /// It is tried before its time: should it fail, it waits for that ([`settle`]).
    pub fn hasten(&mut self, by: HastenedBy, now: Timestamp) -> bool {
        let at = now.max(self.asked_until.unwrap_or(now));
        if self.next.at <= at || self.next.reason == DueReason::QueuedAgain {
            return false;
        }
        let reason = match self.next.reason {
            DueReason::AskedToWait { capped } => DueReason::AskedToWait { capped },
            _ if at > now => DueReason::AskedToWait { capped: false },
            _ => DueReason::Hastened { by },
        };
        self.next = Plan { at, reason };
        true
    }

    /// Has nothing wait longer from `now` than it was planned to: the clock may have been ahead when it was planned.
    /// `by`: it was set back by so much just now. Returns whether anything changed.
    pub fn pull_in(&mut self, by: Option<SignedDuration>, now: Timestamp) -> bool {
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
            DueReason::Spared => after(now, SLOWEST_PROBE),
            DueReason::AskedToWait { .. } => nearer(self.next.at).min(after(now, LONGEST_RETRY_AFTER)),
            // A replay is spread over as long as it takes.
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

    /// Forgets what the receiver asked for; returns whether anything changed.
    pub fn overrule_retry_after(&mut self) -> bool {
        self.asked_until.take().is_some()
    }

    /// Another receiver has neither refused anything nor asked for anything; returns whether anything changed.
    pub fn forget_receiver(&mut self) -> bool {
        let before = std::mem::take(&mut self.progress);
        self.overrule_retry_after() | (before != RetryProgress::default())
    }
}

/// How far a delivery has come on its retry schedule. It begins anew when the message is queued again. What a subscriber
/// that fails as a whole does not take is no step of it, nor is what is tried before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryProgress {
    /// Failures that count.
    pub failures: u32,
    /// When the first of them was; set exactly if there are any.
    pub since: Option<Timestamp>,
    /// When the schedule has the next attempt made; `None` unless it is tried again.
    pub planned_at: Option<Timestamp>,
}

impl RetryProgress {
    /// One more failure, at `now`.
    #[must_use]
    pub fn failed(self, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, since: self.since.or(Some(now)), planned_at: None }
    }

    /// Whether the subscriber accepted others since this was first refused: then it is the message that is bad.
    pub fn is_proven_bad(self, last_success_at: Option<Timestamp>) -> bool {
        self.since.is_some() && last_success_at >= self.since
    }
}

/// What an attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub next: NextStep,
    pub progress: RetryProgress,
    /// The answer asked that this message be left alone until then.
    pub asked_until: Option<Timestamp>,
    /// The whole subscriber asked to be left alone until then (429 or 503 with `Retry-After`).
    pub hold_until: Option<Timestamp>,
}

/// `Retry-After` is honoured exactly up to this.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// No two probes of a failing subscriber are further apart.
pub const SLOWEST_PROBE: Duration = Duration::from_secs(300);

/// How far jitter moves a wait of the schedule, as a share of it.
pub const JITTER: f64 = 0.10;

/// Decides what follows an attempt that ended at `now`. `progress` is the delivery's before it; `schedule` the
/// subscriber's `retry`; `last_success_at` tells when it last accepted anything; `jitter` is -1 to 1.
///
/// A message is dead when its schedule is used up and the subscriber accepted others meanwhile: since the first failure
/// that counts, for what it took before says nothing of now. What is tried before its time and fails waits for that, as
/// if it had not been tried: a subscriber that comes and goes neither wears a schedule out nor prolongs it.
pub fn settle(
    progress: RetryProgress,
    attempt: &Attempt,
    schedule: &[Duration],
    last_success_at: Option<Timestamp>,
    now: Timestamp,
    jitter: f64,
) -> Settlement {
    let (asked_until, hold_until) = asked(attempt, now);
    let settled = |next, progress| Settlement { next, progress, asked_until, hold_until };
    if attempt.outcome.is_accepted() {
        return settled(NextStep::Delivered, RetryProgress { planned_at: None, ..progress });
    }
    if let Some(plan) = progress.planned_at.filter(|plan| *plan > now) {
        let reason = step(progress.failures, schedule).1;
        return settled(NextStep::Again(later_of(plan, reason, attempt, asked_until)), progress);
    }
    let after_failing = progress.failed(now);
    let (wait, reason) = step(after_failing.failures, schedule);
    if matches!(reason, DueReason::LastStep { .. }) && after_failing.is_proven_bad(last_success_at) {
        return settled(NextStep::Dead, after_failing);
    }
    let plan = whole_ms_after(now, wait.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)));
    let next = NextStep::Again(later_of(plan, reason, attempt, asked_until));
    settled(next, RetryProgress { planned_at: Some(plan), ..after_failing })
}

/// The wait that follows failure `number` (1, 2 …).
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

/// Our own plan, or what the answer asked for if that is later.
fn later_of(plan: Timestamp, reason: DueReason, attempt: &Attempt, asked_until: Option<Timestamp>) -> Plan {
    match asked_until.filter(|asked| *asked > plan) {
        Some(at) => Plan { at, reason: asked_to_wait(attempt) },
        None => Plan { at: plan, reason },
    }
}

fn asked_to_wait(attempt: &Attempt) -> DueReason {
    DueReason::AskedToWait { capped: attempt.retry_after.is_some_and(|asked| asked > LONGEST_RETRY_AFTER) }
}

/// Decides what follows the one attempt of a ping: it is sent once (contract 6.1).
pub fn settle_ping(attempt: &Attempt) -> Settlement {
    let next = if attempt.outcome.is_accepted() { NextStep::Delivered } else { NextStep::Dead };
    Settlement { next, progress: RetryProgress::default(), asked_until: None, hold_until: None }
}

/// Decides what follows an attempt that the subscriber as a whole did not take: it is no step of the schedule, and the
/// message waits for the next probe at `probe_at`. What was just tried lets the others be tried before it.
pub fn spare(
    progress: RetryProgress,
    attempt: &Attempt,
    probe_at: Option<Timestamp>,
    now: Timestamp,
) -> Settlement {
    let (asked_until, hold_until) = asked(attempt, now);
    let plan = later_of(probe_at.unwrap_or(now), DueReason::Spared, attempt, asked_until);
    Settlement { next: NextStep::Again(plan), progress, asked_until, hold_until }
}

/// Until when the answer asked that this message be left alone, and the whole subscriber.
fn asked(attempt: &Attempt, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let asked = attempt.retry_after.filter(|_| !attempt.outcome.is_accepted());
    let until = asked.map(|wait| whole_ms_after(now, wait.min(LONGEST_RETRY_AFTER)));
    (until, until.filter(|_| matches!(attempt.outcome.status(), Some(429 | 503))))
}

/// The end of a wait that begins now, in whole milliseconds, as they are stored; up, so that nothing comes before its
/// time.
fn whole_ms_after(now: Timestamp, wait: Duration) -> Timestamp {
    let ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    later(now, SignedDuration::from_millis(ms))
}

#[cfg(test)]
mod tests;
