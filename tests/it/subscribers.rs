//! Subscribers of a running daemon: a failing one, and the commands that ping, pause and resume.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::parcel::in_transit;
use crate::harness::seconds;

/// A daemon that polls every 100 ms, and a subscriber with a short time limit.
async fn site() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    ["se-1", "se-2", "se-3"].iter().for_each(|id| site.sandbox.script(id, Answer::json(200, in_transit())));
    let configuration = site.configuration("[]", "");
    let quick = configuration.replace("events = [\"*\"]", "events = [\"*\"]\ntimeout = \"500ms\"");
    site.write("trackpost.toml", &quick);
    site
}

async fn listed(site: &Site) -> serde_json::Value {
    let (done, printed, failed) = site.try_command(&["subscribers", "list", "--json"]).await;
    assert!(done, "{failed}");
    serde_json::from_str(&printed).unwrap()
}

async fn until_listed(site: &Site, enough: impl Fn(&serde_json::Value) -> bool) {
    for _ in 0..100 {
        if enough(&listed(site).await) {
            return;
        }
        trackpost::clock::sleep(Duration::from_millis(100)).await;
    }
    panic!("{}", listed(site).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemon_applies_a_pause_and_sends_a_ping() {
    let site = site().await;
    let daemon = site.start();
    daemon.logged("started: ", 1).await;

    let (done, printed, failed) = site.try_command(&["subscribers", "ping", "orders"]).await;
    assert!(done && printed.starts_with("orders: accepted 200 after "), "{printed}{failed}");
    let pings = site.receiver.callbacks();
    assert_eq!(pings.len(), 1);
    assert_eq!((pings[0].kind.as_deref(), &pings[0].label_id), (Some("trackpost.ping"), &None));

    assert!(site.try_command(&["subscribers", "pause", "orders"]).await.0);
    // Deliveries that the courier was about to take when the subscriber was paused.
    trackpost::clock::sleep(Duration::from_secs(1)).await;
    assert!(site.try_command(&["labels", "add", "se-1"]).await.0);
    let mut row = listed(&site).await;
    for _ in 0..100 {
        if row["pending"] == 3 {
            break;
        }
        trackpost::clock::sleep(Duration::from_millis(100)).await;
        row = listed(&site).await;
    }
    assert_eq!(
        (&row["name"], &row["state"], &row["pending"]),
        (&"orders".into(), &"paused".into(), &3.into())
    );
    assert!(row["oldest_pending_at"].is_string() && row["last_success_at"].is_null(), "{row}");
    assert!(row["last_failure"].is_null(), "{row}");
    assert_eq!(site.receiver.counts().received, 1, "nothing is sent while it is paused");
    let (done, _, failed) = site.try_command(&["subscribers", "ping", "orders"]).await;
    assert!(!done && failed.contains("orders is paused"), "{failed}");

    assert!(site.try_command(&["subscribers", "resume", "orders"]).await.0);
    site.received(|counts| counts.received == 4).await;

    // It answers with a Retry-After of an hour; resuming the subscriber ends that wait.
    for (label, received, retried) in [("se-2", 5, true), ("se-3", 10, false)] {
        site.receiver.answer_next([Answer::status(429).header("retry-after", "3600")]);
        assert!(site.try_command(&["labels", "add", label]).await.0);
        site.received(|counts| counts.received == received).await;
        until_listed(&site, |row| row["held_until"].is_string()).await;
        let (_, printed, _) = site.try_command(&["subscribers", "list"]).await;
        assert!(printed.contains("ok, Retry-After until 20"), "{printed}");
        if retried {
            let (_, printed, _) = site.try_command(&["deliveries", "list", "--label", label, "--json"]).await;
            let first: serde_json::Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
            let (_, printed, _) =
                site.try_command(&["deliveries", "retry", first["delivery_id"].as_str().unwrap()]).await;
            assert!(printed.contains("is due now; orders answered 429 or 503 with Retry-After"), "{printed}");
        }
        let (done, printed, failed) = site.try_command(&["subscribers", "ping", "orders"]).await;
        assert!(done && printed.contains("accepted"), "a ping does not wait: {failed}");
        let (_, printed, _) = site.try_command(&["subscribers", "resume", "orders"]).await;
        assert!(printed.contains("is cancelled"), "{printed}");
        site.received(|counts| counts.received == received + 4).await;
    }

    site.receiver.answer_next([Answer::status(418).body("a teapot")]);
    let (done, _, failed) = site.try_command(&["subscribers", "ping", "orders"]).await;
    assert!(!done && failed.contains("orders: HTTP 418") && failed.contains("a teapot"), "{failed}");
    assert!(failed.contains("a ping is sent once"), "{failed}");
    trackpost::clock::sleep(Duration::from_millis(300)).await;
    let row = listed(&site).await;
    assert_eq!((&row["pending"], &row["state"]), (&0.into(), &"ok".into()), "the episode is over");
    daemon.stop().await;
    site.inspect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_without_a_daemon_is_reported_and_an_unknown_name_gets_a_suggestion() {
    let site = site().await;
    let daemon = site.start();
    daemon.stop().await;
    let (done, _, failed) = site.try_command(&["subscribers", "ping", "orders"]).await;
    assert!(!done && failed.contains("was withdrawn") && failed.contains("trackpost status"), "{failed}");
    for action in ["ping", "pause", "resume"] {
        let (done, _, failed) = site.try_command(&["subscribers", action, "ordrs"]).await;
        assert!(
            !done && failed.contains("unknown subscriber ordrs") && failed.contains("orders"),
            "{failed}"
        );
    }
    assert_eq!(listed(&site).await["pending"], 0, "the ping was withdrawn");
    let (done, printed, _) = site.try_command(&["subscribers", "list"]).await;
    assert!(done && printed.starts_with("NAME"), "{printed}");
    site.inspect();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delivery_is_attempted_twice_when_its_subscriber_fails() {
    let falls: Vec<_> = (0..4).map(|_| tokio::spawn(until_the_first_probe())).collect();
    for fall in falls {
        let ids: Vec<String> = fall.await.unwrap();
        let once: HashSet<&String> = ids.iter().collect();
        assert_eq!(once.len(), ids.len(), "a failed delivery is due again in 5 s at the earliest");
    }
}

/// Lets a daemon find changes of twenty labels at once for a failing receiver. Returns the callbacks before its first
/// probe.
async fn until_the_first_probe() -> Vec<String> {
    let site = site().await;
    let labels: Vec<String> = (1..=20).map(|number| format!("se-{number}")).collect();
    labels.iter().for_each(|id| site.sandbox.script(id, Answer::json(200, in_transit())));
    let configuration = site.configuration(&format!("{labels:?}"), "");
    site.write("trackpost.toml", &configuration.replace("[\"*\"]", "[\"tracking.updated\"]"));
    let log: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
    let entries = Arc::clone(&log);
    site.receiver.answer_by(move |callback| {
        entries.lock().unwrap().push((Instant::now(), callback.message_id.clone().unwrap()));
        Some(Answer::status(500))
    });
    let daemon = site.start();
    let is_early = |log: &[(Instant, String)], at: Instant| at - log[0].0 < seconds(4).unsigned_abs();
    site.received(|_| {
        let log = log.lock().unwrap();
        log.last().is_some_and(|(at, _)| !is_early(&log, *at))
    })
    .await;
    daemon.stop().await;
    let log = log.lock().unwrap();
    log.iter().filter(|(at, _)| is_early(&log, *at)).map(|(_, id)| id.clone()).collect()
}
