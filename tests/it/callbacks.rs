//! Callbacks as sent to a subscriber (contract 6).

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use standardwebhooks::Webhook;
use trackpost::clock;
use trackpost::sandbox::Answer;

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::{Harness, ORDERS, SECRET, nth, seconds};

const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// An answer formatted unlike any serializer's output.
const UNUSUAL_JSON: &str = r#"{ "events":[ {"z":1.50,"occurred_at":"2030-03-04T06:00:00Z","x":null, "event_code":"PU",
  "status_code":"AC","description":"café ☕ \u00e9\/","a":[1E2,-0.0]} ],"status_code":"it",
  "weight":{"value":1.50,"unit":null},"tracking_number":"1Z 9","carrier_code":"ups","carrier_id":12345678901234567890,"shipped_date":"8/4/2021" }"#;

fn subscriber(name: &str, format: &str, rest: &str) -> String {
    format!(
        "[subscribers.{name}]\nurl = \"HOOK/{name}\"\nsecret = \"SECRET\"\nformat = \"{format}\"\nevents = [\"*\"]\n{rest}\n"
    )
}

/// A harness whose virtual time starts close enough to now that verifiers with a clock accept its timestamps.
fn near_future() -> Timestamp {
    clock::now() + SignedDuration::from_secs(60)
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[tokio::test]
async fn shipstation_receivers_get_the_answer_byte_for_byte() {
    let mut harness =
        Harness::with(&(subscriber("orders", "standard", "") + &subscriber("shop", "shipstation", ""))).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", UNUSUAL_JSON);
    harness.poll_and_deliver().await;

    let callbacks = harness.callbacks("shop");
    assert_eq!(callbacks.len(), 1, "one per poll");
    let base = harness.sandbox.base_url();
    assert_eq!(
        text(&callbacks[0].body),
        format!(
            r#"{{"resource_url":"{base}/v2/labels/se-1/track","resource_type":"TRACK_EVENT_V2","data":{UNUSUAL_JSON}}}"#
        )
    );
    let updated = harness.callbacks("orders").pop().unwrap();
    assert_eq!(callbacks[0].message_id, updated.message_id, "its id is that of tracking.updated");
    assert_eq!(callbacks[0].seq, updated.seq);
    assert_eq!(updated.kind.as_deref(), Some("tracking.updated"));
}

#[tokio::test]
async fn shipengine_receivers_get_the_classic_envelope() {
    let mut harness = Harness::with(&subscriber("shop", "shipengine", "")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", UNUSUAL_JSON);
    harness.poll_and_deliver().await;

    let events = &UNUSUAL_JSON
        [UNUSUAL_JSON.find("[ {").unwrap()..UNUSUAL_JSON.find(r#","status_code":"it""#).unwrap()];
    let base = harness.sandbox.base_url();
    let expected = [
        &format!(r#"{{"resource_url":"{base}/v2/tracking?carrier_code=ups&tracking_number=1Z%209","#),
        r#""resource_type":"API_TRACK","data":{"#,
        &format!(r#""label_url":"{base}/v2/labels/se-1","tracking_number":"1Z 9","status_code":"it","#),
        r#""carrier_detail_code":null,"status_description":null,"carrier_status_code":null,"#,
        r#""carrier_status_description":null,"ship_date":"8/4/2021","estimated_delivery_date":null,"#,
        r#""actual_delivery_date":null,"exception_description":null,"events":"#,
        events,
        "}}",
    ]
    .concat();
    let callbacks = harness.callbacks("shop");
    assert_eq!(callbacks.len(), 1);
    assert_eq!(text(&callbacks[0].body), expected);
}

#[tokio::test]
async fn standard_receivers_get_one_callback_per_message() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    let scan = event(0, "AC", "PU");
    let answer = tracking("IT", &[&scan]);
    harness.says("se-1", &answer);
    harness.poll_and_deliver().await;

    assert_eq!(harness.kinds(), ["tracking.event.added", "tracking.status.changed", "tracking.updated"]);
    let callbacks = harness.callbacks("orders");
    let body: Value = serde_json::from_slice(&callbacks[0].body).unwrap();
    let event_id = body["data"]["event"]["event_id"].as_str().unwrap();
    let head = |kind: &str, n: u64| {
        let seq = nth(n);
        format!(
            r#"{{"type":"{kind}","timestamp":"2030-03-04T12:00:00.000Z","data":{{"label_id":"se-1","account":"main","metadata":{{"order":"A-1001"}},"seq":{seq},"tracking_number":"1Z9","carrier_code":"ups","status_code":"IT","status_description":"so it is","tracking_status":"in_transit","#
        )
    };
    let fields = scan.strip_prefix('{').unwrap();
    let added = head("tracking.event.added", 1)
        + &format!(r#""event":{{"event_id":"{event_id}","revision":1,"late":false,{fields}}}}}"#);
    let changed = head("tracking.status.changed", 2)
        + r#""from":null,"to":"IT","from_detail_code":null,"to_detail_code":null}}"#;
    let updated = head("tracking.updated", 3)
        + &format!(
            r#""changes":[{{"type":"tracking.event.added","event_id":"{event_id}"}},{{"type":"tracking.status.changed","event_id":null}}],"tracking":{answer}}}}}"#
        );
    let bodies: Vec<&str> = callbacks.iter().map(|callback| text(&callback.body)).collect();
    assert_eq!(bodies, [added, changed, updated]);
}

#[tokio::test]
async fn a_callback_has_exactly_the_documented_headers() {
    let own = r#"headers = { X-Api-Token = "t0ken", Authorization = "Bearer b" }"#;
    let mut harness = Harness::with(&subscriber("orders", "standard", own)).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;

    let callback = harness.callbacks("orders").remove(0);
    let id = callback.header("webhook-id").unwrap();
    assert!(id.starts_with("msg_") && !id.contains('.'), "{id}");
    assert!(callback.header("webhook-signature").unwrap().starts_with("v1,"));
    for (name, value) in [
        ("webhook-timestamp", harness.now().as_second().to_string().as_str()),
        ("content-type", "application/json"),
        ("user-agent", concat!("trackpost/", env!("CARGO_PKG_VERSION"))),
        ("trackpost-label-id", "se-1"),
        ("trackpost-seq", nth(1).to_string().as_str()),
        ("trackpost-type", "tracking.event.added"),
        ("trackpost-attempt", "1"),
        ("x-api-token", "t0ken"),
        ("authorization", "Bearer b"),
    ] {
        assert_eq!(callback.header(name), Some(value), "{name}");
    }
    let ours = callback
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("trackpost-") || name.as_str().starts_with("webhook-"));
    assert_eq!(ours.count(), 7);
}

#[tokio::test]
async fn the_official_verifier_accepts_every_callback() {
    let mut harness =
        Harness::at(near_future(), &(ORDERS.to_owned() + &subscriber("shop", "shipstation", ""))).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;

    let callbacks = harness.receiver.callbacks();
    assert_eq!(callbacks.len(), 4);
    let verifier = Webhook::new(SECRET).unwrap();
    for callback in callbacks {
        verifier.verify(&callback.body, &callback.headers).unwrap();
    }
}

#[tokio::test]
async fn while_rotating_each_live_secret_signs() {
    let rotating =
        ORDERS.replace("secret = \"SECRET\"", &format!("secrets = [\"{OTHER_SECRET}\", \"SECRET\"]"));
    let mut harness = Harness::at(near_future(), &rotating).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;

    let callback = harness.callbacks("orders").remove(0);
    let signature = callback.header("webhook-signature").unwrap();
    assert_eq!(signature.split(' ').filter(|token| token.starts_with("v1,")).count(), 2, "{signature}");
    for secret in [OTHER_SECRET, SECRET] {
        Webhook::new(secret).unwrap().verify(&callback.body, &callback.headers).unwrap();
    }
}

#[tokio::test]
async fn attempts_differ_only_in_number_time_and_signature() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.receiver.answer_next([Answer::status(500), Answer::status(500)]);
    harness.poll_and_deliver().await;
    harness.pass(seconds(10));
    harness.deliver().await;
    harness.pass(seconds(600));
    harness.deliver().await;

    let callbacks = harness.callbacks("orders");
    let first: Vec<_> = callbacks.iter().take(3).collect();
    let of = |name| first.iter().map(|callback| callback.header(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(of("trackpost-attempt"), ["1", "2", "3"]);
    assert!(of("webhook-id").windows(2).all(|pair| pair[0] == pair[1]));
    assert!(of("webhook-timestamp").windows(2).all(|pair| pair[0] < pair[1]));
    assert!(of("webhook-signature").windows(2).all(|pair| pair[0] != pair[1]));
    assert!(first.windows(2).all(|pair| pair[0].body == pair[1].body));
    assert_eq!(callbacks.len(), 5, "then the two behind it");
}

#[tokio::test]
async fn only_selected_events_are_sent() {
    let picky = "events = [\"tracking.delivered\"]";
    let mut harness = Harness::with(
        &[
            subscriber("orders", "standard", ""),
            subscriber("shop", "shipstation", ""),
            subscriber("end", "standard", ""),
        ]
        .concat()
        .replace("format = \"shipstation\"\nevents = [\"*\"]", &format!("format = \"shipstation\"\n{picky}"))
        .replace(
            "/end\"\nsecret = \"SECRET\"\nformat = \"standard\"\nevents = [\"*\"]",
            &format!("/end\"\nsecret = \"SECRET\"\nformat = \"standard\"\n{picky}"),
        ),
    )
    .await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!((harness.callbacks("shop").len(), harness.callbacks("end").len()), (0, 0));

    harness.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_again("se-1").await;
    harness.deliver().await;
    assert_eq!((harness.callbacks("shop").len(), harness.callbacks("end").len()), (1, 1));
    assert_eq!(harness.callbacks("end")[0].kind.as_deref(), Some("tracking.delivered"));
    assert_eq!(harness.callbacks("shop")[0].kind.as_deref(), Some("tracking.updated"));
}
