use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn queue(wait: Duration, heads: &[(i64, i64)]) -> Queue {
    let heads = heads.iter().map(|(row, ms)| (*row, at(*ms))).collect();
    Queue { pace: Pace::of(wait), heads, more: false, newest: vec![] }
}

#[test]
fn a_pace_is_near_its_wait_and_there_are_few_of_them() {
    let mut paces = std::collections::BTreeSet::new();
    for ms in (1..100_000).chain((100_000..90_000_000).step_by(997)) {
        let pace = Pace::of(Duration::from_millis(ms)).as_millis();
        assert!((pace - ms as i64).unsigned_abs() * 8 <= ms, "{ms} became {pace}");
        paces.insert(pace);
    }
    assert!(paces.len() <= 4 * 27, "{}", paces.len());
    assert_eq!(Pace::of(Duration::ZERO).as_millis(), 1);
}

#[test]
fn the_latest_in_relation_to_its_wait_comes_first() {
    let now = at(0);
    let queues = [
        queue(minutes(60), &[(1, -3_600_000), (2, -60_000)]),
        queue(minutes(20), &[(3, -1_300_000), (4, -600_000)]),
    ];
    assert_eq!(order(&queues, 1, now, 9), [3, 1, 4, 2]);
    assert_eq!(order(&queues, 1, now, 2), [3, 1]);
    assert_eq!(order(&queues, 0, now, 2), [1, 3], "the longest overdue has the first of many turns");
}

#[test]
fn what_is_behind_the_heads_has_to_be_seen_first() {
    let mut short = queue(minutes(20), &[(3, -1_300_000)]);
    short.more = true;
    let queues = [queue(minutes(60), &[(1, -4_000_000), (2, -60_000)]), short];
    assert_eq!(order(&queues, 1, at(0), 9), [1, 3]);
}

#[test]
fn the_newest_have_every_fourth_turn_also_over_several_calls() {
    let fresh = |rows: &[i64]| Queue {
        pace: Pace::NONE,
        heads: rows.iter().map(|row| (*row, at(-1000 * (100 - row)))).collect(),
        more: false,
        newest: rows.iter().map(|row| (*row, at(-1000 * (100 - row)))).collect(),
    };
    let old: Vec<(i64, i64)> = (0..20).map(|row| (row, -9_000_000)).collect();
    let queues = [queue(minutes(20), &old), fresh(&[21, 22, 23, 24])];
    assert_eq!(order(&queues, 0, at(0), 8), [0, 1, 2, 24, 3, 4, 5, 23]);
    let one_by_one: Vec<i64> = (0..8).flat_map(|turn| order(&queues, turn, at(0), 1)).collect();
    assert_eq!(one_by_one, [0, 0, 0, 24, 0, 0, 0, 24]);
    let alone = order(&[fresh(&[21, 22, 23, 24])], 0, at(0), 9);
    assert_eq!(alone, [21, 22, 23, 24], "each once");
}

#[test]
fn the_factor_and_when_it_is_told() {
    assert_eq!(stretch(1.0, 2.0), 1.0);
    assert_eq!(stretch(3.0, 2.0), 1.5);
    assert_eq!(stretch(0.0, 0.0), f64::INFINITY);
    let mut told = 1.0;
    let said: Vec<f64> = [1.0, 1.04, 1.1, 1.2, 1.02, 1.38, 1.3, 1.0, 1.01, f64::INFINITY, 2.0, 2.4, 1.6]
        .into_iter()
        .filter(|stretch| {
            let tell = is_worth_telling(told, *stretch);
            told = if tell { *stretch } else { told };
            tell
        })
        .collect();
    assert_eq!(said, [1.1, 1.38, 1.0, f64::INFINITY, 2.0, 1.6]);
}

#[test]
fn what_is_to_be_expected() {
    let wait = Some(minutes(60));
    assert_eq!(expected_at(at(0), wait, 1.0, None), at(0));
    assert_eq!(expected_at(at(0), wait, 1.5, None), at(1_800_000));
    assert_eq!(expected_at(at(0), None, 1.5, None), at(0));
    assert_eq!(expected_at(at(0), wait, 1.5, Some(at(60_000))), at(1_800_000));
    assert_eq!(expected_at(at(0), wait, f64::INFINITY, Some(at(9_000_000))), at(9_000_000));
}

/// A population that is polled in turns of one second, at one label a turn.
#[derive(Default)]
struct World {
    /// When it is due and its wait in seconds, by key.
    labels: BTreeMap<i64, (i64, u64)>,
    /// By pace, when they are due and their keys.
    planned: BTreeMap<Pace, BTreeSet<(i64, i64)>>,
    served: BTreeMap<i64, Vec<i64>>,
}

impl World {
    /// A label that is due at `due` and asks for a look every `wait` seconds; 0: it was never looked at.
    fn plan(&mut self, row: i64, due: i64, wait: u64) {
        let pace = if wait == 0 { Pace::NONE } else { Pace::of(Duration::from_secs(wait)) };
        self.labels.insert(row, (due, wait));
        self.planned.entry(pace).or_default().insert((due, row));
    }

    fn queues(&self, now: i64) -> Vec<Queue> {
        let due = |(due, row): &(i64, i64)| (*row, at(due * 1000));
        let queues = self.planned.iter().map(|(pace, planned)| {
            let planned = planned.range(..(now + 1, i64::MIN));
            let newest = planned.clone().rev().take(3).filter(|_| *pace == Pace::NONE);
            let (heads, newest) = (planned.clone().take(3).map(due).collect(), newest.map(due).collect());
            Queue { pace: *pace, heads, more: planned.count() > 3, newest }
        });
        queues.collect()
    }

    fn turn(&mut self, now: i64) {
        let Some(row) = order(&self.queues(now), now.unsigned_abs(), at(now * 1000), 1).pop() else { return };
        self.served.entry(row).or_default().push(now);
        let (due, wait) = self.labels[&row];
        self.planned.values_mut().for_each(|planned| drop(planned.remove(&(due, row))));
        // Whoever was new goes on at some pace.
        let wait = if wait == 0 { 600 } else { wait };
        self.plan(row, now + wait.cast_signed(), wait);
    }
}

/// A closed population that asks for too much: all waits stretch by about the same factor.
#[test]
fn all_waits_stretch_alike() {
    for each in [45, 60] {
        let mut labels = Vec::new();
        for (class, wait) in [60u64, 120, 300, 900].into_iter().enumerate() {
            labels.extend((0..each).map(|n| ((class * each + n) as i64, (n as i64 * 7) % 900, wait)));
        }
        let asked: f64 = labels.iter().map(|(.., wait)| 1.0 / *wait as f64).sum();
        let mut world = World::default();
        labels.iter().for_each(|(row, due, wait)| world.plan(*row, *due, *wait));
        (0..7_000).for_each(|now| world.turn(now));
        let expected = stretch(asked, 1.0);
        assert!(expected > 1.3);
        for (row, _, wait) in labels.iter().step_by(each) {
            let times = &world.served[row];
            let (from, to) = (times[times.len() / 3], times[times.len() - 1]);
            let waits = (times.len() - 1 - times.len() / 3) as f64;
            let actual = (to - from) as f64 / waits / *wait as f64;
            assert!((actual / expected - 1.0).abs() < 0.2, "{wait} s: {actual:.2} for {expected:.2}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever comes in, and however much: a label that is due is served within bounded turns.
    #[test]
    fn nobody_starves(
        waits in prop::collection::vec(1u64..100_000, 1..10),
        newcomers in prop::collection::vec(0usize..3, 200),
    ) {
        let mut world = World::default();
        waits.iter().zip(0..).for_each(|(wait, row)| world.plan(row, 0, *wait));
        let first = waits.len();
        // Everybody who was there at the start is among the longest overdue after so many turns.
        let bound = OLDEST_EVERY as usize * (first + 4);
        for turn in 0..bound {
            for _ in 0..newcomers[turn % newcomers.len()] {
                let row = world.labels.len() as i64;
                world.plan(row, turn as i64, (turn % 2) as u64);
            }
            world.turn(turn as i64);
        }
        for row in 0..first as i64 {
            prop_assert!(world.served.contains_key(&row), "{row} of {first} was not served in {bound} turns");
        }
    }

    /// The sum kept in whole numbers is that of its parts, whatever comes and goes, and near the true one.
    #[test]
    fn the_sum_is_kept_exactly(steps in prop::collection::vec((0usize..30, 1u64..10_000_000_000), 1..300)) {
        let mut waits = [None; 30];
        let mut kept = 0i64;
        for (label, ms) in steps {
            let wait = (ms % 3 > 0).then_some(Duration::from_millis(ms));
            kept += wait.map_or(0, nanohertz) - waits[label].map_or(0, nanohertz);
            waits[label] = wait;
            prop_assert!(kept >= 0);
        }
        prop_assert_eq!(kept, waits.iter().flatten().copied().map(nanohertz).sum::<i64>());
        let truth: f64 = waits.iter().flatten().map(|wait| 1.0 / wait.as_secs_f64()).sum();
        prop_assert!((kept as f64 / 1e9 - truth).abs() <= 30.0 / 1e9);
    }
}
