//! Histories by chance, and what must hold of each.

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{Done, World};
use super::{Deed, History, LONGEST_ASKED, Mood};
use crate::domain::delivery::outcome::Outcome;

fn any_failure() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        (400_u16..600).prop_map(|status| Outcome::Refused { status }),
        Just(Outcome::ConnectionRefused),
        Just(Outcome::Tls),
        Just(Outcome::Reset),
        any::<bool>().prop_map(|connected| Outcome::TimedOut { connected }),
        Just(Outcome::Unsendable),
    ]
}

fn any_mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        Just(Mood::Well),
        (any_failure(), 0_i64..20).prop_map(|(outcome, takes)| Mood::Fails(outcome, takes)),
        (prop_oneof![Just(429_u16), Just(503), Just(500)], 0..LONGEST_ASKED)
            .prop_map(|(status, wait)| Mood::Throttles(status, wait)),
        (0_usize..5, 1_usize..4).prop_map(|(from, lanes)| Mood::Refuses(from..from + lanes)),
        Just(Mood::Flaky),
    ]
}

fn any_deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        Just(Deed::Pause),
        Just(Deed::Resume),
        (0_usize..30).prop_map(Deed::Replay),
        (0_u8..3).prop_map(Deed::Move),
        Just(Deed::Die),
    ]
}

fn any_history() -> impl Strategy<Value = History> {
    let messages = vec((0_usize..5, 0_i64..600), 1..24);
    let moods = vec((0_i64..1200, any_mood()), 0..6);
    let deeds = vec((0_i64..3000, any_deed()), 0..6);
    let memory = prop_oneof![Just(1_000_usize), 1_usize..8];
    (1_u32..9, memory, messages, moods, deeds).prop_map(
        |(max_in_flight, memory, mut messages, moods, deeds)| {
            messages.sort_by_key(|(_, made)| *made);
            History { max_in_flight, memory, messages, moods, deeds }
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_overtaken_given_up_or_starved(history in any_history()) {
        let mut world = World::new(history);
        world.run();
        world.judge();
    }
}

#[test]
fn a_flood_of_first_attempts_starves_no_retry() {
    // Two a second, for ever, of lanes of their own; room for one or two that take a second each.
    for max_in_flight in [1, 2] {
        let mut messages = vec![(0, 0)];
        messages.extend((0..400).map(|n| (n + 1, i64::try_from(n / 2).unwrap())));
        let moods = vec![(1, Mood::Refuses(0..1))];
        let mut world =
            World::new(History { max_in_flight, memory: 1_000, messages, moods, deeds: Vec::new() });
        while world.outbox[0].state != Done::Delivered {
            world.tick();
            world.now += 1;
            assert!(world.now < 60, "it waits for ever");
        }
    }
}

/// Lanes that are never taken, of a message each, made at once or one in 30 s; meanwhile one of others comes every
/// `every` seconds. In the end all of the former are given up. Returns how often the subscriber fell, and the longest
/// that a good one waited, in seconds.
fn refused(lanes: usize, at_once: bool, every: usize, moods: Vec<(i64, Mood)>) -> (usize, i64) {
    let lasts: i64 = moods.iter().map(|(lasts, _)| lasts).sum();
    let good = (0..lasts).step_by(every).enumerate().map(|(n, made)| (lanes + n, made));
    let bad = (0..lanes).map(|lane| (lane, if at_once { 0 } else { 30 * lane as i64 }));
    let mut messages: Vec<_> = bad.chain(good).collect();
    messages.sort_by_key(|(_, made)| *made);
    let mut world =
        World::new(History { max_in_flight: 8, memory: 1_000, messages, moods, deeds: Vec::new() });
    world.run();
    world.judge();
    for delivery in world.outbox.iter().filter(|delivery| delivery.lane < lanes) {
        assert_eq!(delivery.state, Done::Dead, "{delivery:?}");
    }
    let waited = world.accepted.iter().map(|(when, message)| when - world.history.messages[*message].1);
    (world.falls, waited.max().unwrap())
}

#[test]
fn many_that_are_never_taken_die_and_hold_up_no_other() {
    for (lanes, at_once) in
        [(1, true), (5, true), (6, true), (10, true), (30, true), (60, true), (10, false), (60, false)]
    {
        for every in [20, 60] {
            let moods = vec![(5_400, Mood::Refuses(0..lanes))];
            let (falls, waited) = refused(lanes, at_once, every, moods);
            // Of many made at once, fewer than five bring about a fall, as those of before are tried again between. Each
            // costs two probes, after 5 and after 10 s: the longest due, and the newest, which is a good one.
            let many = at_once && lanes > 10;
            let (most, bound) = if many { (lanes / 4, 4 * lanes) } else { (lanes / 5, 60) };
            assert!(falls <= most, "{lanes} lanes, one good in {every} s: {falls} falls");
            let bound = i64::try_from(bound).unwrap();
            assert!(waited < bound, "{lanes} lanes, one good in {every} s: it waited {waited} s");
        }
    }
}

#[test]
fn one_that_is_never_taken_dies_however_often_the_connection_is_refused() {
    // Once a wait of the schedule, and up to ten times in one.
    for wells in [59, 119, 239, 599] {
        let blip = || [(1, Mood::Fails(Outcome::ConnectionRefused, 0)), (wells, Mood::Refuses(0..1))];
        let (falls, _) = refused(1, true, 20, (0..3_600 / (wells + 1)).flat_map(|_| blip()).collect());
        assert!(falls > 5, "{falls} falls");
    }
}
