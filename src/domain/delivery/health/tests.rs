use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::domain::delivery::outcome::NextStep;

const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];
const OK: Outcome = Outcome::Accepted { status: 200 };
const DOWN: Outcome = Outcome::Refused { status: 500 };
const GONE: Outcome = Outcome::Refused { status: 410 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn attempt(outcome: Outcome, retry_after: Option<u64>) -> Attempt {
    Attempt {
        started_at: at(0),
        duration: Duration::ZERO,
        outcome,
        detail: None,
        answer: None,
        retry_after: retry_after.map(Duration::from_secs),
    }
}

fn ended(attempt: &Attempt, delivery: i64, progress: RetryProgress, probe: bool) -> Ended<'_> {
    Ended { delivery, progress, attempt, probe, schedule: &SCHEDULE, max_in_flight: 8, jitter: 0.0 }
}

/// What an attempt of `delivery` leads to, `seconds` later.
fn said(health: &mut Health, outcome: Outcome, delivery: i64, seconds: i64) -> Option<HealthChange> {
    let probe = matches!(health.gate(8, at(seconds)), Gate::Probe { .. });
    health.settle(&ended(&attempt(outcome, None), delivery, RetryProgress::default(), probe), at(seconds)).1
}

#[test]
fn five_failures_over_two_messages_are_the_receivers() {
    let mut health = Health::default();
    for _ in 1..5 {
        assert_eq!(said(&mut health, DOWN, 1, 0), None);
    }
    assert_eq!(said(&mut health, DOWN, 2, 0), Some(HealthChange::Fell));
    assert_eq!((health.state, health.reason), (State::Failing, Some(Reason::Failures)));
    assert_eq!(health.gate(8, at(4)), Gate::Shut { until: Some(at(5)) });
    assert_eq!(health.gate(8, at(5)), Gate::Probe { newest: false });
}

#[test]
fn one_message_that_is_never_taken_is_a_messages_matter() {
    let mut health = Health::default();
    for _ in 1..100 {
        assert_eq!(said(&mut health, DOWN, 1, 0), None);
    }
    let mut health = Health::default();
    for number in 1..100 {
        assert_eq!(said(&mut health, DOWN, 1 + i64::from(number % 4), 0), None);
        if number % 4 == 0 {
            said(&mut health, OK, 9, 0);
        }
    }
    assert_eq!(health.state, State::Ok);
}

#[test]
fn messages_known_to_be_bad_are_not_counted_and_those_that_failed_since_it_accepted_any_are() {
    let mut health = Health::default();
    said(&mut health, OK, 9, 10);
    let fails = |health: &mut Health, delivery, since| {
        let progress = RetryProgress { failures: 1, since: Some(at(since)), planned_at: None };
        health.settle(&ended(&attempt(DOWN, None), delivery, progress, false), at(20)).1
    };
    for delivery in 0..100 {
        assert_eq!(fails(&mut health, delivery, 10), None);
    }
    for delivery in 1..5 {
        assert_eq!(fails(&mut health, delivery, 11), None);
    }
    assert_eq!(fails(&mut health, 5, 11), Some(HealthChange::Fell));
}

#[test]
fn no_connection_is_the_receivers_at_once() {
    for outcome in [
        Outcome::NameUnknown,
        Outcome::AddressRefused,
        Outcome::ConnectionRefused,
        Outcome::Tls,
        Outcome::TimedOut { connected: false },
    ] {
        assert_eq!(said(&mut Health::default(), outcome, 1, 0), Some(HealthChange::Fell));
    }
    for outcome in [Outcome::Reset, Outcome::TimedOut { connected: true }, Outcome::Unsendable] {
        assert_eq!(said(&mut Health::default(), outcome, 1, 0), None);
    }
}

#[test]
fn probes_double_from_five_seconds_to_five_minutes() {
    let mut health = Health::default();
    said(&mut health, Outcome::ConnectionRefused, 1, 0);
    let mut now = 0;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
        now += wait;
        assert_eq!(health.probe_at, Some(at(now)));
        // What was under way when it fell is no probe.
        health.settle(&ended(&attempt(DOWN, None), 2, RetryProgress::default(), false), at(now - 1));
        assert_eq!(health.probe_at, Some(at(now)));
        assert_eq!(said(&mut health, DOWN, 1, now), None, "it is told once");
    }
    assert_eq!(said(&mut health, OK, 1, now), Some(HealthChange::Recovered));
    assert_eq!(health.gate(8, at(now)), Gate::Open { at_once: 1 });
}

#[test]
fn the_backlog_drains_at_a_rising_pace() {
    let mut health = Health { pace: Some(1), ..Health::default() };
    let mut rounds = Vec::new();
    while health.pace.is_some() {
        let Gate::Open { at_once } = health.gate(8, at(0)) else { panic!("it is open") };
        rounds.push(at_once);
        for delivery in 0..at_once {
            said(&mut health, OK, delivery.into(), 0);
        }
    }
    assert_eq!(rounds, [1, 2, 4]);
    assert_eq!(health.gate(8, at(0)), Gate::Open { at_once: 8 });
    health.pace = Some(6);
    said(&mut health, DOWN, 1, 0);
    assert_eq!(health.pace, Some(3));
}

#[test]
fn what_fails_while_the_subscriber_does_is_no_step_of_the_schedule() {
    let mut health = Health { last_success_at: Some(at(1)), ..Health::default() };
    said(&mut health, Outcome::ConnectionRefused, 1, 10);
    let mut progress = RetryProgress::default();
    let mut fails = |health: &mut Health, seconds| {
        let settlement = health.settle(&ended(&attempt(DOWN, None), 1, progress, true), at(seconds)).0;
        progress = settlement.progress;
        settlement.next.at()
    };
    for _ in 2..50 {
        assert_eq!(fails(&mut health, 20), health.probe_at);
    }
    said(&mut health, OK, 2, 4000);
    assert_eq!(fails(&mut health, 4000), Some(at(4005)), "its schedule begins here");
    assert_eq!(fails(&mut health, 4005), Some(at(4305)));
    assert_eq!(fails(&mut health, 4305), Some(at(6105)));
    assert_eq!(fails(&mut health, 6104), Some(at(6105)), "before its time it is no step");
    said(&mut health, OK, 2, 6104);
    assert_eq!(fails(&mut health, 6105), None, "it is dead");
}

#[test]
fn what_it_accepted_before_a_message_first_failed_is_no_reason_to_give_that_up() {
    let mut health = Health::default();
    said(&mut health, OK, 2, 0);
    let worn = RetryProgress { failures: 3, since: Some(at(1)), planned_at: Some(at(4000)) };
    let again = health.settle(&ended(&attempt(DOWN, None), 1, worn, false), at(4000)).0;
    assert_eq!(again.next.at(), Some(at(5800)));
    said(&mut health, OK, 2, 5000);
    let dead = health.settle(&ended(&attempt(DOWN, None), 1, again.progress, false), at(5800)).0;
    assert_eq!(dead.next, NextStep::Dead);
}

#[test]
fn another_url_has_asked_for_nothing_and_gets_the_backlog_at_a_rising_pace() {
    let mut health = Health::default();
    health.meet("a", at(0));
    let busy = attempt(Outcome::Refused { status: 503 }, Some(3600));
    health.settle(&ended(&busy, 1, RetryProgress::default(), false), at(0));
    assert_eq!(health.gate(8, at(1)), Gate::Shut { until: Some(at(3600)) });
    assert!(health.meet("b", at(1)));
    assert_eq!(health.gate(8, at(1)), Gate::Open { at_once: 1 });
}

#[test]
fn a_hold_counts_for_probes_and_a_messages_own_wait_for_it() {
    let mut health = Health::default();
    let busy = attempt(Outcome::Refused { status: 503 }, Some(3600));
    said(&mut health, Outcome::ConnectionRefused, 1, 0);
    health.settle(&ended(&busy, 1, RetryProgress::default(), true), at(5));
    assert_eq!(health.gate(8, at(3604)), Gate::Shut { until: Some(at(3605)) });
    assert_eq!(health.gate(8, at(3605)), Gate::Probe { newest: true }, "by turns");
    let later = attempt(DOWN, Some(7200));
    let next = health.settle(&ended(&later, 2, RetryProgress::default(), true), at(3605)).0.next.at();
    assert_eq!(next, Some(at(3605 + 7200)));
}

#[test]
fn gone_is_believed_the_second_time_ten_minutes_later() {
    let mut health = Health::default();
    assert_eq!(said(&mut health, GONE, 1, 0), None);
    assert_eq!(said(&mut health, GONE, 1, 599), None);
    assert_eq!(said(&mut health, OK, 2, 599), None);
    assert_eq!(said(&mut health, GONE, 1, 700), None, "it was not gone between");
    assert_eq!(said(&mut health, GONE, 1, 1300), Some(HealthChange::Fell));
    assert_eq!((health.state, health.reason), (State::Paused, Some(Reason::Gone)));
    assert_eq!(health.gate(8, at(999_999)), Gate::Shut { until: None });

    assert!(health.clone().resume(at(2000)));
    assert!(!health.meet("a", at(2000)));
    assert_eq!(health.state, State::Paused, "the first URL we hear of is no other");
    assert!(health.meet("b", at(2000)) && !health.meet("b", at(2000)));
    assert_eq!(health.gate(8, at(2000)), Gate::Probe { newest: false });
    assert_eq!(said(&mut health, OK, 1, 2000), Some(HealthChange::Recovered));
}

#[test]
fn in_the_middle_of_an_episode_gone_pauses_and_is_not_told_again() {
    let mut health = Health::default();
    assert_eq!(said(&mut health, Outcome::ConnectionRefused, 1, 0), Some(HealthChange::Fell));
    assert_eq!(said(&mut health, GONE, 1, 5), None);
    assert_eq!(said(&mut health, GONE, 1, 700), Some(HealthChange::Paused));
    assert_eq!(health.episode_at, Some(at(0)));
}

#[test]
fn pausing_and_resuming_are_no_episode() {
    let mut health = Health::default();
    assert!(health.pause(at(0)) && !health.pause(at(1)));
    health.meet("a", at(2));
    health.meet("b", at(2));
    assert_eq!(health.state, State::Paused, "who paused it resumes it");
    assert!(health.resume(at(3)) && !health.resume(at(4)));
    assert_eq!(health.gate(8, at(4)), Gate::Open { at_once: 1 });
    said(&mut health, Outcome::ConnectionRefused, 1, 5);
    assert!(health.pause(at(6)) && health.resume(at(7)));
    assert_eq!(health.gate(8, at(7)), Gate::Probe { newest: false }, "it was failing before");
}

/// A receiver and a courier in virtual time: lanes of one message each, and what the receiver does.
struct World {
    health: Health,
    now: i64,
    /// The progress of each and when it is due; `None` once delivered.
    pending: Vec<Option<(RetryProgress, Timestamp)>>,
    attempts: u32,
    changes: Vec<HealthChange>,
}

impl World {
    fn new(messages: usize) -> Self {
        let pending = vec![Some((RetryProgress::default(), at(0))); messages];
        Self { health: Health::default(), now: 0, pending, attempts: 0, changes: Vec::new() }
    }

    /// What the courier does at this moment.
    fn step(&mut self, answer: &mut impl FnMut(usize) -> Outcome) {
        let now = at(self.now);
        let at_once = match self.health.gate(8, now) {
            Gate::Open { at_once } => at_once as usize,
            Gate::Probe { .. } => 1,
            Gate::Shut { .. } => return,
        };
        assert!((1..=8).contains(&at_once));
        let probe = self.health.state == State::Failing;
        let mut due: Vec<usize> = (0..self.pending.len())
            .filter(|index| self.pending[*index].is_some_and(|(_, due)| due <= now))
            .collect();
        due.sort_by_key(|index| self.pending[*index].map(|(_, due)| due));
        for index in due.into_iter().take(at_once) {
            let (progress, _) = self.pending[index].unwrap();
            self.attempts += 1;
            let attempt = attempt(answer(index), None);
            let ended = ended(&attempt, index as i64, progress, probe);
            let (settlement, change) = self.health.settle(&ended, now);
            self.pending[index] = match settlement.next {
                NextStep::Delivered => None,
                NextStep::Again(plan) => Some((settlement.progress, plan.at)),
                NextStep::Dead => panic!("a message is given up"),
            };
            if change.is_some() {
                // As the store does: heads no longer wait for their schedule.
                for (other, waiting) in self.pending.iter_mut().enumerate() {
                    if let Some((_, due)) = waiting.as_mut().filter(|_| other != index) {
                        *due = (*due).min(now);
                    }
                }
            }
            self.changes.extend(change);
        }
    }

    fn until(&mut self, seconds: i64, mut answer: impl FnMut(usize) -> Outcome) {
        while self.now < seconds {
            self.step(&mut answer);
            self.now += 1;
        }
    }
}

fn any_failure() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (400_u16..600)
            .prop_filter("410 is believed", |status| *status != 410)
            .prop_map(|status| { Outcome::Refused { status } }),
        Just(Outcome::ConnectionRefused),
        Just(Outcome::NameUnknown),
        Just(Outcome::Reset),
        any::<bool>().prop_map(|connected| Outcome::TimedOut { connected }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_day_of_failures_costs_some_hundreds_of_attempts_and_no_message(
        messages in 2_usize..60,
        failures in vec(any_failure(), 1..30),
    ) {
        let mut world = World::new(messages);
        let mut nth = 0;
        world.until(86_400, |_| {
            nth += 1;
            failures[nth % failures.len()].clone()
        });
        prop_assert!((20..330).contains(&world.attempts), "{} attempts", world.attempts);
        prop_assert_eq!(&world.changes, &[HealthChange::Fell]);
        prop_assert!(world.pending.iter().all(Option::is_some));
        world.until(86_400 + 301 + 60, |_| OK);
        prop_assert!(world.pending.iter().all(Option::is_none), "all has drained");
        prop_assert_eq!(world.changes, [HealthChange::Fell, HealthChange::Recovered]);
    }

    #[test]
    fn one_that_is_never_taken_does_not_keep_the_others_waiting(messages in 3_usize..40) {
        let mut world = World::new(messages);
        world.until(7_200, |_| DOWN);
        // The receiver is back, and will never take the first.
        world.until(7_200 + 900, |index| if index == 0 { DOWN } else { OK });
        let waiting = world.pending.iter().filter(|pending| pending.is_some()).count();
        prop_assert_eq!(waiting, 1);
        prop_assert_eq!(world.health.state, State::Ok);
    }

    #[test]
    fn whatever_happens_the_row_is_one_that_may_be_written(
        events in vec((0_u8..9, any_failure(), 0_i64..4, 0_i64..700), 1..200),
    ) {
        let mut health = Health::default();
        let (mut now, mut told) = (0, false);
        for (what, failure, delivery, later) in events {
            now += later;
            let before = health.since;
            let change = match what {
                0 => { health.pause(at(now)); None }
                1 => { health.resume(at(now)); None }
                2 => { health.meet(if later % 2 == 0 { "a" } else { "b" }, at(now)); None }
                3 => said(&mut health, GONE, delivery, now),
                4 => said(&mut health, OK, delivery, now),
                _ => said(&mut health, failure, delivery, now),
            };
            match change {
                Some(HealthChange::Fell) => prop_assert!(!std::mem::replace(&mut told, true)),
                Some(HealthChange::Recovered) => prop_assert!(std::mem::replace(&mut told, false)),
                _ => {}
            }
            prop_assert!(health.since >= before);
            prop_assert_eq!(health.state == State::Failing, health.probe_at.is_some());
            prop_assert_eq!(health.state == State::Ok, health.reason.is_none());
            prop_assert_eq!(told, health.episode_at.is_some());
            prop_assert!(health.probe_at.is_none_or(|probe| probe <= at(now + 300)), "it is never starved");
        }
    }
}
