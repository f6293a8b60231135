//! How deliveries reach their courier: through memory after the commit, and from the table where memory does not do.

use jiff::SignedDuration;
use tokio::sync::watch;
use trackpost::domain::delivery::outbox::MemoryLimit;
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::sandbox::Answer;
use trackpost::workers::courier::Courier;
use trackpost::workers::heartbeat::Heartbeat;

use crate::house::parcel::{event, in_transit, tracking};
use crate::house::{House, ORDERS, bystander, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";

async fn execute(house: &House, statement: &'static str) {
    sqlx::query(statement).execute(&mut bystander(house.path()).await).await.unwrap();
}

/// A courier of `orders` that holds no more than this in memory.
fn courier_within(house: &House, deliveries: usize) -> Courier {
    let subscriber = house.policy.subscribers[0].clone();
    let (_, audience) = watch::channel(house.policy.subscribers.clone().into());
    let limit = MemoryLimit { deliveries, bytes: 1_000_000 };
    Courier::within(limit, subscriber, audience, house.store().clone(), Heartbeat::default()).unwrap()
}

#[tokio::test]
async fn what_was_committed_is_sent_without_being_read_again() {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.deliver().await;
    house.says("se-1", &in_transit());
    house.poll().await;
    // Whoever read the table would send this.
    execute(&house, "UPDATE messages SET body = replace(body, 'MEMPHIS', 'OMAHA')").await;
    house.deliver().await;
    let bodies = house.callbacks("orders").into_iter().map(|callback| callback.body);
    let bodies: Vec<String> = bodies.map(|body| String::from_utf8_lossy(&body).into_owned()).collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies[0].contains("MEMPHIS") && bodies.iter().all(|body| !body.contains("OMAHA")), "{bodies:?}");
    execute(&house, "UPDATE messages SET body = replace(body, 'OMAHA', 'MEMPHIS')").await;
}

#[tokio::test]
async fn an_idle_courier_sleeps() {
    let mut house = House::new().await;
    let (courier, now) = ("orders", house.now());
    for _ in 0..2 {
        let wake = house.courier(courier).step(now).await.unwrap();
        assert_eq!(wake.duration_since(now), SignedDuration::from_secs(30), "but for a sign of life");
    }
    house.receiver.answer_always(Answer::status(500));
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll().await;
    house.deliver_once(courier).await;
    let wake = house.courier(courier).step(now).await.unwrap();
    let next = house.count("SELECT min(next_attempt_at) FROM deliveries WHERE attempts > 0").await;
    assert_eq!(wake.as_millisecond(), next, "until the first retry");
}

#[tokio::test]
async fn a_backlog_that_memory_does_not_hold_is_delivered_whole_and_in_order() {
    for (deliveries, fails) in [(1, false), (3, false), (3, true), (8, true)] {
        let mut house =
            House::with(&format!("requests_per_minute = 60000\n{ORDERS}max_in_flight = 2\n")).await;
        let labels: Vec<String> = (0..20).map(|number| format!("se-{number}")).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        house.register(&labels).await;
        let scans: Vec<String> = (0..5).rev().map(|n| event(n * 30, "IT", &format!("C{n}"))).collect();
        let scans: Vec<&str> = scans.iter().map(String::as_str).collect();
        labels[..10].iter().for_each(|label| house.says(label, &tracking("IT", &scans)));
        labels[10..].iter().for_each(|label| house.answers(label, Answer::status(500)));
        house.poll().await;
        drop(house.take_courier("orders"));
        let mut courier = courier_within(&house, deliveries);
        // News come in while the backlog is there.
        courier.step(house.now()).await.unwrap();
        house.pass(seconds(120));
        labels[10..].iter().for_each(|label| house.says(label, &tracking("IT", &scans[..2])));
        house.poll().await;
        let count = std::sync::atomic::AtomicUsize::new(0);
        house.receiver.answer_by(move |_| {
            let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            (fails && nth % 7 == 3).then(|| Answer::status(500))
        });
        for _ in 0..2_000 {
            if house.count(PENDING).await == 0 {
                break;
            }
            courier.step(house.now()).await.unwrap();
            house.pass(seconds(1));
        }
        assert_eq!(house.count(PENDING).await, 0, "{deliveries}");
        let verdict = house.receiver.verdict();
        assert_eq!((verdict.duplicates.len(), verdict.order_violations.len()), (0, 0), "{deliveries}");
        house.employ(courier, "orders");
    }
}

#[tokio::test]
async fn a_ping_is_sent_once_and_changes_nothing() {
    use trackpost::domain::messages::ping::Ping;
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.receiver.answer_always(Answer::status(503).header("retry-after", "600"));
    house.poll_and_deliver().await;
    let orders = SubscriberName::new("orders");
    let before = house.store().subscriber_health(&orders).await.unwrap();
    let waiting = "SELECT sum(next_attempt_at) FROM deliveries WHERE state = 'pending'";
    let due = house.count(waiting).await;
    for (status, state) in [(500, "dead"), (410, "dead"), (200, "delivered")] {
        house.receiver.answer_always(Answer::status(status));
        house.store().add_ping(&orders, Ping::new(&orders, house.now()), house.now()).await.unwrap();
        house.deliver().await;
        let last: (String, i64) =
            sqlx::query_as("SELECT state, attempts FROM deliveries ORDER BY delivery_key DESC LIMIT 1")
                .fetch_one(&mut bystander(house.path()).await)
                .await
                .unwrap();
        assert_eq!(last, (state.to_owned(), 1), "it is sent though the subscriber asked to be left alone");
        house.pass(seconds(1));
    }
    assert_eq!(house.store().subscriber_health(&orders).await.unwrap(), before);
    assert_eq!(house.count(waiting).await, due);
}

#[tokio::test]
async fn the_reason_is_stored_when_it_is_decided() {
    let mut house = House::with(&ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]")).await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll().await;
    let reason = async |house: &House| -> String {
        let all = "SELECT reason FROM deliveries WHERE state = 'pending'";
        sqlx::query_scalar(all).fetch_one(&mut bystander(house.path()).await).await.unwrap()
    };
    assert_eq!(reason(&house).await, r#""first""#);
    for expected in
        [r#"{"step":{"number":1,"of":9,"wait_ms":5000}}"#, r#"{"step":{"number":2,"of":9,"wait_ms":300000}}"#]
    {
        house.receiver.answer_always(Answer::status(500));
        house.deliver().await;
        house.pass(seconds(6));
        assert_eq!(reason(&house).await, expected);
    }
    house.receiver.answer_always(Answer::status(500).header("retry-after", "7200"));
    house.pass(seconds(331));
    house.deliver().await;
    assert_eq!(reason(&house).await, r#"{"asked_to_wait":{"capped":false}}"#);
    let delivery = house.count("SELECT delivery_key FROM deliveries").await;
    house.store().retry(delivery, house.now()).await.unwrap();
    assert_eq!(reason(&house).await, r#""queued_again""#);
}

#[tokio::test]
async fn what_another_process_commits_is_noticed_and_our_own_is_not() {
    let house = House::new().await;
    let mut changes = house.store().foreign_changes();
    house.register(&["se-1"]).await;
    tokio::time::timeout(std::time::Duration::from_millis(700), changes.changed()).await.unwrap_err();
    execute(&house, "UPDATE labels SET version = version + 1").await;
    tokio::time::timeout(std::time::Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
}
