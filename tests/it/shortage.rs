//! A lack of our own file descriptors is not a failure of a label or a receiver (contract 3).

use std::time::Duration;

use trackpost::sandbox::{Answer, SandboxOptions};

use crate::harness::child::Site;
use crate::harness::disk::fails;
use crate::harness::parcel::in_transit;
use crate::harness::{connect, free_address};
use crate::status::{get, kinds};

#[tokio::test]
async fn a_start_with_too_few_descriptors_names_them() {
    let site = Site::new(SandboxOptions::default()).await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    let log = fails(site.start_after("ulimit -n 63")).await;
    assert!(log.contains("may have 63 files open at once") && log.contains("LimitNOFILE"), "{log}");
    assert!(!site.database().exists(), "nothing was begun");
}

#[tokio::test]
async fn check_warns_if_more_requests_may_be_in_flight_than_connections_open() {
    let site = Site::new(SandboxOptions::default()).await;
    let text = site.configuration("[\"se-1\"]", "");
    site.write(
        "trackpost.toml",
        &text.replace("events = [\"*\"]", "events = [\"*\"]\nmax_in_flight = 4000000"),
    );
    let (ok, printed, _) = site.try_command(&["check"]).await;
    assert!(ok && printed.contains("max_in_flight") && printed.contains("connections at once"), "{printed}");
}

#[tokio::test]
async fn without_descriptors_no_failure_is_counted_and_everything_arrives() {
    let site = Site::new(SandboxOptions::default()).await;
    let labels: Vec<String> = (0..40).map(|n| format!("\"se-{n}\"")).collect();
    (0..40).for_each(|n| site.sandbox.script(&format!("se-{n}"), Answer::json(200, in_transit())));
    // More attempts at once than descriptors, also where their start takes seconds.
    site.receiver.answer_always(Answer::status(200).after(Duration::from_secs(5)));
    let text = site.configuration(&format!("[{}]", labels.join(", ")), "");
    let text = text.replace("events = [\"*\"]", "events = [\"*\"]\nmax_in_flight = 100");
    let port = free_address().port();
    let text = text.replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
    site.write("trackpost.toml", &text);
    let daemon = site.start_after("ulimit -n 64");
    daemon.logged("out of file descriptors", 1).await;
    site.receiver.answer_always(Answer::status(200));
    let (status, body) =
        get(port, &format!("host: 127.0.0.1:{port}\r\n")).expect("it still answers requests");
    assert_eq!((status, kinds(&body["degraded"])), (200, vec!["shortage"]), "{body}");
    site.received(|counts| counts.accepted >= 120).await;
    assert!(!daemon.log().contains("fails as a whole"), "{}", daemon.log());
    daemon.stop().await;

    let mut database = connect(&site.database()).await;
    let attempts: Vec<(String, i64)> =
        sqlx::query_as("SELECT outcome, count(*) FROM attempts GROUP BY outcome")
            .fetch_all(&mut database)
            .await
            .unwrap();
    assert!(attempts.iter().all(|(outcome, _)| outcome == "accepted"), "{attempts:?}");
    let system_messages: i64 = sqlx::query_scalar("SELECT count(*) FROM messages WHERE type LIKE 'system.%'")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(system_messages, 0);
    let blamed: i64 = sqlx::query_scalar("SELECT count(*) FROM labels WHERE failures > 0 OR refusals > 0")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(blamed, 0);
    site.inspect();
}
