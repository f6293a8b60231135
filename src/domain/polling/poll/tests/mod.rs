mod alerts;
mod clocks;
mod failures;
mod milestones;
mod restores;

use crate::domain::messages::MessageType;
use crate::domain::messages::subscriber::{Format, SubscriberName};
use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::domain::digest;
use crate::domain::messages::repeated_id;
use crate::domain::messages::subscriber::EventPattern;
use crate::domain::polling::cadence::{Row, RowName};
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;
use crate::domain::tracking::{StatusCode, Tracking};

const HOUR: Duration = Duration::from_secs(3600);

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
}

/// A label's life, poll by poll, as the store would keep it.
struct Life {
    cadence: Cadence,
    alerts: AlertSettings,
    first_poll: FirstPoll,
    subscribers: Vec<Subscriber>,
    label: LabelRecord,
    known: Vec<KnownEvent>,
    /// The ids of all messages that are kept.
    ids: HashSet<String>,
    gaps: Gaps,
}

impl Life {
    fn new() -> Self {
        let row = Row { intervals: vec![HOUR * 3], slow_after: vec![], hours: None, learn: false };
        let rows: BTreeMap<RowName, Row> = RowName::ALL.into_iter().map(|name| (name, row.clone())).collect();
        Self {
            cadence: Cadence { rows, give_up_after: HOUR * 24 * 60, settle: vec![] },
            alerts: AlertSettings::default(),
            first_poll: FirstPoll::Deliver,
            subscribers: vec![
                subscriber("all", Format::Standard, "*"),
                subscriber("native", Format::Shipstation, "tracking.delivered"),
            ],
            label: LabelRecord::registered(at(0)),
            known: Vec::new(),
            ids: HashSet::new(),
            gaps: Gaps::default(),
        }
    }

    fn read(&mut self, reading: &Reading, now: Timestamp) -> PollPlan {
        let rates = LearnedRates::default();
        let context = PollContext {
            rates: &rates,
            cadence: &self.cadence,
            alerts: &self.alerts,
            first_poll: self.first_poll,
            subscribers: &self.subscribers,
            resource_url: "https://api.example/v2/labels/se-1/track",
            account_not_ok: false,
            sent_at: now,
            gaps: &self.gaps,
        };
        let mut plan = plan(&context, &self.label, &self.known, reading, now, 0.0);
        for message in &mut plan.messages {
            let first = message.id.clone();
            let mut repetitions = 1..;
            while !self.ids.insert(message.id.clone()) {
                message.id = repeated_id(&first, repetitions.next().unwrap());
            }
        }
        for change in &plan.events.updated {
            let id = change.record.event_id;
            let known = self.known.iter_mut().find(|event| event.event_id == id).expect("it was known");
            *known = change.record.clone();
        }
        self.known.extend(plan.events.added.iter().cloned());
        self.label.poll_state = plan.poll_state.clone();
        plan
    }

    fn answer(&mut self, json: &str, hours: i64) -> PollPlan {
        self.read(&answer(json), at(hours))
    }

    fn refusal(&mut self, hours: i64) -> PollPlan {
        self.read(&Reading::Refused { status: 404, detail: "not_found".to_owned() }, at(hours))
    }
}

fn subscriber(name: &str, format: Format, pattern: &str) -> Subscriber {
    Subscriber {
        name: SubscriberName::new(name),
        url: Hidden::new("https://example.com".to_owned()),
        secrets: vec![],
        format,
        events: vec![EventPattern::parse(pattern).unwrap()],
        accounts: vec![],
        headers: vec![],
        rsa_key: None,
        hmac_header: None,
        timeout: HOUR,
        max_in_flight: 1,
        retry: vec![HOUR],
        allow_insecure: false,
        roots: vec![],
        identity: None,
        proxies: Proxies::default(),
        enabled: true,
        shown_url: String::new(),
    }
}

fn answer(json: &str) -> Reading {
    let tracking = Tracking::parse(json.as_bytes()).unwrap();
    Reading::Answer { tracking: Box::new(tracking), digest: digest::of_bytes(json.as_bytes()) }
}

fn scan(hour: u32, code: &str, status: &str, detail: &str) -> String {
    format!(
        r#"{{"occurred_at":"2026-11-01T{hour:02}:00:00Z","carrier_occurred_at":"2026-11-01T{hour:02}:00:00","description":"{code}","city_locality":"RENO","event_code":"{code}","status_code":"{status}","status_detail_code":"{detail}"}}"#
    )
}

fn tracking(status: &str, detail: &str, estimate: &str, events: &[String]) -> String {
    format!(
        r#"{{"tracking_number":"1Z","status_code":"{status}","status_detail_code":"{detail}","carrier_code":"ups","estimated_delivery_date":{estimate},"events":[{}]}}"#,
        events.join(",")
    )
}

fn kinds(plan: &PollPlan) -> Vec<&'static str> {
    plan.messages.iter().map(|message| message.kind.as_str().trim_start_matches("tracking.")).collect()
}

#[test]
fn a_label_from_the_first_poll_to_the_delivery() {
    let mut life = Life::new();
    let (first, second) = (scan(8, "OA", "AC", "PICKED_UP"), scan(9, "OF", "IT", "OUT_FOR_DELIVERY"));
    let third = scan(12, "01", "DE", "DELIVERED");

    let nothing = life.answer(&tracking("NY", "", "null", &[]), 0);
    assert_eq!((kinds(&nothing), nothing.poll_state.last_seq), (vec![], 0));

    let accepted =
        life.answer(&tracking("AC", "PICKED_UP", "\"2026-11-03T00:00:00\"", std::slice::from_ref(&first)), 1);
    assert_eq!(kinds(&accepted), ["event.added", "estimate.changed", "status.changed", "updated"]);
    let noticed = at(1).as_millisecond();
    assert_eq!(accepted.messages.iter().map(|m| m.seq.unwrap() - noticed).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(accepted.deliveries.len(), 4, "the native format selects deliveries only");

    let out = life.answer(
        &tracking("it", "OUT_FOR_DELIVERY", "\"2026-11-03T20:00:00Z\"", &[second.clone(), first.clone()]),
        2,
    );
    assert_eq!(kinds(&out), ["event.added", "status.changed", "out_for_delivery", "updated"]);

    let done = life.answer(&tracking("DE", "DELIVERED", "null", &[third, second, first]), 3);
    assert_eq!(kinds(&done), ["event.added", "estimate.changed", "status.changed", "delivered", "updated"]);
    assert_eq!((done.poll_state.state, done.poll_state.next_poll_at), (LabelState::Finished, None));
    let native: Vec<_> =
        done.deliveries.iter().filter(|delivery| delivery.format == Format::Shipstation).collect();
    assert_eq!(native.len(), 1);
    assert_eq!(done.messages[native[0].message].kind, MessageType::Updated);
}

#[test]
fn an_exception_under_a_newer_scan_makes_a_message_and_ends_nothing() {
    let mut life = Life::new();
    let (first, bad, later) = (
        scan(8, "OA", "AC", "PICKED_UP"),
        scan(9, "DE", "EX", "CARRIER_DELAYS"),
        scan(10, "AR", "IT", "IN_TRANSIT"),
    );
    life.answer(&tracking("AC", "PICKED_UP", "null", std::slice::from_ref(&first)), 0);
    let plan = life.answer(&tracking("IT", "IN_TRANSIT", "null", &[later, bad, first]), 1);
    assert_eq!(kinds(&plan), ["event.added", "event.added", "status.changed", "exception", "updated"]);
    assert_eq!(plan.poll_state.state, LabelState::Active);
}

#[test]
fn a_finished_label_that_moves_is_reopened() {
    let mut life = Life::new();
    let done = scan(9, "01", "DE", "DELIVERED");
    life.answer(&tracking("DE", "DELIVERED", "null", std::slice::from_ref(&done)), 0);
    let same = life.read(&Reading::SameBytes, at(1));
    assert_eq!((kinds(&same), same.poll_state.state), (vec![], LabelState::Finished));
    let next_day = scan(10, "AR", "IT", "").replace("-01T", "-02T");
    let again = life.answer(&tracking("IT", "IN_TRANSIT", "null", &[next_day, done]), 2);
    assert_eq!(kinds(&again), ["event.added", "status.changed", "reopened", "updated"]);
    assert_eq!(again.poll_state.state, LabelState::Active);
    assert!(again.poll_state.next_poll_at.is_some());
}

#[test]
fn a_null_status_keeps_the_last_one() {
    let mut life = Life::new();
    let done = scan(9, "01", "DE", "DELIVERED");
    life.answer(&tracking("DE", "DELIVERED", "null", std::slice::from_ref(&done)), 0);
    let silent = life.answer(&format!(r#"{{"status_code":null,"events":[{done}]}}"#), 1);
    assert_eq!((kinds(&silent), silent.poll_state.state), (vec![], LabelState::Finished));
}

#[test]
fn a_baseline_is_recorded_without_messages() {
    let mut life = Life { first_poll: FirstPoll::Baseline, ..Life::new() };
    let (first, second) = (scan(8, "OA", "AC", "PICKED_UP"), scan(9, "AR", "IT", "IN_TRANSIT"));
    let silent = life.answer(&tracking("AC", "PICKED_UP", "null", std::slice::from_ref(&first)), 0);
    assert_eq!((kinds(&silent), silent.events.added.len()), (vec![], 1));
    let second_poll = life.answer(&tracking("IT", "IN_TRANSIT", "null", &[second, first]), 1);
    assert_eq!(kinds(&second_poll), ["event.added", "status.changed", "updated"]);
    assert_eq!(second_poll.messages[0].seq, Some(at(1).as_millisecond()));
}

#[test]
fn the_same_facts_in_another_spelling_make_no_message() {
    let mut life = Life::new();
    let events = [scan(9, "AR", "IT", "IN_TRANSIT"), scan(8, "OA", "AC", "PICKED_UP")];
    life.answer(&tracking("IT", "IN_TRANSIT", "null", &events), 0);
    let reordered = [events[1].clone(), events[0].replace("RENO", "Reno").replace('}', ",\"signer\":\"\"}")];
    let plan = life.answer(&tracking("it", "in_transit", "\"\"", &reordered), 1);
    assert_eq!((kinds(&plan), plan.poll_state.unchanged), (vec![], 1));
}

#[test]
fn ids_depend_on_content_not_on_time() {
    let ids_at = |hours| {
        let mut life = Life::new();
        let plan = life.answer(&tracking("AC", "", "null", &[scan(8, "OA", "AC", "PICKED_UP")]), hours);
        plan.messages.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(ids_at(1), ids_at(30));
    assert!(ids_at(1).iter().all(|id| id.starts_with("msg_") && !id.contains('.')));
}

#[test]
fn a_repetition_has_its_own_id_and_another_spelling_does_not() {
    let events = [scan(9, "AR", "IT", "IN_TRANSIT"), scan(8, "OA", "AC", "PICKED_UP")];
    let said = |status: &str| tracking(status, "IN_TRANSIT", "null", &events);
    let mut life = Life::new();
    let mut ids = Vec::new();
    for (hours, status) in (0..).zip(["IT", "UN", "IT", "UN", "IT", "UN"]) {
        ids.extend(life.answer(&said(status), hours).messages.into_iter().map(|message| message.id));
    }
    let unlike: HashSet<_> = ids.iter().collect();
    assert_eq!((ids.len(), unlike.len()), (4 + 5 * 2, 14), "none has another's id");
    // The same parcel in another spelling and with polls at other times.
    let mut again = Life::new();
    let mut same = Vec::new();
    for (hours, status) in (7..).zip(["it", "un", " it", "UN", "IT", "un"]) {
        let words =
            said(status).replace("\"city_locality\":\"RENO\"", "\"signer\":\"\",\"city_locality\":\"Reno\"");
        same.extend(again.answer(&words, hours).messages.into_iter().map(|message| message.id));
    }
    assert_eq!(same, ids);
}

#[test]
fn every_body_fits_its_schema() {
    use crate::domain::messages::{envelope, schema};

    let mut life = Life::new();
    let (first, second) = (scan(8, "OA", "AC", "PICKED_UP"), scan(9, "OF", "IT", "OUT_FOR_DELIVERY"));
    let bad = scan(10, "21", "EX", "RETURN_TO_SENDER");
    let revised = first.replace("RENO", "RENO NV");
    let done = scan(12, "01", "DE", "DELIVERED");
    let answers = [
        tracking("AC", "PICKED_UP", "\"2026-11-03\"", std::slice::from_ref(&first)),
        tracking("IT", "OUT_FOR_DELIVERY", "\"2026-11-04\"", &[second.clone(), revised.clone()]),
        tracking("EX", "RETURN_TO_SENDER", "null", &[bad.clone(), second.clone(), revised.clone()]),
        tracking("DE", "DELIVERED", "null", &[done, bad.clone(), revised.clone()]),
        tracking("IT", "IN_TRANSIT", "null", &[bad.clone(), revised.clone()]),
        tracking("IT", "IN_TRANSIT", "null", &[bad, second, revised]),
    ];
    let mut messages = Vec::new();
    for (hours, answer) in (0..).zip(&answers) {
        messages.extend(life.answer(answer, hours).messages);
    }
    messages.extend(life.read(&Reading::SameBytes, at(24 * 90)).messages);
    let mut refused = Life::new();
    for hours in [0, 1, 7, 31, 90] {
        messages.extend(refused.refusal(hours).messages);
    }
    let seen: std::collections::BTreeSet<_> = messages.iter().map(|message| message.kind).collect();
    assert!(seen.len() >= 12, "{seen:?}");
    for message in &messages {
        let schema = schema::of_message(message.kind);
        let body = serde_json::from_str(&message.body).unwrap();
        let faults: Vec<String> = jsonschema::validator_for(&schema)
            .unwrap()
            .iter_errors(&body)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{} {faults:?}\n{}", message.kind.as_str(), message.body);
        for format in [Format::Shipstation, Format::Shipengine] {
            let Some(url) = &message.resource_url else { continue };
            let body = envelope::render(format, &message.body, Some(url)).unwrap();
            let schema = schema::of_envelope(format).unwrap();
            assert!(jsonschema::is_valid(&schema, &serde_json::from_str(&body).unwrap()), "{body}");
        }
    }
}
