//! The receivers' side of the ledger, processed by the rules of the README: each message id once, and per label
//! nothing below the highest `trackpost-seq`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::super::callback::{ReceivedCallback, Verified};
use super::facts::{events, fingerprint, hash};
use super::{Violation, ViolationKind};

/// Fields that trackpost adds to a tracking event.
const ADDED_FIELDS: [&str; 6] = ["event_id", "revision", "late", "returned", "previous", "changed"];

/// Totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All received requests, with any answer.
    pub received: usize,
    /// Answered 2xx, without a bad signature.
    pub accepted: usize,
    /// Accepted with a checked, valid signature.
    pub verified: usize,
    /// Answered with another status than 2xx.
    pub refused: usize,
    /// Distinct accepted messages, per subscriber.
    pub unique: usize,
    /// Accepted repetitions of a message by the same subscriber. Delivery is at least once, so they are allowed after a
    /// kill.
    pub repeated: usize,
    pub bad_signatures: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Accepted {
    pub(super) counts: Counts,
    pub(super) subscribers: BTreeMap<String, LedgerSubscriber>,
    pub(super) violations: Vec<Violation>,
    unique: Vec<String>,
    repeated: Vec<String>,
}

/// One path of a receiver.
#[derive(Clone, Debug, Default)]
pub(super) struct LedgerSubscriber {
    /// Body of each message id, over all attempts.
    bodies: HashMap<String, u64>,
    /// Label and `trackpost-seq` of each accepted message.
    pub(super) accepted: HashMap<String, Option<(String, u64)>>,
    positions: HashMap<(String, u64), String>,
    pub(super) labels: BTreeMap<String, LedgerLabel>,
}

/// State of a label at one subscriber.
#[derive(Clone, Debug, Default)]
pub struct LedgerLabel {
    pub callbacks: usize,
    pub highest_seq: u64,
    /// Valid tracking events by id, with their own fields only.
    pub events: BTreeMap<String, Value>,
    /// Ids of all added events, in order, without late ones.
    pub added_ids: Vec<String>,
    /// The API's answer in the latest message that carries it.
    pub answer: Option<Value>,
    pub delivered: bool,
    /// Fingerprint and id of all events ever delivered.
    pub(super) delivered_events: BTreeMap<u64, String>,
    ever_added: HashSet<String>,
}

impl Accepted {
    /// Records a received callback.
    pub fn received(&mut self, callback: &ReceivedCallback) {
        self.counts.received += 1;
        if matches!(callback.verified, Verified::Bad(_)) {
            self.counts.bad_signatures += 1;
            return;
        }
        let Some(id) = &callback.message_id else { return };
        let body = hash(&callback.body);
        let subscriber = self.subscribers.entry(callback.subscriber().to_owned()).or_default();
        if *subscriber.bodies.entry(id.clone()).or_insert(body) != body {
            self.violations.push(Violation::new(
                ViolationKind::Rewritten,
                callback.label_id.as_deref(),
                format!("{id} reached {} with two bodies", callback.subscriber()),
            ));
        }
    }

    /// Records the answer to a callback.
    pub fn record_answer(&mut self, callback: &ReceivedCallback, status: u16) {
        if !(200..300).contains(&status) {
            self.counts.refused += 1;
            return;
        }
        if matches!(callback.verified, Verified::Bad(_)) {
            return;
        }
        self.counts.accepted += 1;
        self.counts.verified += usize::from(callback.verified == Verified::Good);
        let Some(id) = &callback.message_id else { return };
        let name = callback.subscriber();
        let subscriber = self.subscribers.entry(name.to_owned()).or_default();
        let position = callback.label_id.clone().zip(callback.seq);
        if let Some((label, _)) = &position {
            subscriber.labels.entry(label.clone()).or_default().callbacks += 1;
        }
        if subscriber.accepted.insert(id.clone(), position.clone()).is_some() {
            self.counts.repeated += 1;
            self.repeated.push(id.clone());
            return;
        }
        self.counts.unique += 1;
        self.unique.push(id.clone());
        let Some((label, seq)) = position else { return };
        let mut wrong = |kind, text| self.violations.push(Violation::new(kind, Some(label.as_str()), text));
        if let Some(other) = subscriber.positions.insert((label.clone(), seq), id.clone()) {
            wrong(ViolationKind::Duplicated, format!("seq {seq} reached {name} as {other} and as {id}"));
        }
        let view = subscriber.labels.entry(label.clone()).or_default();
        if seq < view.highest_seq {
            let highest = view.highest_seq;
            wrong(ViolationKind::Reordered, format!("seq {seq} ({id}) reached {name} after {highest}"));
            return;
        }
        view.highest_seq = seq;
        // A body that is not JSON is ignored; its content is then reported as missing.
        let body: Value = serde_json::from_slice(&callback.body).unwrap_or_default();
        view.read(&body, &mut wrong);
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the distinct message ids, in order of first acceptance.
    pub fn unique(&self) -> &[String] {
        &self.unique
    }

    /// Returns the ids of messages accepted again, once for each repetition.
    pub fn repeated(&self) -> &[String] {
        &self.repeated
    }

    /// Returns repetitions as violations, for runs without a kill.
    pub fn repetitions(&self) -> impl Iterator<Item = Violation> {
        let repeated =
            |id: &String| Violation::new(ViolationKind::Duplicated, None, format!("{id} was accepted twice"));
        self.repeated.iter().map(repeated)
    }

    /// Returns violations found from the callbacks alone.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    pub fn label(&self, subscriber: &str, label: &str) -> Option<&LedgerLabel> {
        self.subscribers.get(subscriber)?.labels.get(label)
    }

    /// Returns all labels of a subscriber.
    pub fn labels(&self, subscriber: &str) -> impl Iterator<Item = &LedgerLabel> {
        self.subscribers.get(subscriber).into_iter().flat_map(|known| known.labels.values())
    }

    /// Returns the number of tracking events ever delivered to a subscriber.
    pub fn events_of(&self, subscriber: &str) -> usize {
        self.labels(subscriber).map(|view| view.ever_added.len()).sum()
    }
}

impl LedgerLabel {
    fn read(&mut self, body: &Value, wrong: &mut impl FnMut(ViolationKind, String)) {
        let data = &body["data"];
        if body["resource_type"].is_string() {
            self.answer = Some(data.clone());
            return;
        }
        let several = data["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        match body["type"].as_str().unwrap_or_default() {
            "tracking.event.added" => self.add(&data["event"], wrong),
            "tracking.event.revised" => several.iter().for_each(|event| self.hold(event)),
            "tracking.event.retracted" => several.iter().for_each(|event| {
                self.events.remove(&id(event));
            }),
            "tracking.delivered" => self.delivered = true,
            "tracking.updated" => self.update(data, wrong),
            _ => {}
        }
    }

    fn add(&mut self, event: &Value, wrong: &mut impl FnMut(ViolationKind, String)) {
        let id = id(event);
        if !self.ever_added.insert(id.clone()) && event["returned"] != Value::Bool(true) {
            wrong(ViolationKind::Duplicated, format!("event {id} was added twice"));
        }
        // A late scan is about the past.
        if event["late"] != Value::Bool(true) {
            self.added_ids.push(id);
        }
        self.hold(event);
    }

    fn hold(&mut self, event: &Value) {
        let own = own_fields(event);
        self.delivered_events.insert(fingerprint(&own), id(event));
        self.events.insert(id(event), own);
    }

    /// Applies the summary of a poll. A parcel that moves again after its end is reopened in the same poll.
    fn update(&mut self, data: &Value, wrong: &mut impl FnMut(ViolationKind, String)) {
        let ended = |answer: &Value| matches!(answer["status_code"].as_str(), Some("DE" | "SP"));
        let status = |answer: &Value| answer["status_code"].as_str().unwrap_or_default().to_owned();
        let answer = &data["tracking"];
        let changes = data["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let reopened = changes.iter().any(|change| change["type"] == "tracking.reopened");
        let before = self.answer.as_ref();
        // A delivery scan below a newer scan does not start a new journey.
        let beneath = events(answer).iter().any(ended);
        if let Some(before) = before.filter(|before| ended(before) && !status(answer).is_empty())
            && !(ended(answer) || beneath || reopened)
        {
            let (before, after) = (status(before), status(answer));
            wrong(
                ViolationKind::Reordered,
                format!("status {after} came after {before} without tracking.reopened"),
            );
        }
        self.answer = Some(answer.clone());
    }
}

fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap_or_default().to_owned()
}

fn own_fields(event: &Value) -> Value {
    let mut own = event.clone();
    if let Some(fields) = own.as_object_mut() {
        fields.retain(|name, _| !ADDED_FIELDS.contains(&name.as_str()));
    }
    own
}
