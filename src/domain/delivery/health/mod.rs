//! How a subscriber fares as a whole, and what each outcome does to that (contract 7.6).
//!
//! A receiver that is down, moved or gone is the subscriber's matter and not any message's: it is asked by one probe at
//! a time, no message's schedule is used up by that, and nothing goes dead. At the first success it is well again, and
//! its backlog drains at a rising pace.
//!
//! Messages that a receiver will never take do not make it fail: it takes failures in a row over several, and those of a
//! message since whose first failure others were accepted do not count. Which delivery is attempted next is not decided
//! here.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::delivery::outcome as delivery;
use crate::domain::delivery::outcome::{
    Attempt, LONGEST_RETRY_AFTER, Outcome, RetryProgress, SLOWEST_PROBE, Settlement,
};
use crate::domain::time::{after, later};

/// Where a subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Ok,
    Failing,
    Paused,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Ok, Self::Failing, Self::Paused];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Paused => "paused",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Why it is not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Name, refused, TLS, connect time-out.
    NoConnection,
    /// Too many in a row, over several messages.
    Failures,
    /// It says 410, and said so before.
    Gone,
    /// Somebody paused it.
    Asked,
}

impl Reason {
    pub const ALL: [Self; 4] = [Self::NoConnection, Self::Failures, Self::Gone, Self::Asked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Failures => "failures",
            Self::Gone => "gone",
            Self::Asked => "asked",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// How a subscriber fares, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    pub state: State,
    /// Since when it is in this state; `None`: it was never in another.
    pub since: Option<Timestamp>,
    /// Set exactly while it is not well.
    pub reason: Option<Reason>,
    pub detail: Option<String>,
    /// When it began to fail, as was told; it goes on through a pause.
    pub episode_at: Option<Timestamp>,
    /// Probes that failed since.
    pub probes: u32,
    /// When the next probe is due; set exactly while it is failing.
    pub probe_at: Option<Timestamp>,
    /// Failures in a row, but for those of messages that are known to be bad.
    pub failures: u32,
    /// The one delivery that all of them are of; `None` if there is none, or several.
    pub failures_of: Option<i64>,
    /// The first 410 of those with no other answer between.
    pub gone_at: Option<Timestamp>,
    /// Attempts at once while the backlog drains; `None`: as many as are configured.
    pub pace: Option<u32>,
    /// A changed URL is a changed receiver.
    pub url_digest: Option<String>,
    /// It asked to be left alone until then.
    pub held_until: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    pub last_failure: Option<String>,
}

/// What subscribers are to be told of, and what makes the backlog due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// An episode begins: `system.subscriber.failing`.
    Fell,
    /// In the middle of an episode the receiver says that it is gone for good.
    Paused,
    /// The episode is over: `system.subscriber.recovered`.
    Recovered,
}

/// Whether an attempt may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// So many at once.
    Open { at_once: u32 },
    /// One, and only if no other is under way: of those that were never tried, the longest due or the newest.
    Probe { newest: bool },
    /// None, until then at least; `None`: until somebody says so.
    Shut { until: Option<Timestamp> },
}

/// An attempt that has ended, and what it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    pub delivery: i64,
    /// The delivery's, before this attempt.
    pub progress: RetryProgress,
    pub attempt: &'a Attempt,
    /// It was sent as the probe of a failing subscriber.
    pub probe: bool,
    /// The subscriber's `retry`.
    pub schedule: &'a [Duration],
    pub max_in_flight: u32,
    /// -1 to 1.
    pub jitter: f64,
}

/// So many failures in a row, over several messages, are the receiver's and not a message's (contract 7.6).
const FAILURES: u32 = 5;
/// 410 is believed when it is said again after this.
const GONE_FOR: SignedDuration = SignedDuration::from_mins(10);
/// When an attempt is made again that failed by a fault of our own.
const OUR_FAULT_PAUSE: SignedDuration = SignedDuration::from_secs(5);
const FIRST_PROBE: Duration = Duration::from_secs(5);

impl Health {
    /// What may go out at `now`.
    pub fn gate(&self, max_in_flight: u32, now: Timestamp) -> Gate {
        let open_at = self.probe_at.max(self.held_until).filter(|at| *at > now);
        match (self.state, open_at) {
            (State::Paused, _) => Gate::Shut { until: None },
            (_, Some(until)) => Gate::Shut { until: Some(until) },
            // By turns: what is bad may stand at either end, and no number of it keeps the good from being asked with.
            (State::Failing, None) => Gate::Probe { newest: self.probes % 2 == 1 },
            (State::Ok, None) => {
                Gate::Open { at_once: self.pace.map_or(max_in_flight, |pace| pace.min(max_in_flight)) }
            }
        }
    }

    /// Has nothing wait longer from `now` than it was planned to: the clock may have been ahead when it was planned.
    /// Returns whether anything changed.
    pub fn pull_in(&mut self, now: Timestamp) -> bool {
        let before = (self.probe_at, self.held_until);
        // What was planned after an answer that lies ahead waits from now on as long as it would have from then.
        let ahead = self.ahead_of(now);
        let nearer = |at: Timestamp| ahead.map_or(at, |ahead| later(at, -ahead));
        self.probe_at = self.probe_at.map(|at| nearer(at).min(after(now, probe_wait(self.probes))));
        self.held_until = self.held_until.map(|at| nearer(at).min(after(now, LONGEST_RETRY_AFTER)));
        for at in
            [&mut self.last_failure_at, &mut self.last_success_at, &mut self.gone_at].into_iter().flatten()
        {
            *at = (*at).min(now);
        }
        before != (self.probe_at, self.held_until)
    }

    /// By how much the last failure lies ahead of `now`: the clock was set back since.
    pub fn ahead_of(&self, now: Timestamp) -> Option<SignedDuration> {
        self.last_failure_at.filter(|at| *at > now).map(|at| at.duration_since(now))
    }

    /// Well, with nothing special about it: a success changes nothing that a gate knows.
    pub fn is_as_ever(&self) -> bool {
        self.state == State::Ok && self.pace.is_none()
    }

    /// Takes in an attempt that ended at `now`: what is next for its delivery, and for the subscriber.
    pub fn settle(&mut self, ended: &Ended<'_>, now: Timestamp) -> (Settlement, Option<HealthChange>) {
        let Ended { progress, attempt, .. } = *ended;
        if attempt.outcome == Outcome::OurFault {
            // Nobody was asked: it says nothing of the message, nor of the subscriber.
            return (delivery::spare(progress, attempt, Some(later(now, OUR_FAULT_PAUSE)), now), None);
        }
        let was_well = self.state == State::Ok;
        let last_success_at = self.last_success_at;
        let change = if attempt.outcome.is_accepted() {
            self.succeed(ended.max_in_flight, now)
        } else {
            self.fail(ended, now)
        };
        let well = was_well && self.state == State::Ok;
        // What we can't put into form was shown to nobody: that stays between us and the message.
        let the_messages = well || attempt.outcome.is_accepted() || attempt.outcome == Outcome::Unsendable;
        let settlement = if the_messages {
            let last_success_at = last_success_at.filter(|_| well);
            delivery::settle(progress, attempt, ended.schedule, last_success_at, now, ended.jitter)
        } else {
            delivery::spare(progress, attempt, self.probe_at, now)
        };
        self.held_until = self.held_until.max(settlement.hold_until);
        (settlement, change)
    }

    /// Stops all attempts until [`Self::resume`]; whether that is news.
    pub fn pause(&mut self, now: Timestamp) -> bool {
        if self.state == State::Paused {
            // Who asks for it now means it, whatever the URL will be.
            return self.reason.replace(Reason::Asked) != Some(Reason::Asked);
        }
        self.enter(State::Paused, now);
        self.reason = Some(Reason::Asked);
        true
    }

    /// Goes on at once: with a probe if it was failing; whether that is news.
    pub fn resume(&mut self, now: Timestamp) -> bool {
        if self.state != State::Paused {
            return false;
        }
        self.gone_at = None;
        if self.episode_at.is_some() {
            self.enter(State::Failing, now);
            self.probe_at = Some(now);
            self.reason = self.reason.filter(|reason| *reason != Reason::Asked).or(Some(Reason::Failures));
        } else {
            self.enter(State::Ok, now);
            self.pace = Some(1);
        }
        true
    }

    /// Has a failing subscriber probed at `now`.
    pub fn hasten(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|at| at.min(now));
    }

    /// Learns where callbacks go from now on; whether that is another receiver than before. That one has not failed
    /// yet, nor asked for anything: it is asked at once, at a rising pace.
    pub fn meet(&mut self, url_digest: &str, now: Timestamp) -> bool {
        let before = self.url_digest.replace(url_digest.to_owned());
        if before.is_none() || before == self.url_digest {
            return false;
        }
        self.pace = Some(1);
        self.held_until = None;
        self.gone_at = None;
        self.failures = 0;
        self.failures_of = None;
        if self.reason == Some(Reason::Gone) {
            self.resume(now);
        }
        if self.state == State::Failing {
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
            State::Failing => {
                self.enter(State::Ok, now);
                self.pace = Some(1);
                Some(HealthChange::Recovered)
            }
            State::Ok => {
                self.pace = self.pace.map(|pace| pace.saturating_add(1)).filter(|pace| *pace < max_in_flight);
                None
            }
            State::Paused => None,
        }
    }

    fn fail(&mut self, ended: &Ended<'_>, now: Timestamp) -> Option<HealthChange> {
        let outcome = &ended.attempt.outcome;
        self.last_failure_at = self.last_failure_at.max(Some(now));
        self.last_failure = Some(outcome.shown());
        if *outcome == Outcome::Unsendable {
            return None;
        }
        self.pace = self.pace.map(|pace| (pace / 2).max(1));
        if !ended.progress.is_proven_bad(self.last_success_at) {
            self.failures_of = match self.failures {
                0 => Some(ended.delivery),
                _ => self.failures_of.filter(|of| *of == ended.delivery),
            };
            self.failures = self.failures.saturating_add(1);
        }
        let gone = self.is_gone(outcome, now);
        if self.state == State::Paused {
            return None;
        }
        let several = self.failures >= FAILURES && self.failures_of.is_none();
        let reason = if gone {
            Reason::Gone
        } else if no_connection(outcome) {
            Reason::NoConnection
        } else if several || self.state == State::Failing {
            Reason::Failures
        } else {
            return None;
        };
        let told = self.episode_at.is_some();
        if gone || self.state == State::Ok {
            self.enter(if gone { State::Paused } else { State::Failing }, now);
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
        match (told, self.state) {
            (false, _) => Some(HealthChange::Fell),
            (true, State::Paused) => Some(HealthChange::Paused),
            (true, _) => None,
        }
    }

    /// Whether 410 was said and is said again after a while, with no other answer between.
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
            // Who can't be reached has not taken it back.
            None => false,
        }
    }

    /// Enters a state with nothing of the last one, but for the episode, which ends when all is well. Two states never
    /// begin at the same instant: episodes are named by theirs.
    fn enter(&mut self, state: State, now: Timestamp) {
        let next = self.since.and_then(|since| since.checked_add(SignedDuration::from_millis(1)).ok());
        self.state = state;
        self.since = next.max(Some(now));
        self.probes = 0;
        self.probe_at = None;
        if state == State::Ok {
            (self.reason, self.detail, self.episode_at) = (None, None, None);
        }
    }
}

/// The receiver was not even reached: that is about no message.
fn no_connection(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::NameUnknown
            | Outcome::AddressRefused
            | Outcome::ConnectionRefused
            | Outcome::Tls
            | Outcome::TimedOut { connected: false }
    )
}

/// 5 s to 5 m, doubling: how long after the fall, or after a failed probe, the next one is due.
fn probe_wait(probes: u32) -> Duration {
    FIRST_PROBE.saturating_mul(1 << probes.min(16)).min(SLOWEST_PROBE)
}

#[cfg(test)]
mod tests;
