use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::label::LabelKey;
use crate::domain::polling::label_record::PollState;
use crate::domain::polling::pace::stretch;
use crate::domain::time::later;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
}

fn ms(seconds: i64) -> i64 {
    at(seconds * 1000).as_millisecond()
}

/// Plain model of the order over lists, to compare [`Queues`] with.
mod model {
    use super::*;

    /// A due label: its key, and since when it is due.
    pub type Due = (i64, Timestamp);

    /// The labels of one pace that are due.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Queue {
        pub pace: Pace,
        /// The longest overdue first.
        pub heads: Vec<Due>,
        /// Whether more labels may be due behind the heads.
        pub more: bool,
        /// The newest of the labels without a pace, in any order; they are among the heads or behind them.
        pub newest: Vec<Due>,
    }

    /// Returns up to `count` labels in the order of service from turn `turn` on; there is one turn a request over the
    /// life of an account. The result is shorter if labels behind the heads are needed first.
    pub fn order(queues: &[Queue], turn: u64, now: Timestamp, count: usize) -> Vec<i64> {
        let mut left: Vec<&[Due]> = queues.iter().map(|queue| queue.heads.as_slice()).collect();
        let mut newest: Vec<Due> = queues.iter().flat_map(|queue| queue.newest.iter().copied()).collect();
        newest.sort_unstable_by_key(|(row, due_at)| (*due_at, *row));
        let mut ordered: Vec<i64> = Vec::with_capacity(count);
        let mut taken = HashSet::with_capacity(count);
        while ordered.len() < count {
            let turn = turn + ordered.len() as u64 + 1;
            if turn.is_multiple_of(NEWEST_EVERY)
                && let Some((row, _)) =
                    std::iter::from_fn(|| newest.pop()).find(|(row, _)| !taken.contains(row))
            {
                taken.insert(row);
                ordered.push(row);
                continue;
            }
            let lateness = |index: &usize| queues[*index].pace.lateness(left[*index][0].1, now);
            let waiting = (0..left.len()).filter(|index| !left[*index].is_empty());
            let next = if turn % OLDEST_EVERY == 1 {
                waiting.min_by_key(|index| left[*index][0].1)
            } else {
                waiting.max_by(|a, b| lateness(a).total_cmp(&lateness(b)))
            };
            // The newest are among the heads or behind them.
            let Some(next) = next else { break };
            let (row, _) = left[next][0];
            left[next] = &left[next][1..];
            if taken.insert(row) {
                ordered.push(row);
            }
            if left[next].is_empty() && queues[next].more {
                break;
            }
        }
        ordered
    }
}

/// A population that is polled in turns of one second, at one label a turn.
#[derive(Default)]
struct World {
    queues: Queues,
    /// When it is due and its wait in seconds, by index.
    labels: BTreeMap<u32, (i64, u64)>,
    served: BTreeMap<u32, Vec<i64>>,
}

fn pace(wait: u64) -> Pace {
    if wait == 0 { Pace::NONE } else { Pace::of(Duration::from_secs(wait)) }
}

impl World {
    /// A label that is due at `due` and asks for a poll every `wait` seconds; 0: it was never polled.
    fn plan(&mut self, label: u32, due: i64, wait: u64) {
        self.labels.insert(label, (due, wait));
        self.queues.insert(0, pace(wait), ms(due), label);
    }

    fn turn(&mut self, now: i64) {
        let Some(label) = self.queues.pop(at(now * 1000)) else { return };
        self.served.entry(label).or_default().push(now);
        let (_, wait) = self.labels[&label];
        // A label that was new gets a wait.
        let wait = if wait == 0 { 600 } else { wait };
        self.plan(label, now + wait.cast_signed(), wait);
    }
}

/// A closed population that asks for too much: all waits stretch by about the same factor.
#[test]
fn all_waits_stretch_alike() {
    for each in [45, 60] {
        let mut labels = Vec::new();
        for (class, wait) in [60u64, 120, 300, 900].into_iter().enumerate() {
            labels.extend((0..each).map(|n| ((class * each + n) as u32, (n as i64 * 7) % 900, wait)));
        }
        let demand: f64 = labels.iter().map(|(.., wait)| 1.0 / *wait as f64).sum();
        let mut world = World::default();
        labels.iter().for_each(|(label, due, wait)| world.plan(*label, *due, *wait));
        (0..7_000).for_each(|now| world.turn(now));
        let expected = stretch(demand, 1.0);
        assert!(expected > 1.3);
        for (label, _, wait) in labels.iter().step_by(each) {
            let times = &world.served[label];
            let (from, to) = (times[times.len() / 3], times[times.len() - 1]);
            let waits = (times.len() - 1 - times.len() / 3) as f64;
            let actual = (to - from) as f64 / waits / *wait as f64;
            assert!((actual / expected - 1.0).abs() < 0.2, "{wait} s: {actual:.2} for {expected:.2}");
        }
    }
}

#[test]
fn a_held_group_waits_and_the_others_go_on() {
    let mut queues = Queues::default();
    queues.insert(1, pace(60), ms(-100), 1);
    queues.insert(2, pace(60), ms(-50), 2);
    queues.hold(1, ms(30));
    assert_eq!(queues.next_due_ms(), Some(ms(-50)));
    assert_eq!((queues.pop(at(0)), queues.pop(at(0))), (Some(2), None));
    assert_eq!(queues.next_due_ms(), Some(ms(30)));
    assert_eq!(queues.pop(at(30_000)), Some(1));
    assert_eq!(queues.next_due_ms(), None);
}

/// A machine without a battery for its clock starts in 1970.
#[test]
fn due_times_from_1970_to_2100_are_exact() {
    for seconds in [1, 86_400, 1_577_836_799, 2_677_500_000, 4_102_444_800] {
        let due = Timestamp::from_second(seconds).unwrap();
        let mut queues = Queues::default();
        queues.insert(0, Pace::NONE, due.as_millisecond(), 7);
        assert_eq!(queues.next_due_ms(), Some(due.as_millisecond()));
        assert_eq!(queues.pop(later(due, -SignedDuration::from_millis(1))), None, "{due}");
        assert_eq!(queues.pop(due), Some(7), "{due}");
    }
}

/// A label of UPS with a plain digest.
fn label(row: i64, due_at: Option<Timestamp>, wait_ms: Option<i64>) -> LabelRecord {
    let registered = LabelRecord::registered(at(0));
    let wait = wait_ms.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    let poll_state = PollState {
        next_poll_at: due_at,
        wait,
        pace: wait,
        last_answer_at: Some(at(0)),
        carrier_code: Some("ups".to_owned()),
        answer_digest: Some([7; 32]),
        ..registered.poll_state
    };
    LabelRecord { row, poll_state, ..registered }
}

fn named(id: &str, label: LabelRecord) -> LabelRecord {
    LabelRecord { key: LabelKey { id: id.parse().unwrap(), ..label.key }, ..label }
}

fn put(schedule: &mut Schedule, label: LabelRecord, id: &str) {
    assert!(schedule.put(&named(id, label), None, at(1_000_000)));
}

#[test]
fn a_label_goes_through_the_schedule() {
    let mut schedule = Schedule::default();
    put(&mut schedule, label(5, Some(at(0)), Some(60_000)), "se-324658");
    put(&mut schedule, label(6, Some(at(10)), None), "se-007-a");
    assert_eq!((schedule.len(), schedule.first_poll_count(), schedule.due_count(at(5))), (2, 1, 1));
    assert!((schedule.demand() - 1.0 / 60.0).abs() < 1e-9);
    let index = schedule.pop(at(5)).unwrap();
    assert_eq!(schedule.id(index).as_str(), "se-324658");
    let entry = *schedule.entry(index);
    assert_eq!(schedule.carrier(&entry).as_deref(), Some("ups"));
    assert_eq!(entry.plain_digest(), Some(prefix(&[7; 32])));
    assert_eq!(schedule.pop(at(5)), None, "it is in flight");
    schedule.end_unchanged(index, at(60_000), 60_000, Pace::of(Duration::from_secs(60)), at(6));
    assert_eq!(schedule.entry(schedule.index_of(5).unwrap()).unchanged(), 1);
    assert_eq!(schedule.next_due(), Some(at(10)));
    let odd = schedule.pop(at(10)).unwrap();
    assert_eq!(schedule.id(odd).as_str(), "se-007-a");
    // The registry removes it while it is polled: its index comes free at the end.
    put(&mut schedule, label(6, None, None), "se-007-a");
    assert_eq!(schedule.len(), 2);
    schedule.end(odd);
    assert_eq!((schedule.len(), schedule.pop(at(20)), schedule.index_of(6)), (1, None, None));
    put(&mut schedule, label(9, Some(at(0)), None), "se-9");
    let index = schedule.pop(at(20)).unwrap();
    assert_eq!(schedule.id(index).as_str(), "se-9");
}

#[test]
fn failures_of_labels_are_reset_after_an_outage() {
    let mut schedule = Schedule::default();
    let mut failing = label(1, Some(at(900_000)), Some(900_000));
    failing.poll_state.failures = 1;
    put(&mut schedule, failing, "se-1");
    put(&mut schedule, label(2, Some(at(900_000)), Some(900_000)), "se-2");
    let mut refused = label(3, Some(at(900_000)), Some(900_000));
    refused.poll_state.refusals = 1;
    put(&mut schedule, refused, "se-3");
    schedule.make_failing_due(at(0));
    assert_eq!(schedule.next_due(), Some(at(0)));
    let index = schedule.pop(at(0)).unwrap();
    assert_eq!((schedule.entry(index).row, schedule.pop(at(0))), (1, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Labels are served in the order of the plain model.
    #[test]
    fn the_order_is_that_of_the_model(
        labels in prop::collection::vec((0i64..5_000, prop::sample::select(vec![0u64, 30, 60, 600, 3_600])), 1..60),
        now in 1_000i64..6_000,
    ) {
        let mut queues = Queues::default();
        let mut left: BTreeMap<Pace, BTreeSet<(i64, i64)>> = BTreeMap::new();
        for ((due, wait), label) in labels.iter().zip(0..) {
            queues.insert(0, pace(*wait), ms(*due), label);
            left.entry(pace(*wait)).or_default().insert((*due, i64::from(label)));
        }
        let mut turn = 0;
        loop {
            let lists: Vec<model::Queue> = left.iter().map(|(pace, labels)| {
                let due = |(due, row): &(i64, i64)| (*row, at(due * 1000));
                let heads: Vec<model::Due> = labels.iter().filter(|(due, _)| *due <= now).map(due).collect();
                let newest = if *pace == Pace::NONE { heads.clone() } else { Vec::new() };
                model::Queue { pace: *pace, heads, more: false, newest }
            }).collect();
            let expected = model::order(&lists, turn, at(now * 1000), 1).pop();
            let next = queues.pop(at(now * 1000));
            // Equally late labels may come in any order.
            let due = |label: i64| labels[label as usize];
            prop_assert_eq!(next.map(|label| due(i64::from(label))), expected.map(due));
            let Some(label) = next else { break };
            let (due, wait) = labels[label as usize];
            left.get_mut(&pace(wait)).unwrap().remove(&(due, i64::from(label)));
            turn += 1;
        }
        prop_assert_eq!(queues.due_count(Timestamp::MAX), labels.iter().filter(|(due, _)| *due > now).count());
    }

    /// The demand is the sum of the labels' demands after any sequence of changes.
    #[test]
    fn the_demand_is_the_sum_of_its_parts(
        steps in prop::collection::vec((0i64..20, prop::option::of(1i64..4_000_000_000), 0u8..4), 1..200),
    ) {
        let mut schedule = Schedule::default();
        let mut waits: BTreeMap<i64, i64> = BTreeMap::new();
        for (row, wait, step) in steps {
            match step {
                0 | 1 => {
                    let due = wait.map(|_| at(row));
                    put(&mut schedule, label(row, due, wait), &format!("se-{row}"));
                    match wait {
                        Some(wait) => waits.insert(row, wait),
                        None => waits.remove(&row),
                    };
                }
                2 => if let Some(index) = schedule.pop(at(100)) {
                    let row = schedule.entry(index).row;
                    let wait = wait.unwrap_or(1);
                    let pace = Pace::of(Duration::from_millis(wait.unsigned_abs()));
                    schedule.end_unchanged(index, at(50), wait as u32, pace, at(100));
                    waits.insert(row, wait);
                },
                _ => if let Some(index) = schedule.pop(at(100)) { schedule.end(index) },
            }
            let sum: i64 = waits.values().map(|wait| 1_000_000_000_000 / wait).sum();
            prop_assert_eq!((schedule.demand() * 1e9).round() as i64, sum);
            prop_assert_eq!(schedule.len(), waits.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Under any load, a due label is served within a bounded number of turns.
    #[test]
    fn no_label_starves(
        waits in prop::collection::vec(1u64..100_000, 1..10),
        newcomers in prop::collection::vec(0usize..3, 200),
    ) {
        let mut world = World::default();
        waits.iter().zip(0..).for_each(|(wait, label)| world.plan(label, 0, *wait));
        let first = waits.len();
        // After this many turns, all labels of the start are among the longest overdue.
        let bound = OLDEST_EVERY as usize * (first + 4);
        for turn in 0..bound {
            for _ in 0..newcomers[turn % newcomers.len()] {
                let label = world.labels.len() as u32;
                world.plan(label, turn as i64, (turn % 2) as u64);
            }
            world.turn(turn as i64);
        }
        for label in 0..first as u32 {
            prop_assert!(world.served.contains_key(&label), "{label} was not served in {bound} turns");
        }
    }
}

/// The clock is set back by 90 s, an hour or a day, before a start or while the schedule runs.
#[test]
fn no_label_waits_longer_than_planned_when_the_clock_was_set_back() {
    for back in [90, 3_600, 86_400] {
        let ahead = at(back * 1000);
        let waiting = label(5, Some(later(ahead, SignedDuration::from_secs(60))), Some(60_000));
        let (waiting, never) = (named("se-5", waiting), named("se-6", label(6, Some(ahead), None)));
        let mut running = Schedule::default();
        running.put(&waiting, None, ahead);
        running.put(&never, None, ahead);
        running.hold("ups", later(ahead, SignedDuration::from_secs(30)));
        running.set_back(SignedDuration::from_secs(back), at(0));
        let mut started = Schedule::default();
        started.put(&waiting, None, at(0));
        started.put(&never, None, at(0));
        started.hold("ups", at(30_000));
        for schedule in [&mut running, &mut started] {
            assert_eq!(schedule.pop(at(29_999)), None, "the carrier waits as long as before");
            assert!(schedule.pop(at(30_000)).is_some());
            assert_eq!(schedule.pop(at(59_999)), None);
            assert!(schedule.pop(at(60_000)).is_some());
        }
    }
}
