//! Messages about changes of a label's history (contract 5).

use serde_json::Value;

use crate::harness::parcel::{event, event_in, in_transit, tracking};
use crate::harness::{Harness, ORDERS, hours};

/// Returns a harness in which `se-1` was polled with `answer`, without the messages so far.
async fn polled_once(answer: &str) -> (Harness, usize) {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", answer);
    harness.poll_and_deliver().await;
    let count = harness.kinds().len();
    (harness, count)
}

/// Polls `se-1` with `answer`. Returns the bodies of its messages.
async fn messages_after(harness: &mut Harness, answer: &str) -> Vec<Value> {
    let before = harness.callbacks("orders").len();
    harness.says("se-1", answer);
    harness.pass(hours(3));
    harness.poll_again("se-1").await;
    harness.deliver().await;
    let callbacks = harness.callbacks("orders");
    callbacks[before..].iter().map(|callback| serde_json::from_slice(&callback.body).unwrap()).collect()
}

fn kinds(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|body| body["type"].as_str().unwrap().strip_prefix("tracking.").unwrap()).collect()
}

#[tokio::test]
async fn equal_events_in_another_spelling_make_no_message() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let first = tracking("IT", &[&b, &a]);
    let reversed = a.replace("\"country_code\":\"US\",", "").replacen('{', "{\"country_code\":\"US\",", 1);
    for (what, again) in [
        ("the same bytes", first.clone()),
        ("another order of keys", tracking("IT", &[&b, &reversed])),
        ("\"\" for null", first.replace("null", "\"\"")),
        ("nothing for null", first.replace(r#","status_detail_code":null"#, "")),
        ("white space", first.replace(',', " ,\n\t").replace(':', ": ").replace(": 00", ":00")),
        ("events in another order", tracking("IT", &[&a, &b])),
        ("another case of the status", first.replace("\"status_code\":\"IT\"", "\"status_code\":\"it\"")),
        ("an unknown field", first.replacen('{', "{\"new_of_the_vendor\":[1],", 1)),
    ] {
        let (mut harness, before) = polled_once(&first).await;
        assert_eq!(kinds(&messages_after(&mut harness, &again).await), [""; 0], "{what}");
        assert_eq!(kinds(&messages_after(&mut harness, &first).await), [""; 0], "{what}, and back");
        assert_eq!(harness.count("SELECT count(*) FROM messages").await as usize, before);
    }
}

#[tokio::test]
async fn one_new_event_makes_one_message_and_the_summary() {
    let (mut harness, _) = polled_once(&in_transit()).await;
    let (old, new) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let bodies = messages_after(&mut harness, &tracking("IT", &[&new, &old])).await;
    assert_eq!(kinds(&bodies), ["event.added", "updated"]);
    assert_eq!(bodies[0]["data"]["event"]["event_code"], "AR");
    assert_eq!(bodies[1]["data"]["changes"].as_array().unwrap().len(), 1);
    let seqs: Vec<u64> = harness.callbacks("orders").iter().map(|callback| callback.seq.unwrap()).collect();
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    assert_eq!(
        seqs[3],
        harness.now().as_millisecond() as u64,
        "milliseconds, since they are higher than the last seq"
    );
}

#[tokio::test]
async fn several_events_come_oldest_first_and_the_summary_last() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    let scans: Vec<String> = [(180, "DE", "DL"), (90, "EX", "X1"), (60, "IT", "OD"), (0, "AC", "PU")]
        .map(|(m, s, c)| event(m, s, c))
        .into();
    let bodies =
        messages_after(&mut harness, &tracking("DE", &scans.iter().map(String::as_str).collect::<Vec<_>>()))
            .await;
    assert_eq!(
        kinds(&bodies),
        [
            "event.added",
            "event.added",
            "event.added",
            "event.added",
            "status.changed",
            "exception",
            "delivered",
            "updated"
        ]
    );
    let codes: Vec<_> = bodies[..4].iter().map(|body| &body["data"]["event"]["event_code"]).collect();
    assert_eq!(codes, ["PU", "OD", "X1", "DL"]);
    assert_eq!(bodies[5]["data"]["event"]["event_code"], "X1", "the exception below a newer scan");
    let row = harness.row("se-1").await;
    assert_eq!((row.state.as_str(), row.next_poll_at), ("finished", None));
}

#[tokio::test]
async fn an_enriched_event_keeps_its_id_and_gets_a_revision() {
    let bare = event_in(0, "AC", "PU", "");
    let (mut harness, _) = polled_once(&tracking("IT", &[&bare])).await;
    let first: Value = serde_json::from_slice(&harness.callbacks("orders")[0].body).unwrap();
    let bodies = messages_after(&mut harness, &tracking("IT", &[&event_in(0, "AC", "PU", "MEMPHIS")])).await;
    assert_eq!(kinds(&bodies), ["event.revised", "updated"]);
    let revised = &bodies[0]["data"]["events"][0];
    assert_eq!(revised["event_id"], first["data"]["event"]["event_id"]);
    assert_eq!(
        (&revised["revision"], &revised["changed"][0]),
        (&Value::from(2), &Value::from("city_locality"))
    );
    assert_eq!(revised["previous"]["city_locality"], "");
}

#[tokio::test]
async fn a_completely_rewritten_list_makes_one_message() {
    let list = |city: &str| {
        let scans: Vec<String> = (0..6).map(|n| event_in(n * 30, "IT", &format!("C{n}"), city)).collect();
        tracking("IT", &scans.iter().rev().map(String::as_str).collect::<Vec<_>>())
    };
    let (mut harness, _) = polled_once(&list("")).await;
    let bodies = messages_after(&mut harness, &list("OMAHA")).await;
    assert_eq!(kinds(&bodies), ["event.revised", "updated"]);
    assert_eq!(bodies[0]["data"]["events"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn an_event_is_retracted_after_two_good_polls_without_it_and_may_return() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let (full, short) = (tracking("IT", &[&b, &a]), tracking("IT", &[&a]));
    let (mut harness, _) = polled_once(&full).await;
    let id = |body: &Value| body["data"]["event"]["event_id"].clone();
    let added: Value = serde_json::from_slice(&harness.callbacks("orders")[1].body).unwrap();

    assert_eq!(kinds(&messages_after(&mut harness, &short).await), [""; 0], "the event is missing once");
    assert_eq!(kinds(&messages_after(&mut harness, &full).await), [""; 0], "the event is present again");
    assert_eq!(kinds(&messages_after(&mut harness, &short).await), [""; 0], "the event is missing once");
    let bodies = messages_after(&mut harness, &short).await;
    assert_eq!(kinds(&bodies), ["event.retracted", "updated"]);
    assert_eq!(bodies[0]["data"]["events"][0]["event_id"], id(&added));
    assert_eq!(kinds(&messages_after(&mut harness, &short).await), [""; 0], "it is reported once");

    let bodies = messages_after(&mut harness, &full).await;
    assert_eq!(kinds(&bodies), ["event.added", "updated"]);
    assert_eq!((id(&bodies[0]), &bodies[0]["data"]["event"]["returned"]), (id(&added), &Value::from(true)));
}

#[tokio::test]
async fn late_is_reported_once() {
    let (a, it, c) = (event(0, "AC", "PU"), event(60, "IT", "AR"), event(90, "IT", "DP"));
    // The event appears beside `first`, disappears, and returns beside `others`, with which it would be matched
    // differently.
    for (first, others, late) in [(&c, vec![a.as_str()], true), (&a, vec![&c, &a], false)] {
        let (mut harness, _) = polled_once(&tracking("IT", &[first])).await;
        let added = messages_after(&mut harness, &tracking("IT", &[&it, first])).await;
        assert_eq!(added[0]["data"]["event"]["late"], late);
        messages_after(&mut harness, &tracking("IT", &others)).await;
        let gone = messages_after(&mut harness, &tracking("IT", &others)).await;
        let gone = gone[0]["data"]["events"].as_array().unwrap();
        assert_eq!(gone.iter().find(|event| event["event_code"] == "AR").unwrap()["late"], late);
        let back =
            messages_after(&mut harness, &tracking("IT", &[&[it.as_str()], &others[..]].concat())).await;
        assert_eq!(kinds(&back), ["event.added", "updated"]);
        let event = &back[0]["data"]["event"];
        assert_eq!((&event["returned"], &event["late"]), (&Value::from(true), &Value::from(late)));
    }
}

#[tokio::test]
async fn the_last_announced_content_stays_current_while_answers_alternate() {
    let (a, other) = (event_in(0, "AC", "PU", ""), event(60, "IT", "AR"));
    let b = event_in(0, "AC", "PU", "MEMPHIS");
    let list = |first: &str| tracking("IT", &[&other, first]);
    let (mut harness, _) = polled_once(&list(&a)).await;
    assert_eq!(kinds(&messages_after(&mut harness, &list(&b)).await), ["event.revised", "updated"]);
    let back = messages_after(&mut harness, &list(&a)).await;
    assert_eq!(kinds(&back), ["event.revised", "updated"]);
    assert_eq!(kinds(&messages_after(&mut harness, &list(&b)).await), [""; 0]);

    let row = harness.count("SELECT label_key FROM labels").await;
    let events = harness.store().label_events(row, u32::MAX).await.unwrap();
    let id = &back[0]["data"]["events"][0]["event_id"];
    let shown = events.iter().find(|event| event.event_id == *id).expect("the event is in the history");
    assert_eq!((shown.revision, shown.event.get()), (3, a.as_str()), "the content of its last message");

    let c = b.replacen('{', "{\"signer\":\"M. Muster\",", 1);
    let bodies = messages_after(&mut harness, &list(&c)).await;
    let revised = &bodies[0]["data"]["events"][0];
    assert_eq!(revised["revision"], 4);
    assert_eq!(revised["previous"], serde_json::from_str::<Value>(&a).unwrap(), "the content announced last");
    assert_eq!(revised["changed"], serde_json::json!(["city_locality", "signer"]));
}

#[tokio::test]
async fn a_changed_event_that_returns_lists_its_changes() {
    let (a, b) = (event(0, "AC", "PU"), event_in(60, "IT", "AR", ""));
    let (mut harness, _) = polled_once(&tracking("IT", &[&b, &a])).await;
    messages_after(&mut harness, &tracking("IT", &[&a])).await;
    messages_after(&mut harness, &tracking("IT", &[&a])).await;
    let filled = event_in(60, "IT", "AR", "MEMPHIS");
    let back = messages_after(&mut harness, &tracking("IT", &[&filled, &a])).await;
    assert_eq!(kinds(&back), ["event.added", "updated"]);
    let event = &back[0]["data"]["event"];
    assert_eq!((&event["revision"], &event["returned"]), (&Value::from(2), &Value::from(true)));
    assert_eq!(event["changed"], serde_json::json!(["city_locality"]));
    assert_eq!(event["previous"]["city_locality"], "");
    let row = harness.count("SELECT label_key FROM labels").await;
    let events = harness.store().label_events(row, u32::MAX).await.unwrap();
    let steps: Vec<_> =
        events[1].changes.iter().map(|step| (step.kind.as_str(), step.fields.get())).collect();
    assert_eq!(steps, [("retracted", "[]"), ("returned", "[]"), ("revised", "[\"city_locality\"]")]);
}

#[tokio::test]
async fn every_change_of_an_event_is_recorded() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let (full, short) = (tracking("IT", &[&b, &a]), tracking("IT", &[&a]));
    let (mut harness, _) = polled_once(&full).await;
    let revised = b.replacen('{', "{\"signer\":\"M. Muster\",", 1);
    messages_after(&mut harness, &tracking("IT", &[&revised, &a])).await;
    messages_after(&mut harness, &short).await;
    messages_after(&mut harness, &short).await;
    messages_after(&mut harness, &tracking("IT", &[&revised, &a])).await;
    let row = harness.count("SELECT label_key FROM labels").await;
    let events = harness.store().label_events(row, u32::MAX).await.unwrap();
    let changes = &events[1].changes;
    let kinds: Vec<&str> = changes.iter().map(|change| change.kind.as_str()).collect();
    assert_eq!(kinds, ["revised", "retracted", "returned"]);
    assert_eq!(changes[0].fields.get(), "[\"signer\"]");
    assert_eq!(changes[0].before.as_ref().unwrap().get(), b);
    assert_eq!((events[1].revision, events[1].retracted_at), (2, None));
    assert!(events[0].changes.is_empty());
}

#[tokio::test]
async fn an_exported_journey_equals_that_of_the_sandbox() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let answers = [tracking("AC", &[&a]), tracking("IT", &[&b, &a])];
    let (mut harness, _) = polled_once(&answers[0]).await;
    let noticed = harness.now();
    messages_after(&mut harness, &answers[1]).await;
    let row = harness.count("SELECT label_key FROM labels").await;
    let journey = harness.store().journey(row).await.unwrap().expect("the label has changes");
    let line = serde_json::to_string(&journey).unwrap();
    let recorded = trackpost::sandbox::RecordedJourney::read(&line).unwrap();
    assert_eq!(recorded.len(), 1);
    let day = std::time::Duration::from_secs(86_400);
    assert_eq!(recorded[0].answer(day), answers[1].as_bytes());
    assert_eq!((journey.observations.len(), journey.label_id.as_str()), (2, "se-1"));
    assert!(journey.observations[0].at >= journey.registered_at && journey.observations[1].at > noticed);
}

#[tokio::test]
async fn an_exported_journey_omits_polls_that_only_confirm_a_retraction() {
    let (a, b, c) = (event(0, "AC", "PU"), event(60, "IT", "AR"), event(90, "IT", "DP"));
    let (full, other) = (tracking("IT", &[&b, &a]), tracking("IT", &[&c, &a]));
    let (mut harness, _) = polled_once(&full).await;
    assert_eq!(kinds(&messages_after(&mut harness, &other).await), ["event.added", "updated"]);
    assert_eq!(kinds(&messages_after(&mut harness, &other).await), ["event.retracted", "updated"]);
    assert_eq!(kinds(&messages_after(&mut harness, &full).await), ["event.added", "updated"]);
    let row = harness.count("SELECT label_key FROM labels").await;
    let journey = harness.store().journey(row).await.unwrap().expect("the label has changes");
    let contents: Vec<&str> =
        journey.observations.iter().map(|observation| observation.tracking.get()).collect();
    assert_eq!(contents, [&full, &other, &full]);
}

#[tokio::test]
async fn a_failure_between_two_good_polls_retracts_nothing() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let (mut harness, _) = polled_once(&tracking("IT", &[&b, &a])).await;
    messages_after(&mut harness, &tracking("IT", &[&a])).await;
    for garbled in ["", "{}", "[]"] {
        assert_eq!(kinds(&messages_after(&mut harness, garbled).await), [""; 0]);
    }
    assert_eq!(kinds(&messages_after(&mut harness, &tracking("IT", &[&b, &a])).await), [""; 0]);
}

#[tokio::test]
async fn an_empty_list_after_a_full_one_retracts_nothing() {
    let (mut harness, _) = polled_once(&in_transit()).await;
    for _ in 0..5 {
        assert_eq!(kinds(&messages_after(&mut harness, &tracking("IT", &[])).await), [""; 0]);
    }
    assert_eq!(kinds(&messages_after(&mut harness, &in_transit()).await), [""; 0]);
}

#[tokio::test]
async fn a_backfilled_event_is_late() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "IT", "AR"));
    let (mut harness, _) = polled_once(&tracking("IT", &[&b])).await;
    let bodies = messages_after(&mut harness, &tracking("IT", &[&b, &a])).await;
    assert_eq!(kinds(&bodies), ["event.added", "updated"]);
    assert_eq!(bodies[0]["data"]["event"]["late"], true);
}

#[tokio::test]
async fn a_finished_label_is_polled_once_more_and_reopened_if_it_moved() {
    let (a, b) = (event(0, "AC", "PU"), event(60, "DE", "DL"));
    let delivered = tracking("DE", &[&b, &a]);
    let (mut harness, _) = polled_once(&delivered).await;
    assert_eq!(kinds(&messages_after(&mut harness, &delivered).await), [""; 0]);
    assert_eq!(harness.row("se-1").await.state, "finished");
    assert_eq!(harness.row("se-1").await.next_poll_at, None);

    // A day later. A later time on the same day belongs to the vehicle.
    let c = event(30 * 60, "IT", "RS");
    let bodies = messages_after(&mut harness, &tracking("IT", &[&c, &b, &a])).await;
    assert_eq!(kinds(&bodies), ["event.added", "status.changed", "reopened", "updated"]);
    assert_eq!(
        (&bodies[2]["data"]["from"], &bodies[2]["data"]["to"]),
        (&Value::from("DE"), &Value::from("IT"))
    );
    let row = harness.row("se-1").await;
    assert_eq!((row.state.as_str(), row.next_poll_at.is_some()), ("active", true));
}

#[tokio::test]
async fn a_baseline_is_recorded_without_messages() {
    let mut harness = Harness::with(&format!("[registration]\nfirst_poll = \"baseline\"\n{ORDERS}")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(harness.kinds(), [""; 0]);
    assert_eq!(harness.count("SELECT count(*) FROM tracking_events").await, 1);
    let bodies =
        messages_after(&mut harness, &tracking("IT", &[&event(60, "IT", "AR"), &event(0, "AC", "PU")])).await;
    assert_eq!(kinds(&bodies), ["event.added", "updated"]);
    assert_eq!(bodies[0]["data"]["seq"], harness.now().as_millisecond());
}

#[tokio::test]
async fn an_estimate_makes_a_message_when_its_day_changes() {
    let with = |estimate: &str| {
        in_transit()
            .replace(r#""estimated_delivery_date":null"#, &format!(r#""estimated_delivery_date":{estimate}"#))
    };
    let (mut harness, _) = polled_once(&with("null")).await;
    for (estimate, from, to) in [
        (r#""2030-03-06T00:00:00Z""#, Value::Null, "2030-03-06T00:00:00Z".into()),
        (r#""2030-03-07T00:00:00Z""#, "2030-03-06T00:00:00Z".into(), "2030-03-07T00:00:00Z".into()),
        ("null", "2030-03-07T00:00:00Z".into(), Value::Null),
    ] {
        let bodies = messages_after(&mut harness, &with(estimate)).await;
        assert_eq!(kinds(&bodies), ["estimate.changed", "updated"], "{estimate}");
        assert_eq!((&bodies[0]["data"]["from"], &bodies[0]["data"]["to"]), (&from, &to));
    }
    messages_after(&mut harness, &with(r#""2030-03-06T00:00:00Z""#)).await;
    assert_eq!(
        kinds(&messages_after(&mut harness, &with(r#""2030-03-06T20:00:00Z""#)).await),
        [""; 0],
        "only the hour differs"
    );
}

#[tokio::test]
async fn out_for_delivery_makes_a_message_although_it_is_not_a_status() {
    let (mut harness, _) = polled_once(&in_transit()).await;
    let out = event(120, "IT", "OD")
        .replace(r#""status_detail_code":null"#, r#""status_detail_code":"OUT_FOR_DELIVERY""#);
    let bodies = messages_after(&mut harness, &tracking("IT", &[&out, &event(0, "AC", "PU")])).await;
    assert_eq!(kinds(&bodies), ["event.added", "out_for_delivery", "updated"]);
}

#[tokio::test]
async fn a_parcel_without_change_for_sixty_days_has_expired() {
    let (mut harness, before) = polled_once(&in_transit()).await;
    let first = harness.now();
    while harness.row("se-1").await.state == "active" {
        harness.pass_until_due().await;
        harness.poll().await;
        assert!(harness.now() <= first + hours(61 * 24), "the label expires in time");
    }
    harness.deliver().await;
    // Stalled is reported first and once, then expired.
    assert_eq!(harness.kinds()[before..], ["tracking.stalled", "tracking.expired"]);
    assert!(harness.now() >= first + hours(60 * 24));
    assert_eq!(harness.row("se-1").await.state, "expired");
}
