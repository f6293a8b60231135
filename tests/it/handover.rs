//! Handover of deliveries to their courier: through memory after the commit, and from the table beyond the memory
//! limit.

use jiff::SignedDuration;
use tokio::sync::watch;
use trackpost::domain::delivery::outbox::MemoryLimit;
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::sandbox::Answer;
use trackpost::workers::courier::Courier;
use trackpost::workers::heartbeat::Heartbeat;

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::{Harness, ORDERS, connect, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";

async fn execute(harness: &Harness, statement: &'static str) {
    sqlx::query(statement).execute(&mut connect(harness.path()).await).await.unwrap();
}

/// A courier of `orders` with this memory limit.
fn courier_within(harness: &Harness, deliveries: usize) -> Courier {
    let subscriber = harness.policy.subscribers[0].clone();
    let (_, subscribers) = watch::channel(harness.policy.subscribers.clone().into());
    let limit = MemoryLimit { deliveries, bytes: 1_000_000 };
    let courier = Courier::new(subscriber, subscribers, harness.store().clone(), Heartbeat::default());
    courier.unwrap().with_memory_limit(limit)
}

#[tokio::test]
async fn committed_deliveries_are_sent_without_reading_the_table() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.deliver().await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    // A courier that reads the table would send this delivery.
    execute(&harness, "UPDATE messages SET body = replace(body, 'MEMPHIS', 'OMAHA')").await;
    harness.deliver().await;
    let bodies = harness.callbacks("orders").into_iter().map(|callback| callback.body);
    let bodies: Vec<String> = bodies.map(|body| String::from_utf8_lossy(&body).into_owned()).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[0].contains("MEMPHIS") && bodies.iter().all(|body| !body.contains("OMAHA")), "{bodies:?}");
    execute(&harness, "UPDATE messages SET body = replace(body, 'OMAHA', 'MEMPHIS')").await;
}

#[tokio::test]
async fn an_idle_courier_sleeps() {
    let mut harness = Harness::new().await;
    let (courier, now) = ("orders", harness.now());
    for _ in 0..2 {
        let wake = harness.courier(courier).step(now).await.unwrap();
        assert_eq!(
            wake.duration_since(now),
            SignedDuration::from_secs(30),
            "it wakes only for its heartbeat"
        );
    }
    harness.receiver.answer_always(Answer::status(500));
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.deliver_once(courier).await;
    let wake = harness.courier(courier).step(now).await.unwrap();
    let next = harness.count("SELECT min(next_attempt_at) FROM deliveries WHERE attempts > 0").await;
    assert_eq!(wake.as_millisecond(), next, "it sleeps until the first retry");
}

#[tokio::test]
async fn a_backlog_beyond_the_memory_limit_is_delivered_completely_and_in_order() {
    for (deliveries, fails) in [(1, false), (3, false), (3, true), (8, true)] {
        let mut harness =
            Harness::with(&format!("requests_per_minute = 60000\n{ORDERS}max_in_flight = 2\n")).await;
        let labels: Vec<String> = (0..20).map(|number| format!("se-{number}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        harness.register(&labels).await;
        let scans: Vec<String> = (0..5).rev().map(|n| event(n * 30, "IT", &format!("C{n}"))).collect();
        let scans: Vec<&str> = scans.iter().map(String::as_str).collect();
        labels[..10].iter().for_each(|label| harness.says(label, &tracking("IT", &scans)));
        labels[10..].iter().for_each(|label| harness.answers(label, Answer::status(500)));
        harness.poll().await;
        drop(harness.take_courier("orders"));
        let mut courier = courier_within(&harness, deliveries);
        // More messages are created while the backlog exists.
        courier.step(harness.now()).await.unwrap();
        harness.pass(seconds(120));
        labels[10..].iter().for_each(|label| harness.says(label, &tracking("IT", &scans[..2])));
        harness.poll().await;
        let count = std::sync::atomic::AtomicUsize::new(0);
        harness.receiver.answer_by(move |_| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (fails && nth % 7 == 3).then(|| Answer::status(500))
        });
        for _ in 0..20_000 {
            if harness.count(PENDING).await == 0 {
                break;
            }
            courier.step(harness.now()).await.unwrap();
            harness.pass(seconds(1));
        }
        assert_eq!(harness.count(PENDING).await, 0, "{deliveries}");
        let accepted = harness.receiver.accepted();
        assert_eq!((accepted.repeated().len(), accepted.violations()), (0, &[][..]), "{deliveries}");
        harness.return_courier(courier, "orders");
    }
}

#[tokio::test]
async fn a_ping_is_sent_once_and_changes_nothing() {
    use trackpost::domain::messages::ping::Ping;
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.receiver.answer_always(Answer::status(503).header("retry-after", "600"));
    harness.poll_and_deliver().await;
    let orders = SubscriberName::new("orders");
    let before = harness.store().subscriber_health(&orders).await.unwrap();
    let waiting = "SELECT sum(next_attempt_at) FROM deliveries WHERE state = 'pending'";
    let due = harness.count(waiting).await;
    for (status, state) in [(500, "dead"), (410, "dead"), (200, "delivered")] {
        harness.receiver.answer_always(Answer::status(status));
        harness.store().add_ping(&orders, Ping::new(&orders, harness.now()), harness.now()).await.unwrap();
        harness.deliver().await;
        let last: (String, i64) =
            sqlx::query_as("SELECT state, attempts FROM deliveries ORDER BY delivery_key DESC LIMIT 1")
                .fetch_one(&mut connect(harness.path()).await)
                .await
                .unwrap();
        assert_eq!(last, (state.to_owned(), 1), "it is sent in spite of the Retry-After");
        harness.pass(seconds(1));
    }
    assert_eq!(harness.store().subscriber_health(&orders).await.unwrap(), before);
    assert_eq!(harness.count(waiting).await, due);
}

#[tokio::test]
async fn the_reason_is_stored_when_it_is_decided() {
    let mut harness = Harness::with(&ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    let reason = async |harness: &Harness| -> String {
        let all = "SELECT reason FROM deliveries WHERE state = 'pending'";
        sqlx::query_scalar(all).fetch_one(&mut connect(harness.path()).await).await.unwrap()
    };
    assert_eq!(reason(&harness).await, r#""first""#);
    for expected in
        [r#"{"step":{"number":1,"of":9,"wait_ms":5000}}"#, r#"{"step":{"number":2,"of":9,"wait_ms":300000}}"#]
    {
        harness.receiver.answer_always(Answer::status(500));
        harness.deliver().await;
        harness.pass(seconds(6));
        assert_eq!(reason(&harness).await, expected);
    }
    harness.receiver.answer_always(Answer::status(500).header("retry-after", "7200"));
    harness.pass(seconds(331));
    harness.deliver().await;
    assert_eq!(reason(&harness).await, r#"{"retry_after":{"capped":false}}"#);
    let delivery = harness.count("SELECT delivery_key FROM deliveries").await;
    harness.store().retry(delivery, harness.now()).await.unwrap();
    assert_eq!(reason(&harness).await, r#""queued_again""#);
}

#[tokio::test]
async fn commits_of_other_processes_wake_the_courier_and_its_own_do_not() {
    let harness = Harness::new().await;
    let mut changes = harness.store().external_changes();
    harness.register(&["se-1"]).await;
    tokio::time::timeout(std::time::Duration::from_millis(700), changes.changed()).await.unwrap_err();
    execute(&harness, "UPDATE labels SET version = version + 1").await;
    tokio::time::timeout(std::time::Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
}
