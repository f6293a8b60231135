//! Vague, late and partial scans through the whole pipeline (contract 5.1, 5.3).

use serde_json::Value;
use trackpost::domain::tracking::replace_lone_surrogates;

use crate::harness::parcel::{event, event_in, in_transit, tracking};
use crate::harness::{Harness, ORDERS, hours};

/// Subscribers of both callback formats.
fn two_forms() -> String {
    format!("{ORDERS}{}", ORDERS.replace("orders", "native").replace("\"standard\"", "\"shipstation\""))
}

/// Returns the messages to `orders` about `se-1` while the API gives these answers, each polled three times.
async fn messages_after(harness: &mut Harness, answers: &[String]) -> Vec<Value> {
    let before = harness.callbacks("orders").len();
    for answer in answers {
        harness.says("se-1", answer);
        for _ in 0..3 {
            harness.pass(hours(1));
            harness.poll_again("se-1").await;
        }
    }
    harness.deliver().await;
    let callbacks = harness.callbacks("orders");
    let read = |body: &[u8]| {
        serde_json::from_str(&replace_lone_surrogates(std::str::from_utf8(body).unwrap())).unwrap()
    };
    callbacks[before..].iter().map(|callback| read(&callback.body)).collect()
}

fn kinds(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| body["type"].as_str().unwrap().strip_prefix("tracking.").unwrap()).collect()
}

async fn harness() -> Harness {
    let harness = Harness::with(&two_forms()).await;
    harness.register(&["se-1"]).await;
    harness
}

#[tokio::test]
async fn a_delivery_listed_below_the_vehicle_scan_is_delivered_and_settles() {
    let mut harness = harness().await;
    let (hub, delivery) = (event(0, "IT", "AR"), event(120, "DE", "DL"));
    let vehicle =
        event(125, "IT", "OD").replace(r#"detail_code":null"#, r#"detail_code":"OUT_FOR_DELIVERY""#);
    let beneath = tracking("IT", &[&vehicle, &delivery, &hub]).replacen(
        r#"detail_code":null"#,
        r#"detail_code":"OUT_FOR_DELIVERY""#,
        1,
    );
    let bodies = messages_after(&mut harness, &[tracking("IT", &[&hub]), beneath]).await;
    assert_eq!(
        kinds(&bodies)[3..],
        ["event.added", "event.added", "status.changed", "out_for_delivery", "delivered", "updated"]
    );
    assert_eq!(bodies[7]["data"]["event"]["event_code"], "DL");
    let found = bodies.len();
    // The label leaves the cadence row for out for delivery and settles after three days without a change.
    let from = harness.now();
    let mut polls = 0;
    while harness.row("se-1").await.state == "active" {
        harness.pass_until_due().await;
        polls += harness.poll().await;
        assert!(harness.now() <= from + hours(73), "the label settles in time");
    }
    assert_eq!(harness.row("se-1").await.state, "finished");
    assert!((8..40).contains(&polls), "{polls} polls in the IT row");
    harness.deliver().await;
    assert_eq!(harness.callbacks("orders").len(), found, "no further message is sent");

    let moved = event(30 * 60, "IT", "RS");
    let bodies = messages_after(&mut harness, &[tracking("IT", &[&moved, &vehicle, &delivery, &hub])]).await;
    assert_eq!(kinds(&bodies), ["event.added", "status.changed", "reopened", "updated"]);
    assert_eq!(harness.row("se-1").await.state, "active");
}

#[tokio::test]
async fn an_added_hour_is_a_revision_and_not_a_second_milestone() {
    let timed = event(510, "EX", "DE");
    for vague in ["2030-03-04", "2030-03-04T00:00:00", "0001-01-01T00:00:00Z"] {
        let mut harness = harness().await;
        let at =
            |json: &str| json.replace("2030-03-04T14:30:00Z", vague).replace("2030-03-04T14:30:00", vague);
        let hub = event(0, "IT", "AR");
        let answers = [tracking("EX", &[&at(&timed), &hub]), tracking("EX", &[&timed, &hub])];
        let bodies = messages_after(&mut harness, &answers).await;
        assert_eq!(
            kinds(&bodies),
            [
                "event.added",
                "event.added",
                "status.changed",
                "exception",
                "updated",
                "event.revised",
                "updated"
            ],
            "{vague}"
        );
        let revised = &bodies[5]["data"]["events"][0];
        let first =
            bodies[..2].iter().map(|body| &body["data"]["event"]).find(|event| event["event_code"] == "DE");
        assert_eq!((&revised["event_id"], &revised["revision"]), (&first.unwrap()["event_id"], &2.into()));
    }
}

#[tokio::test]
async fn events_that_leave_a_list_of_the_last_scans_make_no_message() {
    let mut harness = harness().await;
    let scans: Vec<String> =
        (0..8).map(|n| event_in(n * 60 + 17, "IT", "AR", &format!("Town {n}"))).collect();
    let window = |end: usize| {
        tracking("IT", &scans[end - 5..end].iter().rev().map(String::as_str).collect::<Vec<_>>())
    };
    let bodies = messages_after(&mut harness, &[window(5), window(6), window(7), window(8)]).await;
    assert_eq!(
        kinds(&bodies)[7..],
        ["event.added", "updated", "event.added", "updated", "event.added", "updated"]
    );
    assert_eq!(harness.callbacks("native").len(), 4);
    assert_eq!(harness.count("SELECT count(*) FROM tracking_events WHERE retracted_at IS NULL").await, 8);
    // The whole list again: nothing is new.
    let all = tracking("IT", &scans.iter().rev().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(kinds(&messages_after(&mut harness, &[all]).await), [""; 0]);
}

#[tokio::test]
async fn a_lone_surrogate_is_passed_on_unchanged() {
    let mut harness = harness().await;
    let cut = event(60, "IT", "AR").replace("AR scan", r"AR scan \ud83d");
    let answer = tracking("IT", &[&cut, &event(0, "AC", "PU")]).replace("so it is", r"so it is \uD83D");
    let answers = [in_transit(), answer.clone()];
    assert_eq!(kinds(&messages_after(&mut harness, &answers).await)[3..], ["event.added", "updated"]);
    let raw = |subscriber: &str| {
        String::from_utf8(harness.callbacks(subscriber).pop().unwrap().body.to_vec()).unwrap()
    };
    assert!(raw("native").contains(&answer) && raw("orders").contains(&answer), "byte for byte");
    assert!(raw("orders").contains("so it is \u{fffd}"), "a replacement character in the standard format");
    assert_eq!(harness.row("se-1").await.failures, 0);
}

#[tokio::test]
async fn a_list_that_is_too_long_is_garbled() {
    let mut harness = harness().await;
    let long =
        |element: &str| format!(r#"{{"status_code":"IT","events":[{}]}}"#, vec![element; 2_001].join(","));
    for element in ["null", "{}"] {
        assert_eq!(kinds(&messages_after(&mut harness, &[long(element)]).await), [""; 0], "{element}");
    }
    assert_eq!(harness.row("se-1").await.failures, 6);
}
