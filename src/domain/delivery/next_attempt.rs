//! Time of a delivery's next attempt and the reasons for it, for display.
//!
//! Combines stored decisions: the due time of the delivery ([`crate::domain::delivery::outcome`]) and the health of its
//! subscriber ([`crate::domain::delivery::health`]), which may hold it longer. This module decides nothing.

use jiff::Timestamp;

use crate::domain::delivery::health::{Health, HealthReason, HealthState};
use crate::domain::delivery::outcome::{Due, DueReason};
use crate::domain::named_enum::named_enum;

named_enum! {
    /// State of a delivery.
    pub enum DeliveryState {
        Pending = "pending",
        Delivered = "delivered",
        Dead = "dead",
    }
}

/// The subscriber in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberConfig {
    Missing,
    Disabled,
    Enabled,
}

/// Facts about a delivery that determine its next attempt.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryFacts<'a> {
    pub state: DeliveryState,
    /// Stored due time of a pending delivery.
    pub due: Option<Due>,
    /// Whether it is a ping. Health does not hold pings.
    pub ping: bool,
    /// Whether an earlier message of its lane is pending.
    pub behind_another: bool,
    pub subscriber: SubscriberConfig,
    pub health: &'a Health,
}

/// Reason for the time of the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Delivered.
    Delivered,
    /// Retry schedule used up while the receiver accepted other messages.
    Dead,
    /// No subscriber of this name is configured.
    NoSubscriber,
    /// `enabled = false`.
    Disabled,
    /// The subscriber is paused.
    Paused { since: Option<Timestamp>, reason: Option<HealthReason> },
    /// An earlier message of its lane comes first.
    Behind,
    /// The subscriber is failing: one probe at a time, the next one at `at`. Probes alternate between the oldest and the
    /// newest delivery not yet attempted.
    Probed { at: Option<Timestamp>, since: Option<Timestamp> },
    /// `Retry-After` for the whole subscriber.
    Held { until: Timestamp },
    /// The stored due time of the delivery.
    Planned(Due),
    /// Due since then.
    Due { since: Timestamp },
    /// The backlog of a recovered subscriber drains with `at_once` concurrent attempts.
    Draining { at_once: u32 },
}

impl WaitReason {
    /// Name in JSON output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::NoSubscriber => "no_subscriber",
            Self::Disabled => "disabled",
            Self::Paused { .. } => "paused",
            Self::Behind => "behind",
            Self::Probed { .. } => "probed",
            Self::Held { .. } => "held",
            Self::Planned(due) => due.reason.as_str(),
            Self::Due { .. } => "due",
            Self::Draining { .. } => "draining",
        }
    }
}

/// Time and reasons of the next attempt, the strongest reason first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextAttempt {
    /// Earliest time; `None`: never, or unknown.
    pub at: Option<Timestamp>,
    pub reasons: Vec<WaitReason>,
}

/// Returns the next attempt of a delivery, as known at `now`.
pub fn next_attempt(delivery: &DeliveryFacts<'_>, now: Timestamp) -> NextAttempt {
    let never = |reason| NextAttempt { at: None, reasons: vec![reason] };
    match (delivery.state, delivery.subscriber) {
        (DeliveryState::Delivered, _) => return never(WaitReason::Delivered),
        (DeliveryState::Dead, _) => return never(WaitReason::Dead),
        (DeliveryState::Pending, SubscriberConfig::Missing) => return never(WaitReason::NoSubscriber),
        (DeliveryState::Pending, SubscriberConfig::Disabled) => return never(WaitReason::Disabled),
        (DeliveryState::Pending, SubscriberConfig::Enabled) => {}
    }
    let mut holds = if delivery.ping { Vec::new() } else { holds(delivery.health, now) };
    if delivery.behind_another || delivery.health.state == HealthState::Paused && !delivery.ping {
        let behind = delivery.behind_another.then_some(WaitReason::Behind);
        return NextAttempt {
            at: None,
            reasons: holds.into_iter().map(|(_, why)| why).chain(behind).collect(),
        };
    }
    let own = delivery.due.map_or(now, |due| due.at);
    holds.extend(
        delivery
            .due
            .filter(|due| !is_held_by_health(due, delivery.health))
            .map(|due| (own, WaitReason::Planned(due))),
    );
    // The longest hold determines the time.
    holds.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let at = holds.first().map_or(own, |(at, _)| own.max(*at));
    let mut reasons: Vec<WaitReason> = holds.into_iter().map(|(_, why)| why).collect();
    if at <= now {
        reasons.insert(0, WaitReason::Due { since: at });
    }
    reasons.extend(
        delivery
            .health
            .slow_start_limit
            .filter(|_| !delivery.ping)
            .map(|at_once| WaitReason::Draining { at_once }),
    );
    NextAttempt { at: Some(at), reasons }
}

/// Returns the reasons that hold all deliveries of the subscriber, each with its end.
fn holds(health: &Health, now: Timestamp) -> Vec<(Timestamp, WaitReason)> {
    let mut holds = Vec::new();
    match health.state {
        HealthState::Ok => {}
        HealthState::Failing => {
            let why = WaitReason::Probed { at: health.probe_at, since: health.since };
            holds.push((health.probe_at.unwrap_or(now), why));
        }
        HealthState::Paused => {
            let why = WaitReason::Paused { since: health.since, reason: health.reason };
            holds.push((Timestamp::MAX, why));
        }
    }
    let held = health.held_until.filter(|until| *until > now);
    holds.extend(held.map(|until| (until, WaitReason::Held { until })));
    holds
}

/// Whether the reason of a due time is among [`holds`].
fn is_held_by_health(due: &Due, health: &Health) -> bool {
    match due.reason {
        DueReason::WaitsForProbe => health.state == HealthState::Failing,
        DueReason::RetryAfter { .. } => health.held_until == Some(due.at),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::domain::delivery::outcome::HastenedBy;

    const SECOND_WAIT: DueReason = DueReason::Step { number: 2, of: 3, wait_ms: 300_000 };
    static HEALTHY: LazyLock<Health> = LazyLock::new(Health::default);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn due(seconds: i64, reason: DueReason) -> Due {
        Due { at: at(seconds), reason }
    }

    /// A delivery that waits after its second failure.
    fn delivery(health: &Health) -> DeliveryFacts<'_> {
        DeliveryFacts {
            state: DeliveryState::Pending,
            due: Some(due(310, SECOND_WAIT)),
            ping: false,
            behind_another: false,
            subscriber: SubscriberConfig::Enabled,
            health,
        }
    }

    fn failing() -> (Health, WaitReason) {
        let (since, probe_at) = (Some(at(-60)), Some(at(40)));
        let health = Health { state: HealthState::Failing, since, probe_at, ..HEALTHY.clone() };
        (health, WaitReason::Probed { at: probe_at, since })
    }

    fn shown(delivery: &DeliveryFacts<'_>) -> (Option<i64>, Vec<WaitReason>) {
        let NextAttempt { at, reasons } = next_attempt(delivery, at(10));
        (at.map(|at| at.as_second() - 1_790_000_000), reasons)
    }

    #[test]
    fn the_stored_reason_is_shown() {
        for reason in [
            DueReason::First,
            DueReason::QueuedAgain,
            SECOND_WAIT,
            DueReason::LastStep { wait_ms: 5_000 },
            DueReason::RetryAfter { capped: true },
            DueReason::WaitsForProbe,
            DueReason::Hastened { by: HastenedBy::Recovery },
        ] {
            let own = WaitReason::Planned(due(310, reason));
            assert_eq!(
                shown(&DeliveryFacts { due: Some(due(310, reason)), ..delivery(&HEALTHY) }),
                (Some(310), vec![own])
            );
            let overdue = [WaitReason::Due { since: at(-3) }, WaitReason::Planned(due(-3, reason))];
            assert_eq!(
                shown(&DeliveryFacts { due: Some(due(-3, reason)), ..delivery(&HEALTHY) }),
                (Some(-3), overdue.to_vec())
            );
        }
        let drains = Health { slow_start_limit: Some(2), ..HEALTHY.clone() };
        assert_eq!(shown(&delivery(&drains)).1.last(), Some(&WaitReason::Draining { at_once: 2 }));
    }

    #[test]
    fn a_finished_delivery_or_one_without_subscriber_has_no_next_attempt() {
        for (state, subscriber, why) in [
            (DeliveryState::Delivered, SubscriberConfig::Missing, WaitReason::Delivered),
            (DeliveryState::Dead, SubscriberConfig::Disabled, WaitReason::Dead),
            (DeliveryState::Pending, SubscriberConfig::Missing, WaitReason::NoSubscriber),
            (DeliveryState::Pending, SubscriberConfig::Disabled, WaitReason::Disabled),
        ] {
            assert_eq!(shown(&DeliveryFacts { state, subscriber, ..delivery(&HEALTHY) }), (None, vec![why]));
        }
    }

    #[test]
    fn an_earlier_message_of_the_lane_comes_first() {
        let behind = DeliveryFacts { behind_another: true, ..delivery(&HEALTHY) };
        assert_eq!(shown(&behind), (None, vec![WaitReason::Behind]));
        let (failing, probed) = failing();
        assert_eq!(shown(&DeliveryFacts { health: &failing, ..behind }).1, [probed, WaitReason::Behind]);
    }

    #[test]
    fn a_failing_subscriber_is_probed() {
        let (failing, probed) = failing();
        let deferred = DeliveryFacts { due: Some(due(0, DueReason::WaitsForProbe)), ..delivery(&failing) };
        assert_eq!(shown(&deferred), (Some(40), vec![probed]), "shown once");
        assert_eq!(
            shown(&delivery(&failing)),
            (Some(310), vec![WaitReason::Planned(due(310, SECOND_WAIT)), probed])
        );
        let overdue = Health { probe_at: Some(at(5)), ..failing.clone() };
        let probed = WaitReason::Probed { at: Some(at(5)), since: Some(at(-60)) };
        assert_eq!(
            shown(&DeliveryFacts { health: &overdue, ..deferred }),
            (Some(5), vec![WaitReason::Due { since: at(5) }, probed])
        );
    }

    #[test]
    fn a_paused_subscriber_gets_only_pings() {
        let reason = Some(HealthReason::Gone);
        let paused = Health { state: HealthState::Paused, since: Some(at(-9)), reason, ..HEALTHY.clone() };
        assert_eq!(
            shown(&delivery(&paused)),
            (None, vec![WaitReason::Paused { since: Some(at(-9)), reason }])
        );
        let ping = DeliveryFacts { ping: true, due: Some(due(1, DueReason::First)), ..delivery(&paused) };
        assert_eq!(shown(&ping).0, Some(1));
    }

    #[test]
    fn a_hold_of_the_subscriber_is_shown_once() {
        // 429 and 503 are for the whole subscriber.
        let held = Health { held_until: Some(at(900)), ..HEALTHY.clone() };
        let retry = due(900, DueReason::RetryAfter { capped: false });
        let why = WaitReason::Held { until: at(900) };
        assert_eq!(shown(&DeliveryFacts { due: Some(retry), ..delivery(&held) }), (Some(900), vec![why]));
        let first = due(1, DueReason::First);
        let other = DeliveryFacts { due: Some(first), ..delivery(&held) };
        assert_eq!(shown(&other), (Some(900), vec![why, WaitReason::Planned(first)]));
        let over = Health { held_until: Some(at(9)), ..HEALTHY.clone() };
        assert_eq!(shown(&delivery(&over)).1, [WaitReason::Planned(due(310, SECOND_WAIT))]);
    }
}
