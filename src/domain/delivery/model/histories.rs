//! Generated histories and their checks.

use proptest::collection::vec;
use proptest::prelude::*;

use super::simulation::{Simulation, State};
use super::{Action, Behaviour, History, MAX_RETRY_AFTER};
use crate::domain::delivery::attempt::Stage;
use crate::domain::delivery::outcome::Outcome;

fn any_failure() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (400_u16..600).prop_map(|status| Outcome::ErrorStatus { status }),
        Just(Outcome::ConnectionRefused),
        Just(Outcome::Tls),
        Just(Outcome::Reset),
        prop::sample::select(Stage::ALL.to_vec()).prop_map(|stage| Outcome::TimedOut { stage }),
        Just(Outcome::Unsendable),
    ]
}

fn any_behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        Just(Behaviour::Ok),
        (any_failure(), 0_i64..20).prop_map(|(outcome, takes)| Behaviour::Fails(outcome, takes)),
        (prop_oneof![Just(429_u16), Just(503), Just(500)], 0..MAX_RETRY_AFTER)
            .prop_map(|(status, wait)| Behaviour::Throttles(status, wait)),
        (0_usize..5, 1_usize..4).prop_map(|(from, lanes)| Behaviour::Refuses(from..from + lanes)),
        Just(Behaviour::Flaky),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Pause),
        Just(Action::Resume),
        (0_usize..30).prop_map(Action::Replay),
        (0_u8..3).prop_map(Action::Move),
        Just(Action::Kill),
    ]
}

fn any_history() -> impl Strategy<Value = History> {
    let messages = vec((0_usize..5, 0_i64..600), 1..24);
    let behaviours = vec((0_i64..1200, any_behaviour()), 0..6);
    let actions = vec((0_i64..3000, any_action()), 0..6);
    let memory = prop_oneof![Just(1_000_usize), 1_usize..8];
    (1_u32..9, memory, messages, behaviours, actions).prop_map(
        |(max_in_flight, memory, mut messages, behaviours, actions)| {
            messages.sort_by_key(|(_, made)| *made);
            History { max_in_flight, memory, messages, behaviours, actions }
        },
    )
}

proptest! {
    #[test]
    fn no_message_is_lost_duplicated_overtaken_dead_or_starved(history in any_history()) {
        let mut simulation = Simulation::new(history);
        simulation.run();
        simulation.check();
    }
}

#[test]
fn many_first_attempts_do_not_starve_a_retry() {
    // Two messages a second, each in its own lane; one or two concurrent attempts of a second each.
    for max_in_flight in [1, 2] {
        let mut messages = vec![(0, 0)];
        messages.extend((0..400).map(|n| (n + 1, i64::try_from(n / 2).unwrap())));
        let behaviours = vec![(1, Behaviour::Refuses(0..1))];
        let mut simulation = Simulation::new(History {
            max_in_flight,
            memory: 1_000,
            messages,
            behaviours,
            actions: Vec::new(),
        });
        while simulation.outbox[0].state != State::Delivered {
            simulation.tick();
            simulation.now += 1;
            assert!(simulation.now < 60, "the retry starves");
        }
    }
}

/// Runs `lanes` lanes of one message each that are never accepted, created at once or one in 30 s, and a good message every
/// `every` seconds. All bad messages must become dead. Returns how often the subscriber began to fail, and the longest wait
/// of a good message in seconds.
fn refused(lanes: usize, at_once: bool, every: usize, behaviours: Vec<(i64, Behaviour)>) -> (usize, i64) {
    let lasts: i64 = behaviours.iter().map(|(lasts, _)| lasts).sum();
    let good = (0..lasts).step_by(every).enumerate().map(|(n, made)| (lanes + n, made));
    let bad = (0..lanes).map(|lane| (lane, if at_once { 0 } else { 30 * lane as i64 }));
    let mut messages: Vec<_> = bad.chain(good).collect();
    messages.sort_by_key(|(_, made)| *made);
    let mut simulation = Simulation::new(History {
        max_in_flight: 8,
        memory: 1_000,
        messages,
        behaviours,
        actions: Vec::new(),
    });
    simulation.run();
    simulation.check();
    for delivery in simulation.outbox.iter().filter(|delivery| delivery.lane < lanes) {
        assert_eq!(delivery.state, State::Dead, "{delivery:?}");
    }
    let waited =
        simulation.accepted.iter().map(|(when, message)| when - simulation.history.messages[*message].1);
    (simulation.episodes, waited.max().unwrap())
}

#[test]
fn many_messages_never_accepted_become_dead_and_delay_no_other() {
    for (lanes, at_once) in
        [(1, true), (5, true), (6, true), (10, true), (30, true), (60, true), (10, false), (60, false)]
    {
        for every in [20, 60] {
            let behaviours = vec![(5_400, Behaviour::Refuses(0..lanes))];
            let (episodes, waited) = refused(lanes, at_once, every, behaviours);
            // Of many created at once, fewer than five cause an episode, because earlier ones are retried in between. Each
            // episode costs two probes, after 5 and 10 s: the delivery due longest, and the newest, which is good.
            let many = at_once && lanes > 10;
            let (most, bound) = if many { (lanes / 4, 4 * lanes) } else { (lanes / 5, 60) };
            assert!(episodes <= most, "{lanes} lanes, one good in {every} s: {episodes} episodes");
            let bound = i64::try_from(bound).unwrap();
            assert!(waited < bound, "{lanes} lanes, one good in {every} s: it waited {waited} s");
        }
    }
}

#[test]
fn a_message_never_accepted_becomes_dead_however_often_the_connection_is_refused() {
    // From once per scheduled wait to ten times per wait.
    for ok_seconds in [59, 119, 239, 599] {
        let blip =
            || [(1, Behaviour::Fails(Outcome::ConnectionRefused, 0)), (ok_seconds, Behaviour::Refuses(0..1))];
        let (episodes, _) =
            refused(1, true, 20, (0..3_600 / (ok_seconds + 1)).flat_map(|_| blip()).collect());
        assert!(episodes > 5, "{episodes} episodes");
    }
}
