//! Answers of the API about one label, one after the other: parser, diff, plan and messages.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde::de::IgnoredAny;
use trackpost::domain::clock::Gaps;
use trackpost::domain::digest;
use trackpost::domain::label::LabelKey;
use trackpost::domain::messages::envelope::{render, tracking_of};
use trackpost::domain::messages::subscriber::Format;
use trackpost::domain::messages::{Message, MessageType};
use trackpost::domain::polling::label_record::{LabelRecord, PollState};
use trackpost::domain::polling::learning::LearnedRates;
use trackpost::domain::polling::poll::{PollContext, PollPlan, plan};
use trackpost::domain::tracking::matching::{Fingerprint, KnownEvent};
use trackpost::domain::tracking::reading::Reading;
use trackpost::domain::tracking::{Tracking, replace_lone_surrogates};

const MOST_ANSWERS: usize = 6;

pub fn seeds() -> Vec<Vec<u8>> {
    super::journeys().iter().map(|answers| super::join(&answers[..answers.len().min(MOST_ANSWERS)])).collect()
}

pub fn check(input: &[u8]) {
    let mut label = Label::new();
    for answer in super::parts(input, MOST_ANSWERS) {
        label.poll_repeatedly(answer);
    }
}

/// A label and its history, as the store keeps them.
struct Label {
    record: LabelRecord,
    known: Vec<KnownEvent>,
    now: Timestamp,
}

impl Label {
    fn new() -> Self {
        let now = "2030-03-04T12:00:00Z".parse().unwrap();
        let key = LabelKey { account: super::account().name.clone(), id: "se-1".parse().unwrap() };
        let record = LabelRecord {
            row: 1,
            key,
            metadata: Default::default(),
            version: 1,
            registered_at: now,
            poll_state: PollState::new(now),
            recent_polls: "[]".to_owned(),
        };
        Self { record, known: Vec::new(), now }
    }

    /// The second poll may retract missing events; later polls with the same answer change nothing.
    fn poll_repeatedly(&mut self, answer: &[u8]) {
        let tracking = match Tracking::parse(answer) {
            Ok(tracking) => tracking,
            Err(error) => {
                let before = self.known.clone();
                self.poll(&Reading::Garbled { status: 200, detail: error.to_string() });
                assert_eq!(self.known, before, "a garbled answer changes no history");
                return;
            }
        };
        assert!(std::str::from_utf8(answer).unwrap().contains(&tracking.raw));
        let tracking = Box::new(tracking);
        let reading = Reading::Answer { tracking: tracking.clone(), digest: digest::of_bytes(answer) };
        for repetition in 0..3 {
            let found = self.poll(&reading);
            self.check_history(&tracking);
            let of_events = |message: &&Message| message.kind.is_made_by_polls();
            let changes: Vec<_> =
                found.messages.iter().filter(of_events).map(|message| message.kind.as_str()).collect();
            match repetition {
                0 => assert!(changes.is_empty() || changes.last() == Some(&MessageType::Updated.as_str())),
                1 => assert!(!changes.contains(&"tracking.event.added"), "announced again: {changes:?}"),
                _ => assert!(changes.is_empty(), "the same answer a third time: {changes:?}"),
            }
        }
    }

    fn poll(&mut self, reading: &Reading) -> PollPlan {
        self.now += SignedDuration::from_hours(6);
        let config = super::config();
        let subscribers: Vec<_> = config.subscribers.values().cloned().collect();
        let context = PollContext {
            cadence: &config.cadence,
            rates: &LearnedRates::default(),
            first_poll: config.first_poll,
            alerts: &config.alerts,
            subscribers: &subscribers,
            resource_url: "https://api.example/v2/labels/se-1/track",
            account_not_ok: false,
            sent_at: self.now,
            gaps: &Gaps::default(),
        };
        let plan = plan(&context, &self.record, &self.known, reading, self.now, 0.0);
        self.check_messages(&plan, reading);
        for update in &plan.events.updated {
            let known = self.known.iter_mut().find(|known| known.event_id == update.record.event_id);
            *known.expect("only known events are updated") = update.record.clone();
        }
        self.known.extend(plan.events.added.iter().cloned());
        self.record.poll_state = plan.poll_state.clone();
        plan
    }

    /// No event is lost, and none shares its id.
    fn check_history(&self, tracking: &Tracking) {
        let present = |event: &&KnownEvent| !event.retracted && !event.fell_off && event.missing_polls == 0;
        if !tracking.events.is_empty() {
            assert_eq!(self.known.iter().filter(present).count(), tracking.events.len(), "events are lost");
        }
        let ids: HashSet<_> = self.known.iter().map(|event| event.event_id).collect();
        assert_eq!(ids.len(), self.known.len(), "an event id twice");
        for event in &self.known {
            assert_eq!(event.fingerprint(), Some(Fingerprint::of(&event.raw)), "{}", event.raw);
        }
        let missing = self.known.iter().filter(|event| event.missing_polls > 0 && !event.retracted).count();
        assert_eq!(self.record.poll_state.missing_events as usize, missing, "missing events");
    }

    fn check_messages(&self, plan: &PollPlan, reading: &Reading) {
        let added = plan.messages.iter().filter(|message| message.kind == MessageType::EventAdded).count();
        assert!(added >= plan.events.added.len(), "a new event without a message");
        let ids: HashSet<_> = plan.messages.iter().map(|message| &message.id).collect();
        assert_eq!(ids.len(), plan.messages.len(), "a message id twice");
        let mut seq = self.record.poll_state.last_seq;
        for message in &plan.messages {
            assert!(message.seq.is_some_and(|next| next > seq), "seq falls");
            seq = message.seq.unwrap_or(seq);
            check_json(&message.body);
            if message.kind != MessageType::Updated {
                continue;
            }
            let Reading::Answer { tracking, .. } = reading else { panic!("a summary without an answer") };
            let sent = tracking_of(&message.body).map(|raw| raw.get());
            assert_eq!(sent, Some(&*tracking.raw), "the answer is not passed on byte for byte");
            for format in [Format::Shipstation, Format::Shipengine] {
                check_json(&render(format, &message.body, message.resource_url.as_deref()).unwrap());
            }
        }
        let messages = plan.messages.len();
        assert!(plan.deliveries.iter().all(|delivery| delivery.message < messages));
    }
}

/// Lone surrogates are kept as received; serde refuses them.
fn check_json(text: &str) {
    let parsed = serde_json::from_str::<IgnoredAny>(&replace_lone_surrogates(text));
    assert!(parsed.is_ok(), "not JSON: {text}");
}
