//! A daemon that is restored from a backup, or starts with an empty database, and a receiver that keeps ids and the
//! highest `seq` per label: the receiver misses nothing and processes nothing twice.
//!
//! One case is left out, because ids do not help: an answer that was announced after the backup and that the API takes
//! back before the next poll.

use crate::domain::messages::MessageType;
use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

impl Life {
    /// Returns the label as a backup holds it, with today's configuration.
    fn copy(&self) -> Self {
        Self { label: self.label.clone(), known: self.known.clone(), ids: self.ids.clone(), ..Self::new() }
    }
}

/// Keeps ids and the highest `seq`, as the README asks receivers to.
#[derive(Default)]
struct Receiver {
    ids: HashSet<String>,
    highest: i64,
    /// `data.tracking` of the last `tracking.updated`.
    latest: Option<Value>,
    /// Number of `tracking.event.added` of each event, and of each milestone of each event.
    added: HashMap<String, usize>,
    milestones: HashMap<(MessageType, String), usize>,
}

impl Receiver {
    fn receive(&mut self, plan: &PollPlan) {
        for message in &plan.messages {
            let seq = message.seq.unwrap();
            assert!(seq > self.highest, "a receiver ignores a lower seq");
            self.highest = seq;
            if !self.ids.insert(message.id.clone()) {
                continue;
            }
            let body: Value = serde_json::from_str(&message.body).unwrap();
            let event_id = body["data"]["event"]["event_id"].as_str().map(str::to_owned);
            match (message.kind, event_id) {
                (MessageType::Updated, _) => self.latest = Some(body["data"]["tracking"].clone()),
                (MessageType::EventAdded, Some(id)) => *self.added.entry(id).or_default() += 1,
                (kind, Some(id)) => *self.milestones.entry((kind, id)).or_default() += 1,
                _ => {}
            }
        }
    }
}

/// Change of a parcel between two answers.
#[derive(Clone, Debug)]
enum Turn {
    Scan(&'static str, &'static str),
    /// A scan older than the newest.
    Backfill,
    Enrich(usize),
    Refine(usize),
    Estimate,
}

fn a_turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => proptest::sample::select(&[
            ("IT", "IN_TRANSIT"), ("IT", "OUT_FOR_DELIVERY"), ("EX", "CARRIER_DELAYS"), ("AT", ""), ("DE", "DELIVERED"), ("SP", ""),
        ][..]).prop_map(|(status, detail)| Turn::Scan(status, detail)),
        1 => Just(Turn::Backfill),
        1 => (0..8_usize).prop_map(Turn::Enrich),
        1 => (0..8_usize).prop_map(Turn::Refine),
        1 => Just(Turn::Estimate),
    ]
}

#[derive(Clone)]
struct Scan {
    day: usize,
    hour: usize,
    status: &'static str,
    detail: &'static str,
    signer: usize,
    minute: usize,
}

/// Returns the answers of a parcel over time. All differ.
fn answers(turns: &[Turn]) -> Vec<String> {
    let mut scans: Vec<Scan> = Vec::new();
    let mut estimate = 0;
    let mut answers = vec![tracking("AC", "", "null", &[])];
    for (turn, what) in turns.iter().enumerate() {
        let fresh = |day, hour, status, detail| Scan { day, hour, status, detail, signer: 0, minute: 0 };
        match what {
            Turn::Scan(status, detail) => scans.push(fresh(2 + turn, 9, status, detail)),
            Turn::Backfill => scans.insert(0, fresh(1, turn, "IT", "")),
            Turn::Enrich(which) => match scans.len() {
                0 => continue,
                count => scans[which % count].signer = turn + 1,
            },
            Turn::Refine(which) => match scans.len() {
                0 => continue,
                // Within the few minutes that may be a refinement of each other, and never as before.
                count => scans[which % count].minute = turn + 1,
            },
            Turn::Estimate => estimate = turn + 1,
        }
        let event = |scan: &Scan| {
            format!(
                r#"{{"carrier_occurred_at":"2026-11-{:02}T{:02}:{:02}:00","city_locality":"Town {} {}","event_code":"C","status_code":"{}","status_detail_code":"{}","signer":{}}}"#,
                scan.day, scan.hour, scan.minute, scan.day, scan.hour, scan.status, scan.detail, scan.signer
            )
        };
        let newest = scans.last().map_or(("AC", ""), |scan| (scan.status, scan.detail));
        let estimate = if estimate == 0 { "null".to_owned() } else { format!("\"2026-12-{estimate:02}\"") };
        let events: Vec<String> = scans.iter().rev().map(event).collect();
        answers.push(tracking(newest.0, newest.1, &estimate, &events));
    }
    answers
}

/// Returns the answers of `all` that are polled, in order. The last is always polled.
fn polled<'a>(all: &'a [String], skip: &[bool]) -> Vec<&'a String> {
    let last = all.len().saturating_sub(1);
    let wanted =
        all.iter().enumerate().filter(|(at, _)| *at == last || !skip.get(*at).copied().unwrap_or(false));
    wanted.map(|(_, answer)| answer).collect()
}

proptest! {
    #[test]
    fn after_a_restore_a_receiver_has_the_last_answer_and_each_event_once(
        turns in vec(a_turn(), 1..10),
        skipped_before in vec(any::<bool>(), 13),
        skipped_after in vec(any::<bool>(), 13),
        backup in 0..13_usize,
        lost in 0..13_usize,
        empty in any::<bool>(),
        sees_all_again in any::<bool>(),
    ) {
        let all = answers(&turns);
        let lost = 1 + lost % all.len();
        let before = polled(&all[..lost], if sees_all_again { &[] } else { &skipped_before });
        let backup = if empty { 0 } else { backup % (before.len() + 1) };
        let mut receiver = Receiver::default();
        let (mut life, mut copy, mut hours) = (Life::new(), Life::new(), 0);
        for (nth, answer) in before.iter().enumerate() {
            if nth == backup {
                copy = life.copy();
            }
            hours += 1;
            receiver.receive(&life.answer(answer, hours));
        }
        if backup >= before.len() {
            copy = life.copy();
        }
        // The parcel has moved meanwhile: the API's answer is at least as new as its last one, unless all answers since the
        // backup were announced.
        let from = if sees_all_again { backup } else { lost - 1 };
        for answer in polled(&all[from..], &skipped_after) {
            hours += 1;
            receiver.receive(&copy.answer(answer, hours));
        }
        let last: Value = serde_json::from_str(all.last().unwrap()).unwrap();
        prop_assert_eq!(receiver.latest.as_ref(), Some(&last));
        for event in &copy.known {
            prop_assert_eq!(receiver.added.get(&event.event_id.to_string()), Some(&1), "{}", event.raw);
        }
        prop_assert!(receiver.milestones.values().all(|count| *count == 1), "{:?}", receiver.milestones);
    }
}

#[test]
fn messages_of_one_poll_have_the_ids_of_messages_of_many_polls() {
    let turns = [
        Turn::Scan("IT", "IN_TRANSIT"),
        Turn::Scan("EX", "CARRIER_DELAYS"),
        Turn::Scan("IT", "OUT_FOR_DELIVERY"),
        Turn::Scan("DE", "DELIVERED"),
    ];
    let all = answers(&turns);
    let ids = |plan: &PollPlan| -> HashMap<String, MessageType> {
        plan.messages.iter().map(|message| (message.id.clone(), message.kind)).collect()
    };
    let mut life = Life::new();
    let mut one_by_one = HashMap::new();
    for (hours, answer) in (0..).zip(&all) {
        one_by_one.extend(ids(&life.answer(answer, hours)));
    }
    let together = ids(&Life::new().answer(all.last().unwrap(), 40));
    let new: Vec<_> =
        together.iter().filter(|(id, _)| !one_by_one.contains_key(*id)).map(|(_, kind)| kind).collect();
    assert_eq!(
        new,
        [&MessageType::StatusChanged],
        "no earlier poll changed the status from none to delivered"
    );
    assert_eq!(together.len(), 4 + 1 + 3 + 1);
}
