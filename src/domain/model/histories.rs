//! Histories by chance, and what must hold of each.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Deed, Done, History, LONGEST_ASKED, Mood, World};
use crate::domain::delivery::Outcome;

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
        (0_usize..5).prop_map(Mood::Refuses),
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
    (1_u32..9, messages, moods, deeds).prop_map(|(max_in_flight, mut messages, moods, deeds)| {
        messages.sort_by_key(|(_, made)| *made);
        History { max_in_flight, messages, moods, deeds }
    })
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
    // Two a second, for ever, of lanes of their own; room for two that take a second each.
    let mut messages = vec![(0, 0)];
    messages.extend((0..400).map(|n| (n + 1, i64::try_from(n / 2).unwrap())));
    let moods = vec![(1, Mood::Refuses(0))];
    let mut world = World::new(History { max_in_flight: 2, messages, moods, deeds: Vec::new() });
    while world.outbox[0].state != Done::Delivered {
        world.tick();
        world.now += 1;
        assert!(world.now < 60, "it waits for ever");
    }
}
