//! Effect of each answer about a label (contract 3).

use std::time::Duration;

use trackpost::clock;
use trackpost::sandbox::Answer;

use crate::harness::child::until;
use crate::harness::parcel::in_transit;
use crate::harness::{API_KEY, Harness, ORDERS, about};

/// Largest share by which the cadence's jitter changes a wait.
const JITTER: f64 = 0.08;

#[tokio::test]
async fn a_poll_has_the_documented_headers() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.poll().await;
    let headers = harness.sandbox.last_headers();
    for (name, value) in [
        ("api-key", API_KEY),
        ("cache-control", "no-cache"),
        ("accept", "application/json"),
        ("user-agent", concat!("trackpost/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(harness.sandbox.requests()[0].target, "/v2/labels/se-1/track");
}

#[tokio::test]
async fn an_unknown_label_is_polled_less_often_and_then_becomes_unavailable() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.sandbox.forget(&"se-1".parse().unwrap());
    for hours in [1.0, 6.0, 24.0, 24.0, 24.0] {
        assert_eq!(harness.poll().await, 1);
        let wait = harness.wait_of("se-1").await;
        assert!(about(wait, hours * 3600.0, JITTER), "{wait} s for {hours} h");
        harness.pass_until_due().await;
    }
    harness.deliver().await;
    assert!(harness.kinds().is_empty(), "five refusals within less than 72 hours");

    harness.poll_and_deliver().await;
    assert_eq!(harness.kinds(), ["tracking.unavailable"]);
    let row = harness.row("se-1").await;
    assert_eq!((row.state.as_str(), row.next_poll_at), ("unavailable", None));
}

#[tokio::test]
async fn a_voided_label_is_handled_like_an_unknown_one() {
    let mut harness = Harness::new().await;
    let label = "se-1".parse().unwrap();
    harness.sandbox.create(&label);
    harness.sandbox.void(&label);
    harness.register(&["se-1"]).await;
    harness.poll().await;
    let wait = harness.wait_of("se-1").await;
    assert!(about(wait, 3600.0, JITTER), "{wait} s");
    assert_eq!(harness.row("se-1").await.refusals, 1);
}

#[tokio::test]
async fn a_good_answer_resets_the_count_of_refusals() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(400));
    harness.poll().await;
    harness.says("se-1", &in_transit());
    harness.poll_again("se-1").await;
    assert_eq!(harness.row("se-1").await.refusals, 0);
    harness.answers("se-1", Answer::status(404));
    harness.poll_again("se-1").await;
    let wait = harness.wait_of("se-1").await;
    assert!(about(wait, 3600.0, JITTER), "the backoff begins again: {wait} s");
}

#[tokio::test]
async fn a_failing_label_backs_off_from_a_minute_to_an_hour() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(503));
    for minutes in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
        assert_eq!(harness.poll().await, 1);
        let wait = harness.wait_of("se-1").await;
        assert!(about(wait, minutes * 60.0, JITTER), "{wait} s for {minutes} min");
        harness.pass_until_due().await;
    }
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(harness.row("se-1").await.failures, 0);
    assert_eq!(harness.kinds().len(), 3, "a message for the first good answer");
}

#[tokio::test]
async fn an_invalid_answer_changes_nothing_and_backs_off() {
    let good = in_transit();
    let too_large = good.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(4 * 1024 * 1024)), 1);
    let json = |status, body: &str| Answer::json(status, body.to_owned());
    for (what, answer) in [
        ("an object of another kind", json(200, r#"{"hello":"world"}"#)),
        ("no object", json(200, "[]")),
        ("a page", json(200, "<html>")),
        ("nothing", json(200, "")),
        ("cut short", json(200, &good[..good.len() - 9])),
        (
            "nested without end",
            json(200, &good.replacen('{', &format!("{{\"x\":{}1{},", "[".repeat(5000), "]".repeat(5000)), 1)),
        ),
        ("no UTF-8", Answer::json(200, [b"{\"status_code\":\"".as_slice(), &[0xff], b"\"}"].concat())),
        ("over 4 MiB", json(200, &too_large)),
        ("another 2xx", json(202, &good)),
        ("no content", Answer::status(204)),
        ("a server error with a good body", json(500, &good)),
    ] {
        let mut harness = Harness::new().await;
        harness.register(&["se-1"]).await;
        harness.says("se-1", &good);
        harness.poll_and_deliver().await;
        let before = harness.kinds().len();

        harness.answers("se-1", answer);
        harness.poll_again("se-1").await;
        harness.deliver().await;
        assert_eq!(harness.kinds().len(), before, "{what}");
        assert_eq!(harness.row("se-1").await.failures, 1, "{what}");
        let wait = harness.wait_of("se-1").await;
        assert!(about(wait, 60.0, JITTER), "{what}: {wait} s");

        harness.says("se-1", &good);
        harness.poll_again("se-1").await;
        harness.deliver().await;
        assert_eq!(harness.kinds().len(), before, "{what}: the history is unchanged");
    }
}

#[tokio::test]
async fn a_body_just_below_the_limit_is_read() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    let good = in_transit();
    let pad = 4 * 1024 * 1024 - good.len() - "\"pad\":\"\",".len();
    let large = good.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(pad)), 1);
    assert_eq!(large.len(), 4 * 1024 * 1024);
    harness.says("se-1", &large);
    harness.poll_and_deliver().await;
    assert_eq!(harness.kinds().len(), 3);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_key_is_not_sent_on() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    let elsewhere = format!("{}v2/labels/se-1/track", harness.hook);
    for status in [301, 302, 303, 307, 308] {
        harness.answers("se-1", Answer::status(status).header("location", &elsewhere));
        harness.poll_again("se-1").await;
    }
    assert_eq!(harness.row("se-1").await.failures, 5);
    assert_eq!(harness.receiver.counts().received, 0);
}

#[tokio::test]
async fn a_slow_answer_is_a_failure_of_its_label_only() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.answers("se-1", Answer::json(200, in_transit()).after(Duration::from_secs(600)));
    harness.says("se-2", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(harness.row("se-1").await.failures, 1);
    assert_eq!(harness.row("se-2").await.failures, 0);
    assert_eq!(harness.kinds().len(), 3);
}

#[tokio::test]
async fn a_refused_connection_is_a_failure() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.stop_api().await;
    harness.poll_once().await;
    assert_eq!(harness.row("se-1").await.failures, 1);
    let wait = harness.wait_of("se-1").await;
    assert!(about(wait, 60.0, JITTER), "{wait} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changed_labels_never_wait_for_each_other() {
    let quick = format!("max_in_flight = 64\nrequests_per_minute = 60000\n{ORDERS}");
    let mut harness = Harness::at(clock::now(), &quick).await;
    let labels: Vec<String> = (0..1_000).map(|n| format!("se-{n}")).collect();
    for label in &labels {
        harness.says(label, &in_transit());
    }
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (stop, shutdown) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(harness.take_poller().run(shutdown));
    let sandbox = harness.sandbox.clone();
    assert!(until(|| sandbox.counters().requests == 1_000 || running.is_finished()).await.is_ok());
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    assert_eq!(harness.count("SELECT count(*) FROM labels l WHERE (SELECT count(*) FROM messages m WHERE m.label_key = l.label_key) = 3").await, 1_000);
}
