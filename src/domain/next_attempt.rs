//! When a delivery is attempted next, and why then: for people who ask.
//!
//! Reads what [`super::delivery`] and [`super::breaker`] have decided and written down, and what they will have the
//! courier do with it. It plans nothing itself: should it ever disagree with them, it is wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::breaker::{self, Health};
use super::delivery::{JITTER, LONGEST_RETRY_AFTER};
use super::span::{after, signed};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Delivered,
    Dead,
}

impl State {
    /// By the word under which it is recorded.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "delivered" => Some(Self::Delivered),
            "dead" => Some(Self::Dead),
            _ => None,
        }
    }
}

/// What the configuration says of the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee<'a> {
    Unknown,
    TurnedOff,
    /// Its `retry`.
    Served {
        schedule: &'a [Duration],
    },
}

/// The last attempt, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastAttempt {
    pub ended_at: Timestamp,
    pub retry_after: Option<Duration>,
}

/// All that bears on a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub state: State,
    pub attempts: u32,
    /// Those of them that failed and count for the schedule.
    pub failures: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub queued_again_at: Option<Timestamp>,
    /// None: there was none, or its record was kept long enough.
    pub last: Option<LastAttempt>,
    /// Whether an earlier message of its label is not delivered yet.
    pub behind_another: bool,
    pub addressee: Addressee<'a>,
    pub health: &'a Health,
}

/// Why then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The receiver has it.
    Delivered,
    /// The schedule was used up while the receiver took others.
    Dead,
    /// No subscriber of this name is configured.
    NoSubscriber,
    /// `enabled = false`.
    TurnedOff,
    /// Somebody paused the subscriber, or it said that it is gone.
    Paused { since: Option<Timestamp>, reason: Option<breaker::Reason> },
    /// An earlier message of its label goes first.
    Behind,
    /// The subscriber fails as a whole: one probe at a time, the next then. What was never attempted comes first, by
    /// turns the longest due and the newest; then what was due longest.
    Probed { at: Option<Timestamp>, since: Option<Timestamp> },
    /// The receiver asked to be left alone as a whole.
    Held { until: Timestamp },
    /// The receiver asked that this message be left alone; `capped`: for longer than we wait.
    AskedToWait { until: Timestamp, capped: bool },
    /// Never attempted.
    First,
    /// Queued again by hand, and not attempted since.
    QueuedAgain { at: Timestamp },
    /// So many failures count; this is the wait after them, of so many waits.
    Step { number: usize, of: usize, wait: Duration },
    /// All waits are used up, but no other message got through either: the last one repeats.
    LastStep { wait: Duration },
    /// Sooner than its schedule has it, as the subscriber's fate has changed.
    Hastened,
    /// At a time that the schedule of today does not explain.
    Planned,
    /// Nothing holds it since then.
    Due { since: Timestamp },
    /// The backlog of a subscriber that is well again: so many at once.
    Draining { at_once: u32 },
}

impl Because {
    /// One word for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::NoSubscriber => "no_subscriber",
            Self::TurnedOff => "turned_off",
            Self::Paused { .. } => "paused",
            Self::Behind => "behind",
            Self::Probed { .. } => "probed",
            Self::Held { .. } => "held",
            Self::AskedToWait { .. } => "asked_to_wait",
            Self::First => "first",
            Self::QueuedAgain { .. } => "queued_again",
            Self::Step { .. } => "step",
            Self::LastStep { .. } => "last_step",
            Self::Hastened => "hastened",
            Self::Planned => "planned",
            Self::Due { .. } => "due",
            Self::Draining { .. } => "draining",
        }
    }
}

/// When, and why then; the most binding reason first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// At the earliest; `None`: never, or nobody knows.
    pub at: Option<Timestamp>,
    pub because: Vec<Because>,
}

/// What is kept and what is measured differ by no more.
const SLACK: SignedDuration = SignedDuration::from_secs(1);

/// The outlook of a delivery at `now`.
pub fn outlook(case: &Case<'_>, now: Timestamp) -> Outlook {
    let never = |because| Outlook { at: None, because: vec![because] };
    match (case.state, case.addressee) {
        (State::Delivered, _) => return never(Because::Delivered),
        (State::Dead, _) => return never(Because::Dead),
        (State::Pending, Addressee::Unknown) => return never(Because::NoSubscriber),
        (State::Pending, Addressee::TurnedOff) => return never(Because::TurnedOff),
        (State::Pending, Addressee::Served { .. }) => {}
    }
    let mut gates = gates(case.health, now);
    if case.behind_another || case.health.state == breaker::State::Paused {
        let behind = case.behind_another.then_some(Because::Behind);
        return Outlook { at: None, because: gates.into_iter().map(|(_, why)| why).chain(behind).collect() };
    }
    let own = case.next_attempt_at.unwrap_or(now);
    gates.extend(own_reason(case, own).map(|why| (own, why)));
    // The one that binds longest is the one that counts; the others are told as far as they hold at all.
    gates.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let at = gates.first().map_or(own, |(at, _)| own.max(*at));
    let mut because: Vec<Because> = gates.into_iter().map(|(_, why)| why).collect();
    if at <= now {
        because.insert(0, Because::Due { since: at });
    }
    because.extend(case.health.pace.map(|at_once| Because::Draining { at_once }));
    Outlook { at: Some(at), because }
}

/// What holds all of the subscriber's deliveries, with the time until which it does.
fn gates(health: &Health, now: Timestamp) -> Vec<(Timestamp, Because)> {
    let mut gates = Vec::new();
    match health.state {
        breaker::State::Ok => {}
        breaker::State::Failing => {
            let why = Because::Probed { at: health.probe_at, since: health.since };
            gates.push((health.probe_at.unwrap_or(now), why));
        }
        breaker::State::Paused => {
            let why = Because::Paused { since: health.since, reason: health.reason };
            gates.push((Timestamp::MAX, why));
        }
    }
    let held = health.held_until.filter(|until| *until > now);
    gates.extend(held.map(|until| (until, Because::Held { until })));
    gates
}

/// What its own time, `own`, comes from; nothing if that is what already holds the whole subscriber.
fn own_reason(case: &Case<'_>, own: Timestamp) -> Option<Because> {
    let again = case.queued_again_at.filter(|at| case.last.is_none_or(|last| last.ended_at < *at));
    match (again, case.last) {
        (Some(at), _) => return Some(Because::QueuedAgain { at }),
        (None, None) if case.attempts == 0 => return Some(Because::First),
        (None, None) => return Some(Because::Planned),
        (None, Some(_)) => {}
    }
    let last = case.last?;
    let near = |at: Timestamp, slack: SignedDuration| own.duration_since(at).abs() <= slack;
    if let Some(asked) = last.retry_after {
        let until = after(last.ended_at, asked.min(LONGEST_RETRY_AFTER));
        if case.health.held_until.is_some_and(|held| near(held, SLACK) && near(until, SLACK)) {
            return None;
        }
        if near(until, SLACK) && !asked.is_zero() {
            return Some(Because::AskedToWait { until, capped: asked > LONGEST_RETRY_AFTER });
        }
    }
    if case.health.state == breaker::State::Failing && case.health.probe_at.is_some_and(|at| own <= at) {
        return None;
    }
    let Addressee::Served { schedule } = case.addressee else { return None };
    let number = case.failures as usize;
    let wait = schedule.get(number.saturating_sub(1)).or(schedule.last()).copied()?;
    let planned = after(last.ended_at, wait);
    let jitter = signed(wait.mul_f64(JITTER));
    Some(if near(planned, jitter.saturating_add(SLACK)) {
        match number {
            number if number > schedule.len() => Because::LastStep { wait },
            number => Because::Step { number: number.max(1), of: schedule.len(), wait },
        }
    } else if own < planned {
        Because::Hastened
    } else {
        Because::Planned
    })
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const SCHEDULE: [Duration; 3] =
        [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];
    static WELL: LazyLock<Health> = LazyLock::new(Health::default);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    /// Attempted twice, the last time at 0; next after the second wait.
    fn case(health: &Health) -> Case<'_> {
        Case {
            state: State::Pending,
            attempts: 2,
            failures: 2,
            next_attempt_at: Some(at(310)),
            queued_again_at: None,
            last: Some(LastAttempt { ended_at: at(0), retry_after: None }),
            behind_another: false,
            addressee: Addressee::Served { schedule: &SCHEDULE },
            health,
        }
    }

    /// A subscriber that fails since a minute ago and is probed at 40, and what is said of that.
    fn failing() -> (Health, Because) {
        let (since, probe_at) = (Some(at(-60)), Some(at(40)));
        let health = Health { state: breaker::State::Failing, since, probe_at, ..WELL.clone() };
        (health, Because::Probed { at: probe_at, since })
    }

    fn said(case: &Case<'_>) -> (Option<i64>, Vec<Because>) {
        let Outlook { at, because } = outlook(case, at(10));
        (at.map(|at| at.as_second() - 1_790_000_000), because)
    }

    #[test]
    fn a_step_of_the_schedule() {
        let step = |number, seconds| Because::Step { number, of: 3, wait: Duration::from_secs(seconds) };
        assert_eq!(said(&case(&WELL)), (Some(310), vec![step(2, 300)]));
        let first = Case { attempts: 1, failures: 1, next_attempt_at: Some(at(5)), ..case(&WELL) };
        assert_eq!(said(&first), (Some(5), vec![Because::Due { since: at(5) }, step(1, 5)]));
        // What a failing subscriber did not take does not count.
        assert_eq!(said(&Case { attempts: 30, ..case(&WELL) }), (Some(310), vec![step(2, 300)]));
        let last = Case { attempts: 9, failures: 9, next_attempt_at: Some(at(1700)), ..case(&WELL) };
        assert_eq!(said(&last).1, [Because::LastStep { wait: SCHEDULE[2] }]);
        assert_eq!(said(&Case { next_attempt_at: Some(at(200)), ..case(&WELL) }).1, [Because::Hastened]);
        assert_eq!(said(&Case { next_attempt_at: Some(at(4000)), ..case(&WELL) }).1, [Because::Planned]);
        assert_eq!(said(&Case { last: None, ..case(&WELL) }).1, [Because::Planned]);
    }

    #[test]
    fn what_was_never_attempted_is_due() {
        let new = Case { attempts: 0, last: None, next_attempt_at: Some(at(-3)), ..case(&WELL) };
        assert_eq!(said(&new), (Some(-3), vec![Because::Due { since: at(-3) }, Because::First]));
        let drains = Health { pace: Some(2), ..WELL.clone() };
        assert_eq!(said(&Case { health: &drains, ..new }).1.last(), Some(&Because::Draining { at_once: 2 }));
        assert_eq!(said(&Case { next_attempt_at: None, ..new }).0, Some(10), "in the moment between");
    }

    #[test]
    fn what_is_settled_or_has_nobody_is_never_attempted() {
        for (state, addressee, why) in [
            (State::Delivered, Addressee::Unknown, Because::Delivered),
            (State::Dead, Addressee::TurnedOff, Because::Dead),
            (State::Pending, Addressee::Unknown, Because::NoSubscriber),
            (State::Pending, Addressee::TurnedOff, Because::TurnedOff),
        ] {
            assert_eq!(said(&Case { state, addressee, ..case(&WELL) }), (None, vec![why]));
        }
    }

    #[test]
    fn behind_another_of_its_label() {
        let behind = Case { behind_another: true, next_attempt_at: None, ..case(&WELL) };
        assert_eq!(said(&behind), (None, vec![Because::Behind]));
        let (failing, probed) = failing();
        assert_eq!(said(&Case { health: &failing, ..behind }).1, [probed, Because::Behind]);
    }

    #[test]
    fn a_failing_subscriber_is_probed() {
        let (failing, probed) = failing();
        let waiting = Case { next_attempt_at: Some(at(0)), ..case(&failing) };
        assert_eq!(said(&waiting), (Some(40), vec![probed]));
        // One that has just been the probe lets all others be tried before it.
        let step = Because::Step { number: 2, of: 3, wait: Duration::from_secs(300) };
        assert_eq!(said(&case(&failing)), (Some(310), vec![step, probed]));
        let overdue = Health { probe_at: Some(at(5)), ..failing.clone() };
        let probed = Because::Probed { at: Some(at(5)), since: Some(at(-60)) };
        assert_eq!(
            said(&Case { health: &overdue, ..waiting }),
            (Some(5), vec![Because::Due { since: at(5) }, probed])
        );
    }

    #[test]
    fn a_paused_one_gets_nothing() {
        let reason = Some(breaker::Reason::Gone);
        let paused = Health { state: breaker::State::Paused, since: Some(at(-9)), reason, ..WELL.clone() };
        assert_eq!(said(&case(&paused)), (None, vec![Because::Paused { since: Some(at(-9)), reason }]));
    }

    #[test]
    fn what_the_receiver_asked_for() {
        let asked =
            |seconds| Some(LastAttempt { ended_at: at(0), retry_after: Some(Duration::from_secs(seconds)) });
        let honoured = Case { last: asked(900), next_attempt_at: Some(at(900)), ..case(&WELL) };
        let why = Because::AskedToWait { until: at(900), capped: false };
        assert_eq!(said(&honoured), (Some(900), vec![why]));
        let capped = Case { last: asked(999_999), next_attempt_at: Some(at(86_400)), ..case(&WELL) };
        let why = Because::AskedToWait { until: at(86_400), capped: true };
        assert_eq!(said(&capped), (Some(86_400), vec![why]));
        let plan = Case { last: asked(3), ..case(&WELL) };
        assert!(matches!(said(&plan).1[..], [Because::Step { number: 2, .. }]), "our own plan was later");

        // 429 and 503 are for the whole subscriber: told once.
        let held = Health { held_until: Some(at(900)), ..WELL.clone() };
        let why = vec![Because::Held { until: at(900) }];
        assert_eq!(said(&Case { health: &held, ..honoured }), (Some(900), why.clone()));
        let other = Case { attempts: 0, last: None, next_attempt_at: Some(at(1)), ..case(&held) };
        assert_eq!(said(&other), (Some(900), [why, vec![Because::First]].concat()));
        let over = Health { held_until: Some(at(9)), ..WELL.clone() };
        assert!(matches!(said(&case(&over)).1[..], [Because::Step { .. }]));
    }

    #[test]
    fn queued_again_by_hand() {
        let again = Case { queued_again_at: Some(at(8)), next_attempt_at: Some(at(8)), ..case(&WELL) };
        let why = vec![Because::Due { since: at(8) }, Because::QueuedAgain { at: at(8) }];
        assert_eq!(said(&again), (Some(8), why));
        // Attempted since: it goes by its schedule again.
        let tried = Case { queued_again_at: Some(at(-8)), ..case(&WELL) };
        assert!(matches!(said(&tried).1[..], [Because::Step { .. }]));
    }
}
