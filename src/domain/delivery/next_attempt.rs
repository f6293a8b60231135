//! When a delivery is attempted next, and why then: for people who ask.
//!
//! Puts together what was decided and stored: the delivery's own plan ([`crate::domain::delivery::outcome`]) and the health of its
//! subscriber ([`crate::domain::delivery::health`]), which may hold it longer. It decides nothing itself.

use jiff::Timestamp;

use crate::domain::delivery::health as breaker;
use crate::domain::delivery::health::Health;
use crate::domain::delivery::outcome::{DueReason, Plan};

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
pub enum Addressee {
    Unknown,
    TurnedOff,
    Served,
}

/// All that bears on a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub state: State,
    /// As stored; of a pending one.
    pub plan: Option<Plan>,
    /// It is a ping: nothing of its subscriber's holds it.
    pub ping: bool,
    /// Whether an earlier message of its label is not delivered yet.
    pub behind_another: bool,
    pub addressee: Addressee,
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
    /// The subscriber fails as a whole: one probe at a time, the next then. Probes alternate between the oldest and the
    /// newest delivery not yet attempted; then what was due longest.
    Probed { at: Option<Timestamp>, since: Option<Timestamp> },
    /// The receiver asked to be left alone as a whole.
    Held { until: Timestamp },
    /// The delivery's own reason, as it was stored; it is due then.
    Planned(Plan),
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
            Self::Planned(plan) => plan.reason.as_str(),
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

/// The outlook of a delivery at `now`.
pub fn outlook(case: &Case<'_>, now: Timestamp) -> Outlook {
    let never = |because| Outlook { at: None, because: vec![because] };
    match (case.state, case.addressee) {
        (State::Delivered, _) => return never(Because::Delivered),
        (State::Dead, _) => return never(Because::Dead),
        (State::Pending, Addressee::Unknown) => return never(Because::NoSubscriber),
        (State::Pending, Addressee::TurnedOff) => return never(Because::TurnedOff),
        (State::Pending, Addressee::Served) => {}
    }
    let mut gates = if case.ping { Vec::new() } else { gates(case.health, now) };
    if case.behind_another || case.health.state == breaker::State::Paused && !case.ping {
        let behind = case.behind_another.then_some(Because::Behind);
        return Outlook { at: None, because: gates.into_iter().map(|(_, why)| why).chain(behind).collect() };
    }
    let own = case.plan.map_or(now, |plan| plan.at);
    gates.extend(
        case.plan.filter(|plan| !is_said(plan, case.health)).map(|plan| (own, Because::Planned(plan))),
    );
    // The one that binds longest is the one that counts; the others are told as far as they hold at all.
    gates.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let at = gates.first().map_or(own, |(at, _)| own.max(*at));
    let mut because: Vec<Because> = gates.into_iter().map(|(_, why)| why).collect();
    if at <= now {
        because.insert(0, Because::Due { since: at });
    }
    because.extend(case.health.pace.filter(|_| !case.ping).map(|at_once| Because::Draining { at_once }));
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

/// Whether a delivery's own reason is one that holds the whole subscriber, which is told already.
fn is_said(plan: &Plan, health: &Health) -> bool {
    match plan.reason {
        DueReason::Spared => health.state == breaker::State::Failing,
        DueReason::AskedToWait { .. } => health.held_until == Some(plan.at),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::domain::delivery::outcome::HastenedBy;

    const STEP: DueReason = DueReason::Step { number: 2, of: 3, wait_ms: 300_000 };
    static WELL: LazyLock<Health> = LazyLock::new(Health::default);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn plan(seconds: i64, reason: DueReason) -> Plan {
        Plan { at: at(seconds), reason }
    }

    /// Next after the second wait.
    fn case(health: &Health) -> Case<'_> {
        Case {
            state: State::Pending,
            plan: Some(plan(310, STEP)),
            ping: false,
            behind_another: false,
            addressee: Addressee::Served,
            health,
        }
    }

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
    fn its_own_reason_is_told_as_it_was_stored() {
        for reason in [
            DueReason::First,
            DueReason::QueuedAgain,
            STEP,
            DueReason::LastStep { wait_ms: 5_000 },
            DueReason::AskedToWait { capped: true },
            DueReason::Spared,
            DueReason::Hastened { by: HastenedBy::Recovery },
        ] {
            let own = Because::Planned(plan(310, reason));
            assert_eq!(said(&Case { plan: Some(plan(310, reason)), ..case(&WELL) }), (Some(310), vec![own]));
            let due = [Because::Due { since: at(-3) }, Because::Planned(plan(-3, reason))];
            assert_eq!(said(&Case { plan: Some(plan(-3, reason)), ..case(&WELL) }), (Some(-3), due.to_vec()));
        }
        let drains = Health { pace: Some(2), ..WELL.clone() };
        assert_eq!(said(&case(&drains)).1.last(), Some(&Because::Draining { at_once: 2 }));
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
        let behind = Case { behind_another: true, ..case(&WELL) };
        assert_eq!(said(&behind), (None, vec![Because::Behind]));
        let (failing, probed) = failing();
        assert_eq!(said(&Case { health: &failing, ..behind }).1, [probed, Because::Behind]);
    }

    #[test]
    fn a_failing_subscriber_is_probed() {
        let (failing, probed) = failing();
        let spared = Case { plan: Some(plan(0, DueReason::Spared)), ..case(&failing) };
        assert_eq!(said(&spared), (Some(40), vec![probed]), "told once");
        assert_eq!(said(&case(&failing)), (Some(310), vec![Because::Planned(plan(310, STEP)), probed]));
        let overdue = Health { probe_at: Some(at(5)), ..failing.clone() };
        let probed = Because::Probed { at: Some(at(5)), since: Some(at(-60)) };
        assert_eq!(
            said(&Case { health: &overdue, ..spared }),
            (Some(5), vec![Because::Due { since: at(5) }, probed])
        );
    }

    #[test]
    fn a_paused_one_gets_nothing_but_pings() {
        let reason = Some(breaker::Reason::Gone);
        let paused = Health { state: breaker::State::Paused, since: Some(at(-9)), reason, ..WELL.clone() };
        assert_eq!(said(&case(&paused)), (None, vec![Because::Paused { since: Some(at(-9)), reason }]));
        let ping = Case { ping: true, plan: Some(plan(1, DueReason::First)), ..case(&paused) };
        assert_eq!(said(&ping).0, Some(1));
    }

    #[test]
    fn what_holds_the_whole_subscriber_is_told_once() {
        // 429 and 503 are for the whole subscriber.
        let held = Health { held_until: Some(at(900)), ..WELL.clone() };
        let asked = plan(900, DueReason::AskedToWait { capped: false });
        let why = Because::Held { until: at(900) };
        assert_eq!(said(&Case { plan: Some(asked), ..case(&held) }), (Some(900), vec![why]));
        let first = plan(1, DueReason::First);
        let other = Case { plan: Some(first), ..case(&held) };
        assert_eq!(said(&other), (Some(900), vec![why, Because::Planned(first)]));
        let over = Health { held_until: Some(at(9)), ..WELL.clone() };
        assert_eq!(said(&case(&over)).1, [Because::Planned(plan(310, STEP))]);
    }
}
