//! Health of a subscriber and the effect of each attempt on it: a circuit breaker (contract 7.6).
//!
//! If a receiver is down, moved or gone, the cause is the subscriber and not a message. Then one probe is sent at a
//! time, no message's schedule is used up and no message becomes dead. At the first success the subscriber is ok again
//! and its backlog drains at a rising pace.
//!
//! Messages that a receiver never accepts do not make the subscriber fail. Only failures in a row over several messages
//! do. Failures of a message do not count if the subscriber accepted other messages since its first failure.

mod change;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::delivery::attempt::Stage;
use crate::domain::delivery::outcome::{
    self, Attempt, AttemptDecision, Outcome, RetryProgress, SLOWEST_PROBE,
};
use crate::domain::named_enum::named_enum;
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::domain::time::{after, later};

pub use change::HealthChange;

named_enum! {
    /// State of a subscriber.
    #[derive(Default)]
    pub enum HealthState {
        #[default]
        Ok = "ok",
        Failing = "failing",
        Paused = "paused",
    }
}

named_enum! {
    /// Reason for a state other than ok.
    pub enum HealthReason {
        /// No connection: unknown name, refused address or connection, TLS, connect time-out.
        NoConnection = "no_connection",
        /// Too many failures in a row, over several messages.
        Failures = "failures",
        /// 410 twice, ten minutes apart.
        Gone = "gone",
        /// Paused by hand.
        ByHand = "by_hand",
    }
}

/// Health of a subscriber, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    pub state: HealthState,
    /// Start of this state; `None` if there was no other.
    pub since: Option<Timestamp>,
    /// Reason for the state; `None` exactly while the state is ok.
    pub reason: Option<HealthReason>,
    pub detail: Option<String>,
    /// Start of the failing episode, as announced. A pause does not end the episode.
    pub episode_at: Option<Timestamp>,
    /// Failed probes in this state.
    pub probes: u32,
    /// Due time of the next probe; set exactly while failing.
    pub probe_at: Option<Timestamp>,
    /// Failures in a row, except failures caused by the message ([`RetryProgress::is_proven_bad`]).
    pub failures: u32,
    /// The delivery of all these failures; `None` if there are none, or several deliveries.
    pub failures_of: Option<i64>,
    /// Time of the first 410 in a row.
    pub gone_at: Option<Timestamp>,
    /// Concurrent attempts while the backlog drains; `None`: as many as configured.
    pub slow_start_limit: Option<u32>,
    /// Digest of the URL. Another URL is another receiver.
    pub url_digest: Option<String>,
    /// End of the `Retry-After` for all deliveries.
    pub held_until: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    pub last_failure: Option<String>,
}

/// Attempts that are allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// At most `at_once` concurrent attempts.
    Attempts { at_once: u32 },
    /// One attempt, if none is in flight: of the deliveries not yet attempted, the newest or the one due longest.
    Probe { newest: bool },
    /// No attempt before `until`; `None`: until the subscriber is resumed.
    Nothing { until: Option<Timestamp> },
}

/// A finished attempt with the facts that decide about it.
#[derive(Clone, Copy, Debug)]
pub struct AttemptFacts<'a> {
    pub delivery: i64,
    /// Progress of the delivery before this attempt.
    pub progress: RetryProgress,
    pub attempt: &'a Attempt,
    pub probe: bool,
    pub schedule: &'a [Duration],
    pub max_in_flight: u32,
    /// -1 to 1.
    pub jitter: f64,
}

/// Failures in a row over several messages that make a subscriber failing (contract 7.6).
const MAX_FAILURES: u32 = 5;
/// Time between two 410 that pause the subscriber (contract 7.6).
const GONE_FOR: SignedDuration = SignedDuration::from_mins(10);
const FIRST_PROBE: Duration = Duration::from_secs(5);

impl Health {
    pub fn allowed(&self, max_in_flight: u32, now: Timestamp) -> Allowed {
        let open_at = self.probe_at.max(self.held_until).filter(|at| *at > now);
        match (self.state, open_at) {
            (HealthState::Paused, _) => Allowed::Nothing { until: None },
            (_, Some(until)) => Allowed::Nothing { until: Some(until) },
            // Probes alternate between both ends, so that bad messages at one end do not block all probes.
            (HealthState::Failing, None) => Allowed::Probe { newest: self.probes % 2 == 1 },
            (HealthState::Ok, None) => Allowed::Attempts {
                at_once: self.slow_start_limit.map_or(max_in_flight, |limit| limit.min(max_in_flight)),
            },
        }
    }

    /// Limits all waits from `now` on to their planned lengths, in case the clock was ahead when they were planned
    /// (contract 9.5). Returns whether anything changed.
    pub fn shorten_waits(&mut self, now: Timestamp) -> bool {
        let before = (self.probe_at, self.held_until);
        // A wait planned after a failure in the future keeps its length.
        let ahead = self.ahead_of(now);
        let nearer = |at: Timestamp| ahead.map_or(at, |ahead| later(at, -ahead));
        self.probe_at = self.probe_at.map(|at| nearer(at).min(after(now, probe_wait(self.probes))));
        self.held_until = self.held_until.map(|at| nearer(at).min(after(now, LONGEST_RETRY_AFTER)));
        self.pull_in_success(now);
        for at in [&mut self.last_failure_at, &mut self.gone_at].into_iter().flatten() {
            *at = (*at).min(now);
        }
        before != (self.probe_at, self.held_until)
    }

    /// If the last success is after `now`, because the clock was set back, moves it to 1 ms before `now`. So it does not
    /// count as later than a failure at `now`.
    fn pull_in_success(&mut self, now: Timestamp) {
        if let Some(at) = self.last_success_at.as_mut().filter(|at| **at > now) {
            *at = later(now, SignedDuration::from_millis(-1));
        }
    }

    /// How far the last failure is in the future, because the clock was set back since.
    pub fn ahead_of(&self, now: Timestamp) -> Option<SignedDuration> {
        self.last_failure_at.filter(|at| *at > now).map(|at| at.duration_since(now))
    }

    /// Records an attempt that ended at `now`; returns the decision about its delivery and the change of health, if
    /// any.
    pub fn record(
        &mut self,
        ended: &AttemptFacts<'_>,
        now: Timestamp,
    ) -> (AttemptDecision, Option<HealthChange>) {
        let AttemptFacts { progress, attempt, .. } = *ended;
        debug_assert!(attempt.outcome != Outcome::Shortage, "the courier repeats it and records nothing");
        self.pull_in_success(now);
        let was_ok = self.state == HealthState::Ok;
        let last_success_at = self.last_success_at;
        let change = if attempt.outcome.is_accepted() {
            self.succeed(ended.max_in_flight, now)
        } else {
            self.fail(ended, now)
        };
        let is_ok = was_ok && self.state == HealthState::Ok;
        // A message that could not be rendered was not sent, so only the message is at fault.
        let counts_for_message =
            is_ok || attempt.outcome.is_accepted() || attempt.outcome == Outcome::Unsendable;
        let decision = if counts_for_message {
            let last_success_at = last_success_at.filter(|_| is_ok);
            outcome::decide(progress, attempt, ended.schedule, last_success_at, now, ended.jitter)
        } else {
            outcome::defer_to_probe(progress, attempt, self.probe_at, now)
        };
        self.held_until = self.held_until.max(decision.hold_until);
        (decision, change)
    }

    /// Stops all attempts until [`Self::resume`]; returns whether anything changed.
    pub fn pause(&mut self, now: Timestamp) -> bool {
        if self.state == HealthState::Paused {
            // A pause by hand holds even if the URL changes.
            return self.reason.replace(HealthReason::ByHand) != Some(HealthReason::ByHand);
        }
        self.enter(HealthState::Paused, now);
        self.reason = Some(HealthReason::ByHand);
        true
    }

    /// Ends a pause, with a probe if the subscriber was failing before; returns whether it was paused.
    pub fn resume(&mut self, now: Timestamp) -> bool {
        if self.state != HealthState::Paused {
            return false;
        }
        self.gone_at = None;
        if self.episode_at.is_some() {
            self.enter(HealthState::Failing, now);
            self.probe_at = Some(now);
            self.reason =
                self.reason.filter(|reason| *reason != HealthReason::ByHand).or(Some(HealthReason::Failures));
        } else {
            self.enter(HealthState::Ok, now);
            self.slow_start_limit = Some(1);
        }
        true
    }

    /// Resumes the subscriber by command: ends a pause, cancels the `Retry-After` and makes the next probe due. Returns
    /// whether it was paused, and the end of the `Retry-After`.
    pub fn resume_by_hand(&mut self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let held = self.held_until.take().filter(|until| *until > now);
        let was_paused = self.resume(now);
        self.probe_at = self.probe_at.map(|at| at.min(now));
        (was_paused, held)
    }

    /// Sets the digest of the URL; returns whether the URL changed. Another URL is another receiver, without failures
    /// and `Retry-After`: it gets the backlog at once, at a rising pace.
    pub fn set_url(&mut self, url_digest: &str, now: Timestamp) -> bool {
        let before = self.url_digest.replace(url_digest.to_owned());
        if before.is_none() || before == self.url_digest {
            return false;
        }
        self.slow_start_limit = Some(1);
        self.held_until = None;
        self.gone_at = None;
        self.failures = 0;
        self.failures_of = None;
        if self.reason == Some(HealthReason::Gone) {
            self.resume(now);
        }
        if self.state == HealthState::Failing {
            self.probes = 0;
            self.probe_at = Some(now);
        }
        true
    }

    fn succeed(&mut self, max_in_flight: u32, now: Timestamp) -> Option<HealthChange> {
        self.last_success_at = self.last_success_at.max(Some(now));
        self.failures = 0;
        self.failures_of = None;
        self.gone_at = None;
        match self.state {
            HealthState::Failing => {
                self.enter(HealthState::Ok, now);
                self.slow_start_limit = Some(1);
                Some(HealthChange::Recovered)
            }
            HealthState::Ok => {
                self.slow_start_limit = self
                    .slow_start_limit
                    .map(|limit| limit.saturating_add(1))
                    .filter(|limit| *limit < max_in_flight);
                None
            }
            HealthState::Paused => None,
        }
    }

    fn fail(&mut self, ended: &AttemptFacts<'_>, now: Timestamp) -> Option<HealthChange> {
        let outcome = &ended.attempt.outcome;
        self.last_failure_at = self.last_failure_at.max(Some(now));
        self.last_failure = Some(outcome.shown());
        if *outcome == Outcome::Unsendable {
            return None;
        }
        self.slow_start_limit = self.slow_start_limit.map(|limit| (limit / 2).max(1));
        if !ended.progress.is_proven_bad(self.last_success_at) {
            self.failures_of = match self.failures {
                0 => Some(ended.delivery),
                _ => self.failures_of.filter(|of| *of == ended.delivery),
            };
            self.failures = self.failures.saturating_add(1);
        }
        let gone = self.is_gone(outcome, now);
        if self.state == HealthState::Paused {
            return None;
        }
        let several = self.failures >= MAX_FAILURES && self.failures_of.is_none();
        let reason = if gone {
            HealthReason::Gone
        } else if no_connection(outcome) {
            HealthReason::NoConnection
        } else if several || self.state == HealthState::Failing {
            HealthReason::Failures
        } else {
            return None;
        };
        let announced = self.episode_at.is_some();
        if gone || self.state == HealthState::Ok {
            self.enter(if gone { HealthState::Paused } else { HealthState::Failing }, now);
            self.episode_at = self.episode_at.or(self.since);
            self.probe_at = if gone { None } else { Some(after(now, probe_wait(0))) };
        } else if ended.probe {
            self.probes = self.probes.saturating_add(1);
            self.probe_at = Some(after(now, probe_wait(self.probes)));
        }
        self.reason = Some(reason);
        self.detail = Some(match &ended.attempt.detail {
            Some(detail) => format!("{}: {detail}", outcome.shown()),
            None => outcome.shown(),
        });
        match (announced, self.state) {
            (false, _) => Some(HealthChange::Failing),
            (true, HealthState::Paused) => Some(HealthChange::Paused),
            (true, _) => None,
        }
    }

    /// Whether the receiver answered 410 twice, [`GONE_FOR`] apart, with no other status between.
    fn is_gone(&mut self, outcome: &Outcome, now: Timestamp) -> bool {
        match outcome.status() {
            Some(410) => {
                let first = *self.gone_at.get_or_insert(now);
                now.duration_since(first) >= GONE_FOR
            }
            Some(_) => {
                self.gone_at = None;
                false
            }
            // An unreachable receiver has not revoked its 410.
            None => false,
        }
    }

    /// Enters a state. Only the episode continues, until the state is ok. No two states begin at the same instant,
    /// because message ids derive from the start of an episode.
    fn enter(&mut self, state: HealthState, now: Timestamp) {
        let next = self.since.and_then(|since| since.checked_add(SignedDuration::from_millis(1)).ok());
        self.state = state;
        self.since = next.max(Some(now));
        self.probes = 0;
        self.probe_at = None;
        if state == HealthState::Ok {
            (self.reason, self.detail, self.episode_at) = (None, None, None);
        }
    }
}

/// Whether the receiver was not reached.
fn no_connection(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::NameUnknown
            | Outcome::AddressRefused
            | Outcome::ConnectionRefused
            | Outcome::Tls
            | Outcome::TimedOut { stage: Stage::Resolving | Stage::Connecting | Stage::Handshaking }
    )
}

/// Wait before the next probe after `probes` failed ones: 5 s, doubling up to 5 m.
fn probe_wait(probes: u32) -> Duration {
    FIRST_PROBE.saturating_mul(1 << probes.min(16)).min(SLOWEST_PROBE)
}

#[cfg(test)]
mod tests;
