use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::domain::delivery::outcome::{AfterAttempt, DeliverySchedule};

const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];
const OK: Outcome = Outcome::Accepted { status: 200 };
const DOWN: Outcome = Outcome::ErrorStatus { status: 500 };
const GONE: Outcome = Outcome::ErrorStatus { status: 410 };

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

fn ended(attempt: &Attempt, delivery: i64, progress: RetryProgress, probe: bool) -> AttemptFacts<'_> {
    AttemptFacts { delivery, progress, attempt, probe, schedule: &SCHEDULE, max_in_flight: 8, jitter: 0.0 }
}

/// Change of health after an attempt of `delivery` at `seconds`.
fn change_after(health: &mut Health, outcome: Outcome, delivery: i64, seconds: i64) -> Option<HealthChange> {
    let probe = matches!(health.allowed(8, at(seconds)), Allowed::Probe { .. });
    health.record(&ended(&attempt(outcome, None), delivery, RetryProgress::default(), probe), at(seconds)).1
}

#[test]
fn five_failures_over_two_messages_make_the_subscriber_fail() {
    let mut health = Health::default();
    for _ in 1..5 {
        assert_eq!(change_after(&mut health, DOWN, 1, 0), None);
    }
    assert_eq!(change_after(&mut health, DOWN, 2, 0), Some(HealthChange::Failing));
    assert_eq!((health.state, health.reason), (HealthState::Failing, Some(HealthReason::Failures)));
    assert_eq!(health.allowed(8, at(4)), Allowed::Nothing { until: Some(at(5)) });
    assert_eq!(health.allowed(8, at(5)), Allowed::Probe { newest: false });
}

#[test]
fn one_message_never_accepted_does_not_make_it_fail() {
    let mut health = Health::default();
    for _ in 1..100 {
        assert_eq!(change_after(&mut health, DOWN, 1, 0), None);
    }
    let mut health = Health::default();
    for number in 1..100 {
        assert_eq!(change_after(&mut health, DOWN, 1 + i64::from(number % 4), 0), None);
        if number % 4 == 0 {
            change_after(&mut health, OK, 9, 0);
        }
    }
    assert_eq!(health.state, HealthState::Ok);
}

#[test]
fn failures_of_proven_bad_messages_do_not_count() {
    let mut health = Health::default();
    change_after(&mut health, OK, 9, 10);
    let fails = |health: &mut Health, delivery, since| {
        let progress = RetryProgress { failures: 1, since: Some(at(since)), planned_at: None };
        health.record(&ended(&attempt(DOWN, None), delivery, progress, false), at(20)).1
    };
    for delivery in 0..100 {
        assert_eq!(fails(&mut health, delivery, 10), None);
    }
    for delivery in 1..5 {
        assert_eq!(fails(&mut health, delivery, 11), None);
    }
    assert_eq!(fails(&mut health, 5, 11), Some(HealthChange::Failing));
}

#[test]
fn no_connection_makes_it_fail_at_once() {
    for outcome in [
        Outcome::NameUnknown,
        Outcome::AddressRefused,
        Outcome::ConnectionRefused,
        Outcome::Tls,
        Outcome::TimedOut { stage: Stage::Connecting },
    ] {
        assert_eq!(change_after(&mut Health::default(), outcome, 1, 0), Some(HealthChange::Failing));
    }
    for outcome in [Outcome::Reset, Outcome::TimedOut { stage: Stage::Waiting }, Outcome::Unsendable] {
        assert_eq!(change_after(&mut Health::default(), outcome, 1, 0), None);
    }
}

#[test]
fn probes_double_from_five_seconds_to_five_minutes() {
    let mut health = Health::default();
    change_after(&mut health, Outcome::ConnectionRefused, 1, 0);
    let mut now = 0;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
        now += wait;
        assert_eq!(health.probe_at, Some(at(now)));
        // An attempt in flight when it began to fail is not a probe.
        health.record(&ended(&attempt(DOWN, None), 2, RetryProgress::default(), false), at(now - 1));
        assert_eq!(health.probe_at, Some(at(now)));
        assert_eq!(change_after(&mut health, DOWN, 1, now), None, "announced once");
    }
    assert_eq!(change_after(&mut health, OK, 1, now), Some(HealthChange::Recovered));
    assert_eq!(health.allowed(8, at(now)), Allowed::Attempts { at_once: 1 });
}

#[test]
fn the_backlog_drains_at_a_rising_pace() {
    let mut health = Health { slow_start_limit: Some(1), ..Health::default() };
    let mut rounds = Vec::new();
    while health.slow_start_limit.is_some() {
        let Allowed::Attempts { at_once } = health.allowed(8, at(0)) else {
            panic!("attempts are not allowed")
        };
        rounds.push(at_once);
        for delivery in 0..at_once {
            change_after(&mut health, OK, delivery.into(), 0);
        }
    }
    assert_eq!(rounds, [1, 2, 4]);
    assert_eq!(health.allowed(8, at(0)), Allowed::Attempts { at_once: 8 });
    health.slow_start_limit = Some(6);
    change_after(&mut health, DOWN, 1, 0);
    assert_eq!(health.slow_start_limit, Some(3));
}

#[test]
fn failures_while_failing_do_not_count_for_the_schedule() {
    let mut health = Health { last_success_at: Some(at(1)), ..Health::default() };
    change_after(&mut health, Outcome::ConnectionRefused, 1, 10);
    let mut progress = RetryProgress::default();
    let mut fails = |health: &mut Health, seconds| {
        let decision = health.record(&ended(&attempt(DOWN, None), 1, progress, true), at(seconds)).0;
        progress = decision.progress;
        decision.next.due().map(|due| due.at)
    };
    for _ in 2..50 {
        assert_eq!(fails(&mut health, 20), health.probe_at);
    }
    change_after(&mut health, OK, 2, 4000);
    assert_eq!(fails(&mut health, 4000), Some(at(4005)), "its schedule starts here");
    assert_eq!(fails(&mut health, 4005), Some(at(4305)));
    assert_eq!(fails(&mut health, 4305), Some(at(6105)));
    assert_eq!(fails(&mut health, 6104), Some(at(6105)), "an early attempt does not count");
    change_after(&mut health, OK, 2, 6104);
    assert_eq!(fails(&mut health, 6105), None, "dead");
}

#[test]
fn messages_accepted_before_the_first_failure_do_not_make_a_message_dead() {
    let mut health = Health::default();
    change_after(&mut health, OK, 2, 0);
    let worn = RetryProgress { failures: 3, since: Some(at(1)), planned_at: Some(at(4000)) };
    let again = health.record(&ended(&attempt(DOWN, None), 1, worn, false), at(4000)).0;
    assert_eq!(again.next.due().map(|due| due.at), Some(at(5800)));
    change_after(&mut health, OK, 2, 5000);
    let dead = health.record(&ended(&attempt(DOWN, None), 1, again.progress, false), at(5800)).0;
    assert_eq!(dead.next, AfterAttempt::Dead);
}

#[test]
fn a_clock_set_back_before_the_last_success_makes_no_message_dead() {
    for shortens_first in [true, false] {
        let mut health = Health::default();
        change_after(&mut health, OK, 9, 100);
        let failed = attempt(DOWN, None);
        let mut schedule = DeliverySchedule::first(at(200));
        if shortens_first {
            schedule.progress = RetryProgress::default().failed(at(200));
            schedule.shorten_waits(Some(SignedDuration::from_secs(150)), at(50));
            health.shorten_waits(at(50));
        }
        for number in 0..6 {
            let now = at(51 + 10_000 * number);
            let (decision, _) = health.record(&ended(&failed, 1, schedule.progress, false), now);
            assert!(matches!(decision.next, AfterAttempt::Retry(_)), "{number}: {decision:?}");
            schedule.progress = decision.progress;
        }
    }
}

#[test]
fn another_url_has_no_retry_after_and_gets_the_backlog_at_a_rising_pace() {
    let mut health = Health::default();
    health.set_url("a", at(0));
    let busy = attempt(Outcome::ErrorStatus { status: 503 }, Some(3600));
    health.record(&ended(&busy, 1, RetryProgress::default(), false), at(0));
    assert_eq!(health.allowed(8, at(1)), Allowed::Nothing { until: Some(at(3600)) });
    assert!(health.set_url("b", at(1)));
    assert_eq!(health.allowed(8, at(1)), Allowed::Attempts { at_once: 1 });
}

#[test]
fn retry_after_holds_probes_and_its_message() {
    let mut health = Health::default();
    let busy = attempt(Outcome::ErrorStatus { status: 503 }, Some(3600));
    change_after(&mut health, Outcome::ConnectionRefused, 1, 0);
    health.record(&ended(&busy, 1, RetryProgress::default(), true), at(5));
    assert_eq!(health.allowed(8, at(3604)), Allowed::Nothing { until: Some(at(3605)) });
    assert_eq!(health.allowed(8, at(3605)), Allowed::Probe { newest: true }, "alternating");
    let later = attempt(DOWN, Some(7200));
    let next = health
        .record(&ended(&later, 2, RetryProgress::default(), true), at(3605))
        .0
        .next
        .due()
        .map(|due| due.at);
    assert_eq!(next, Some(at(3605 + 7200)));
}

#[test]
fn a_second_410_ten_minutes_later_pauses() {
    let mut health = Health::default();
    assert_eq!(change_after(&mut health, GONE, 1, 0), None);
    assert_eq!(change_after(&mut health, GONE, 1, 599), None);
    assert_eq!(change_after(&mut health, OK, 2, 599), None);
    assert_eq!(change_after(&mut health, GONE, 1, 700), None, "another status came between");
    assert_eq!(change_after(&mut health, GONE, 1, 1300), Some(HealthChange::Failing));
    assert_eq!((health.state, health.reason), (HealthState::Paused, Some(HealthReason::Gone)));
    assert_eq!(health.allowed(8, at(999_999)), Allowed::Nothing { until: None });

    assert!(health.clone().resume(at(2000)));
    assert!(!health.set_url("a", at(2000)));
    assert_eq!(health.state, HealthState::Paused, "the first known URL is not a change");
    assert!(health.set_url("b", at(2000)) && !health.set_url("b", at(2000)));
    assert_eq!(health.allowed(8, at(2000)), Allowed::Probe { newest: false });
    assert_eq!(change_after(&mut health, OK, 1, 2000), Some(HealthChange::Recovered));
}

#[test]
fn a_410_during_an_episode_pauses_without_a_new_episode() {
    let mut health = Health::default();
    assert_eq!(change_after(&mut health, Outcome::ConnectionRefused, 1, 0), Some(HealthChange::Failing));
    assert_eq!(change_after(&mut health, GONE, 1, 5), None);
    assert_eq!(change_after(&mut health, GONE, 1, 700), Some(HealthChange::Paused));
    assert_eq!(health.episode_at, Some(at(0)));
}

#[test]
fn pause_and_resume_are_not_an_episode() {
    let mut health = Health::default();
    assert!(health.pause(at(0)) && !health.pause(at(1)));
    health.set_url("a", at(2));
    health.set_url("b", at(2));
    assert_eq!(health.state, HealthState::Paused, "a pause by hand stays");
    assert!(health.resume(at(3)) && !health.resume(at(4)));
    assert_eq!(health.allowed(8, at(4)), Allowed::Attempts { at_once: 1 });
    change_after(&mut health, Outcome::ConnectionRefused, 1, 5);
    assert!(health.pause(at(6)) && health.resume(at(7)));
    assert_eq!(health.allowed(8, at(7)), Allowed::Probe { newest: false }, "it was failing before");
}

/// A receiver and a courier in virtual time, with one message per lane.
struct Simulation {
    health: Health,
    now: i64,
    /// Progress and due time of each message; `None` once delivered.
    pending: Vec<Option<(RetryProgress, Timestamp)>>,
    attempts: u32,
    changes: Vec<HealthChange>,
}

impl Simulation {
    fn new(messages: usize) -> Self {
        let pending = vec![Some((RetryProgress::default(), at(0))); messages];
        Self { health: Health::default(), now: 0, pending, attempts: 0, changes: Vec::new() }
    }

    /// One step of the courier.
    fn step(&mut self, answer: &mut impl FnMut(usize) -> Outcome) {
        let now = at(self.now);
        let at_once = match self.health.allowed(8, now) {
            Allowed::Attempts { at_once } => at_once as usize,
            Allowed::Probe { .. } => 1,
            Allowed::Nothing { .. } => return,
        };
        assert!((1..=8).contains(&at_once));
        let probe = self.health.state == HealthState::Failing;
        let mut due: Vec<usize> = (0..self.pending.len())
            .filter(|index| self.pending[*index].is_some_and(|(_, due)| due <= now))
            .collect();
        due.sort_by_key(|index| self.pending[*index].map(|(_, due)| due));
        for index in due.into_iter().take(at_once) {
            let (progress, _) = self.pending[index].unwrap();
            self.attempts += 1;
            let attempt = attempt(answer(index), None);
            let ended = ended(&attempt, index as i64, progress, probe);
            let (decision, change) = self.health.record(&ended, now);
            self.pending[index] = match decision.next {
                AfterAttempt::Delivered => None,
                AfterAttempt::Retry(plan) => Some((decision.progress, plan.at)),
                AfterAttempt::Dead => panic!("a message is dead"),
            };
            if change.is_some() {
                // As in the store, the other heads become due.
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
            .prop_filter("410 pauses", |status| *status != 410)
            .prop_map(|status| { Outcome::ErrorStatus { status } }),
        Just(Outcome::ConnectionRefused),
        Just(Outcome::NameUnknown),
        Just(Outcome::Reset),
        prop::sample::select(Stage::ALL.to_vec()).prop_map(|stage| Outcome::TimedOut { stage }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_day_of_failures_costs_few_attempts_and_loses_no_message(
        messages in 2_usize..60,
        failures in vec(any_failure(), 1..30),
    ) {
        let mut simulation = Simulation::new(messages);
        let mut nth = 0;
        simulation.until(86_400, |_| {
            nth += 1;
            failures[nth % failures.len()].clone()
        });
        prop_assert!((20..330).contains(&simulation.attempts), "{} attempts", simulation.attempts);
        prop_assert_eq!(&simulation.changes, &[HealthChange::Failing]);
        prop_assert!(simulation.pending.iter().all(Option::is_some));
        simulation.until(86_400 + 301 + 60, |_| OK);
        prop_assert!(simulation.pending.iter().all(Option::is_none), "drained");
        prop_assert_eq!(simulation.changes, [HealthChange::Failing, HealthChange::Recovered]);
    }

    #[test]
    fn a_message_never_accepted_does_not_delay_the_others(messages in 3_usize..40) {
        let mut simulation = Simulation::new(messages);
        simulation.until(7_200, |_| DOWN);
        // The receiver recovers, but never accepts the first message.
        simulation.until(7_200 + 900, |index| if index == 0 { DOWN } else { OK });
        let waiting = simulation.pending.iter().filter(|pending| pending.is_some()).count();
        prop_assert_eq!(waiting, 1);
        prop_assert_eq!(simulation.health.state, HealthState::Ok);
    }

    #[test]
    fn any_sequence_gives_a_valid_row(
        events in vec((0_u8..9, any_failure(), 0_i64..4, 0_i64..700), 1..200),
    ) {
        let mut health = Health::default();
        let (mut now, mut announced) = (0, false);
        for (what, failure, delivery, later) in events {
            now += later;
            let before = health.since;
            let change = match what {
                0 => { health.pause(at(now)); None }
                1 => { health.resume(at(now)); None }
                2 => { health.set_url(if later % 2 == 0 { "a" } else { "b" }, at(now)); None }
                3 => change_after(&mut health, GONE, delivery, now),
                4 => change_after(&mut health, OK, delivery, now),
                _ => change_after(&mut health, failure, delivery, now),
            };
            match change {
                Some(HealthChange::Failing) => prop_assert!(!std::mem::replace(&mut announced, true)),
                Some(HealthChange::Recovered) => prop_assert!(std::mem::replace(&mut announced, false)),
                _ => {}
            }
            prop_assert!(health.since >= before);
            prop_assert_eq!(health.state == HealthState::Failing, health.probe_at.is_some());
            prop_assert_eq!(health.state == HealthState::Ok, health.reason.is_none());
            prop_assert_eq!(announced, health.episode_at.is_some());
            prop_assert!(health.probe_at.is_none_or(|probe| probe <= at(now + 300)), "probes continue");
        }
    }
}
