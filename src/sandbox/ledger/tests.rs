use axum::http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;

use super::super::{ReceivedCallback, Verified};
use super::*;

fn scan(description: &str) -> Value {
    json!({"description": description, "occurred_at": "2026-11-22T10:00:00Z", "signer": null})
}

fn answer(status: &str, events: &[Value]) -> Value {
    json!({"status_code": status, "events": events})
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[derive(Default)]
struct Ledger {
    served: Served,
    accepted: Accepted,
    seq: u64,
}

impl Ledger {
    /// The API served this about `se-1`.
    fn serve(&mut self, answer: &Value) {
        self.served.record_answer("se-1", &answer.to_string().into());
    }

    /// The subscriber `all` got this, and answered `status`.
    fn post(&mut self, id: &str, seq: u64, body: &Value, status: u16) {
        let callback = ReceivedCallback {
            at: at(0),
            path: "/all".to_owned(),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
            verified: Verified::Good,
            message_id: Some(id.to_owned()),
            label_id: Some("se-1".to_owned()),
            seq: Some(seq),
            kind: None,
            attempt: Some(1),
            answered: None,
        };
        self.accepted.received(&callback);
        self.accepted.record_answer(&callback, status);
    }

    fn deliver(&mut self, body: &Value) {
        self.seq += 1;
        self.post(&format!("msg_{}", self.seq), self.seq, body, 200);
    }

    fn add(&mut self, id: &str, scan: &Value, extra: Value) {
        let mut event = scan.clone();
        event["event_id"] = id.into();
        let Value::Object(extra) = extra else { unreachable!() };
        event.as_object_mut().unwrap().extend(extra);
        self.deliver(&json!({"type": "tracking.event.added", "data": {"event": event}}));
    }

    fn update(&mut self, answer: &Value, changes: &[&str]) {
        let changes: Vec<Value> = changes.iter().map(|kind| json!({"type": kind})).collect();
        self.deliver(&json!({"type": "tracking.updated", "data": {"tracking": answer, "changes": changes}}));
    }

    fn found(&self) -> Vec<(ViolationKind, String)> {
        let found = audit(&self.served, &self.accepted, &[("all", Follows::Events)], None, None);
        found.into_iter().map(|violation| (violation.kind, violation.to_string())).collect()
    }

    fn kinds(&self) -> Vec<ViolationKind> {
        self.found().into_iter().map(|(kind, _)| kind).collect()
    }
}

/// Two equal scans, both delivered.
fn complete() -> Ledger {
    let mut ledger = Ledger::default();
    let last = answer("IT", &[scan("Arrived"), scan("Arrived")]);
    ledger.serve(&last);
    ledger.add("a", &scan("Arrived"), json!({}));
    ledger.add("b", &scan("Arrived"), json!({}));
    ledger.update(&last, &[]);
    ledger
}

#[test]
fn each_event_once_and_the_last_answer_is_complete() {
    assert_eq!(complete().found(), []);
    assert_eq!(Ledger::default().found(), []);
}

#[test]
fn an_event_or_an_answer_without_a_message_is_missed() {
    let mut ledger = complete();
    ledger.serve(&answer("DE", &[scan("Delivered"), scan("Arrived"), scan("Arrived")]));
    let missed = [
        "se-1: all does not have the last answer of the API",
        "se-1: all does not have \"Delivered\" of 2026-11-22T10:00:00Z",
        "se-1: all did not get tracking.delivered",
    ];
    assert_eq!(ledger.found(), missed.map(|text| (ViolationKind::Missed, text.to_owned())));
    let mut nothing = Ledger::default();
    nothing.serve(&answer("NY", &[]));
    assert_eq!(nothing.kinds(), []);
    nothing.serve(&answer("IT", &[]));
    assert_eq!(nothing.kinds(), [ViolationKind::Missed]);
}

#[test]
fn a_rejected_callback_is_ignored() {
    let mut ledger = Ledger::default();
    let last = answer("IT", &[]);
    ledger.serve(&last);
    let body = json!({"type": "tracking.updated", "data": {"tracking": last, "changes": []}});
    ledger.post("msg_1", 1, &body, 500);
    assert_eq!(ledger.kinds(), [ViolationKind::Missed]);
    ledger.post("msg_1", 1, &body, 200);
    assert_eq!((ledger.kinds(), ledger.accepted.counts().refused), (vec![], 1));
}

#[test]
fn one_event_under_two_ids_is_duplicated() {
    let mut ledger = complete();
    ledger.add("c", &scan("Arrived"), json!({}));
    assert_eq!(ledger.kinds(), [ViolationKind::Duplicated]);
    let mut again = complete();
    again.add("a", &scan("Arrived"), json!({}));
    assert_eq!(again.kinds(), [ViolationKind::Duplicated]);
    let mut returned = complete();
    returned.add("a", &scan("Arrived"), json!({"returned": true}));
    assert_eq!(returned.kinds(), []);
}

#[test]
fn one_message_under_two_ids_is_duplicated_and_one_id_with_two_bodies_rewritten() {
    let mut ledger = complete();
    ledger.post("msg_9", 3, &json!({}), 200);
    assert_eq!(ledger.kinds(), [ViolationKind::Duplicated]);
    ledger.post("msg_9", 3, &json!({"other": 1}), 500);
    assert_eq!(ledger.kinds(), [ViolationKind::Duplicated, ViolationKind::Rewritten]);
}

#[test]
fn a_repetition_is_allowed_and_read_once() {
    let mut ledger = complete();
    let added = json!({"type": "tracking.event.added", "data": {"event": {"event_id": "z"}}});
    ledger.post("msg_9", 9, &added, 200);
    ledger.post("msg_9", 9, &added, 200);
    assert_eq!((ledger.accepted.counts().repeated, ledger.accepted.violations()), (1, &[][..]));
    assert_eq!(ledger.accepted.repetitions().count(), 1);
}

#[test]
fn an_event_that_was_never_served_is_invented() {
    let mut ledger = complete();
    ledger.add("x", &scan("Stolen"), json!({}));
    assert_eq!(ledger.kinds(), [ViolationKind::Invented]);
    let mut unknown = Ledger::default();
    unknown.add("x", &scan("Stolen"), json!({}));
    assert_eq!(unknown.kinds(), [ViolationKind::Invented]);
}

#[test]
fn revised_and_retracted_events_change_the_view() {
    let mut ledger = complete();
    let last = answer("IT", &[scan("Arrived at hub")]);
    ledger.serve(&last);
    let mut revised = scan("Arrived at hub");
    revised["event_id"] = "a".into();
    revised["previous"] = scan("Arrived");
    ledger.deliver(&json!({"type": "tracking.event.revised", "data": {"events": [revised]}}));
    let mut retracted = scan("Arrived");
    retracted["event_id"] = "b".into();
    ledger.deliver(&json!({"type": "tracking.event.retracted", "data": {"events": [retracted]}}));
    ledger.update(&last, &[]);
    assert_eq!(ledger.found(), []);
}

#[test]
fn a_lower_seq_is_reordered_and_ignored() {
    let mut ledger = complete();
    ledger.post("msg_0", 0, &json!({"type": "tracking.updated", "data": {"tracking": {}}}), 200);
    assert_eq!(
        ledger.found(),
        [(ViolationKind::Reordered, "se-1: seq 0 (msg_0) reached all after 3".to_owned())]
    );
}

#[test]
fn a_status_after_the_last_one_needs_a_reopening() {
    for (reopened, beneath, kinds) in
        [(false, false, vec![ViolationKind::Reordered]), (true, false, vec![]), (false, true, vec![])]
    {
        let mut ledger = Ledger::default();
        let mut delivered = scan("Delivered");
        delivered["status_code"] = "DE".into();
        ledger.add("a", &delivered, json!({}));
        ledger.update(&answer("DE", &[delivered.clone()]), &[]);
        let after = answer("IT", if beneath { std::slice::from_ref(&delivered) } else { &[] });
        ledger.update(&after, if reopened { &["tracking.reopened"] } else { &[] });
        let found: Vec<ViolationKind> =
            ledger.accepted.violations().iter().map(|violation| violation.kind).collect();
        assert_eq!(found, kinds, "{reopened} {beneath}");
    }
}

#[test]
fn late_events_do_not_count_as_new() {
    let mut ledger = complete();
    ledger.add("c", &scan("Arrived"), json!({"late": true}));
    assert_eq!(ledger.accepted.label("all", "se-1").unwrap().added_ids, ["a", "b"]);
}

#[test]
fn spelling_is_not_a_change() {
    let mut ledger = complete();
    let shouted = json!({"description": " ARRIVED", "occurred_at": "2026-11-22T10:00:00Z", "signer": ""});
    ledger.serve(&answer("it ", &[shouted, scan("Arrived")]));
    assert_eq!(ledger.found(), []);
}

#[test]
fn the_database_agrees_with_the_receiver() {
    let ledger = complete();
    let recorded_deliveries =
        |id: &str| DeliveryRow { subscriber: "all".to_owned(), message_id: id.to_owned() };
    let event = |id: &str| EventRow {
        label_id: "se-1".to_owned(),
        event_id: id.to_owned(),
        raw: scan("Arrived").to_string(),
    };
    let found = |deliveries: &[&str], events: &[&str]| -> Vec<(ViolationKind, String)> {
        let rows = Rows {
            deliveries: deliveries.iter().map(|id| recorded_deliveries(id)).collect(),
            events: Some(events.iter().map(|id| event(id)).collect()),
        };
        let found = audit(&ledger.served, &ledger.accepted, &[("all", Follows::Events)], Some(&rows), None);
        found.into_iter().map(|violation| (violation.kind, violation.text)).collect()
    };
    let all = ["msg_1", "msg_2", "msg_3"];
    assert_eq!(found(&all, &["a", "b"]), []);
    assert_eq!(
        found(&["msg_1", "msg_2", "msg_3", "msg_4"], &["a", "b"]),
        [(ViolationKind::Missed, "msg_4 never reached all".to_owned())]
    );
    assert_eq!(
        found(&all[..2], &["a", "b"]),
        [(ViolationKind::Invented, "all got msg_3, which is not recorded".to_owned())]
    );
    let kinds = |events: &[&str]| -> Vec<ViolationKind> {
        found(&all, events).into_iter().map(|(kind, _)| kind).collect()
    };
    assert_eq!(kinds(&["a"]), [ViolationKind::Missed, ViolationKind::Invented]);
    assert_eq!(kinds(&["a", "b", "c"]), [ViolationKind::Duplicated]);
    assert_eq!(kinds(&["a", "c"]), [ViolationKind::Invented]);
}

#[test]
fn the_quota_holds_for_each_key_in_any_60_s() {
    let mut ledger = Ledger::default();
    for second in [0, 30, 59, 60] {
        ledger.served.requested("one", at(second));
        ledger.served.requested("two", at(second * 2));
    }
    let over = |limit| audit(&ledger.served, &ledger.accepted, &[], None, Some(limit));
    assert_eq!(ledger.served.busiest(), Some(("one", 3)));
    assert_eq!(over(3), []);
    assert_eq!(over(2)[0].kind, ViolationKind::OverQuota);
}

#[test]
fn bad_signatures_count() {
    let mut ledger = Ledger::default();
    ledger.accepted.counts.bad_signatures = 2;
    assert_eq!(ledger.found(), [(ViolationKind::Unsigned, "2 callbacks".to_owned())]);
}
