//! Retention and deletion of stored rows (contract 2, 7.6).

use jiff::SignedDuration;
use trackpost::config::StoreConfig;

use trackpost::domain::messages::fan_out::PlannedDelivery;
use trackpost::domain::messages::ping::Ping;
use trackpost::domain::messages::subscriber::{Format, Subscriber, SubscriberName};
use trackpost::domain::messages::{MessageType, account_message};
use trackpost::domain::polling::account_status::AccountState;
use trackpost::sandbox::Answer;
use trackpost::store::accounts::AccountRecord;
use trackpost::workers::janitor;

use crate::harness::parcel::{event, tracking};
use crate::harness::{Harness, ORDERS, hours, seconds};

const MESSAGES: &str = "SELECT count(*) FROM messages";
const LABELS: &str = "SELECT count(*) FROM labels";
const ABSENT: &str = "SELECT count(*) FROM subscribers WHERE absent_since IS NOT NULL";

fn days(days: i64) -> SignedDuration {
    hours(days * 24)
}

/// Runs the janitor until nothing is left to delete, with these subscribers configured.
async fn tidy(harness: &Harness, keep_days: u64, subscribers: &[Subscriber]) {
    let day = std::time::Duration::from_secs(86_400);
    let keep = StoreConfig {
        path: harness.path().to_owned(),
        keep_finished: day * u32::try_from(keep_days).unwrap(),
        keep_attempts: day,
    };
    while janitor::step(harness.store(), &keep, subscribers, harness.now()).await.unwrap() {}
}

/// Like [`tidy`], with all subscribers.
async fn tidy_all(harness: &Harness, keep_days: u64) {
    tidy(harness, keep_days, &harness.policy.subscribers).await;
}

async fn ping(harness: &Harness, subscriber: &str) {
    let name = SubscriberName::new(subscriber);
    harness.store().add_ping(&name, Ping::new(&name, harness.now()), harness.now()).await.unwrap();
}

/// Sends `orders` a message without a label.
async fn send_system_message(harness: &Harness) {
    let (name, now) = (harness.account.name.clone(), harness.now());
    let message = account_message(MessageType::AccountRecovered, &name, "it is back", None, now);
    let subscriber = SubscriberName::new("orders");
    let delivery = PlannedDelivery { message: 0, subscriber, format: Format::Standard };
    let record = AccountRecord {
        name,
        state: AccountState::new(now),
        change: None,
        messages: vec![message],
        deliveries: vec![delivery],
        now,
    };
    harness.store().record_account(record).await.unwrap();
}

/// `se-1` is delivered, and its messages are pending.
async fn delivered_parcel(configuration: &str) -> Harness {
    let mut harness = Harness::with(configuration).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll().await;
    harness
}

#[tokio::test]
async fn keys_are_not_used_again_after_their_rows_were_deleted() {
    let mut harness = delivered_parcel(ORDERS).await;
    harness.deliver().await;
    ping(&harness, "orders").await;
    harness.deliver().await;
    let last = [
        harness.count("SELECT max(message_key) FROM messages").await,
        harness.count("SELECT max(delivery_key) FROM deliveries").await,
    ];
    harness.pass(days(40));
    tidy_all(&harness, 20).await;
    assert_eq!(harness.count(MESSAGES).await, 0);
    ping(&harness, "orders").await;
    let next = [
        harness.count("SELECT min(message_key) FROM messages").await,
        harness.count("SELECT min(delivery_key) FROM deliveries").await,
    ];
    assert_eq!(next, last.map(|key| key + 1));
}

#[tokio::test]
async fn old_system_messages_and_pings_are_deleted() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(401));
    harness.poll_and_deliver().await;
    ping(&harness, "orders").await;
    harness.deliver().await;
    assert_eq!(harness.kinds(), ["system.account.unauthorized", "trackpost.ping"]);
    harness.pass(days(20) - seconds(1));
    tidy_all(&harness, 20).await;
    assert_eq!(harness.count(MESSAGES).await, 2);
    harness.pass(seconds(2));
    tidy_all(&harness, 20).await;
    assert_eq!(harness.count(MESSAGES).await, 0);
}

#[tokio::test]
async fn pending_deliveries_are_kept_and_dead_ones_for_two_weeks() {
    let mut harness = Harness::with(&format!("{ORDERS}retry = [\"1s\"]\n")).await;
    harness.receiver.answer_by(|callback| match callback.kind.as_deref() {
        Some("system.account.recovered") => Some(Answer::status(422)),
        _ => None,
    });
    send_system_message(&harness).await;
    harness.deliver().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_and_deliver().await;
    harness.pass(days(20));
    tidy_all(&harness, 1).await;
    assert_eq!(
        (harness.count(LABELS).await, harness.count(MESSAGES).await),
        (0, 1),
        "the system message is still pending"
    );
    harness.register(&["se-2"]).await;
    harness.says("se-2", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_and_deliver().await;
    harness.deliver().await;
    harness.pass(seconds(2));
    harness.deliver().await;
    const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
    assert_eq!(harness.count(DEAD).await, 1);
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(DEAD).await, 1, "it has just become dead");
    harness.pass(days(2));
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(DEAD).await, 0);

    // A dead delivery of a label is not yet two weeks old when the finished label is old enough.
    harness.receiver.answer_by(|callback| {
        (callback.kind.as_deref() == Some("tracking.event.added")).then(|| Answer::status(422))
    });
    harness.register(&["se-3", "se-4"]).await;
    harness.says("se-3", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_and_deliver().await;
    harness
        .receiver
        .answer_by(|callback| (callback.label_id.as_deref() == Some("se-3")).then(|| Answer::status(422)));
    harness.says("se-4", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_again("se-4").await;
    for _ in 0..30 {
        // Another message is accepted.
        send_system_message(&harness).await;
        harness.deliver().await;
        harness.pass(seconds(2));
    }
    assert!(harness.count(DEAD).await > 0);
    harness.pass(days(13));
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(LABELS).await, 1, "the label with the dead message is kept");
    harness.pass(days(1));
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(LABELS).await, 0);
}

#[tokio::test]
async fn deliveries_of_a_removed_subscriber_are_deleted_after_two_weeks() {
    let harness = delivered_parcel(ORDERS).await;
    harness.pass(days(30));
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(LABELS).await, 1, "a configured subscriber gets it at any age");
    tidy(&harness, 1, &[]).await;
    assert_eq!(
        (harness.count(LABELS).await, harness.count(ABSENT).await),
        (1, 1),
        "the two weeks begin here"
    );
    harness.pass(days(13));
    tidy(&harness, 1, &[]).await;
    assert_eq!(harness.count(LABELS).await, 1);
    harness.pass(days(1) + seconds(1));
    tidy(&harness, 1, &[]).await;
    assert_eq!((harness.count(LABELS).await, harness.count("SELECT count(*) FROM deliveries").await), (0, 0));
}

#[tokio::test]
async fn a_subscriber_restored_within_two_weeks_gets_its_deliveries() {
    let mut harness = delivered_parcel(ORDERS).await;
    let mut off = harness.policy.subscribers.clone();
    off[0].enabled = false;
    tidy(&harness, 1, &off).await;
    harness.pass(days(13));
    tidy(&harness, 1, &off).await;
    tidy_all(&harness, 1).await;
    assert_eq!(harness.count(ABSENT).await, 0, "the two weeks begin again");
    harness.pass(days(13));
    tidy(&harness, 1, &off).await;
    harness.deliver().await;
    assert_eq!(harness.kinds().last().unwrap(), "tracking.updated");
}

#[tokio::test]
async fn deleted_undelivered_messages_are_counted_by_subscriber() {
    let mut harness = delivered_parcel(&(ORDERS.to_owned() + &ORDERS.replace("orders", "gone"))).await;
    harness.deliver_once("orders").await;
    let left = [harness.policy.subscribers[1].clone()];
    assert_eq!(left[0].name.as_str(), "orders");
    for _ in 0..20 {
        harness.deliver_once("orders").await;
    }
    tidy(&harness, 1, &left).await;
    harness.pass(days(15));
    let keep = trackpost::store::upkeep::RetentionLimits {
        attempts_since: harness.now(),
        finished_since: harness.now() - days(1),
        undelivered_since: harness.now() - days(14),
    };
    let pruned = harness.store().prune(keep, 500).await.unwrap();
    let messages = u64::try_from(harness.kinds().len()).unwrap();
    assert_eq!((pruned.labels, pruned.undelivered), (1, vec![("gone".to_owned(), messages)]));
}

#[tokio::test]
async fn a_delivery_behind_a_deleted_one_becomes_due() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    tidy(&harness, 1, &[]).await;
    harness.answers("se-1", Answer::status(401));
    harness.poll().await;
    tidy(&harness, 1, &[]).await;
    harness.pass(days(20));
    // Health is written repeatedly, but the time of the removal stays the same.
    harness.store().change_health(&SubscriberName::new("orders"), |_| ()).await.unwrap();
    assert_eq!(harness.count(ABSENT).await, 1);
    harness.says("se-1", &tracking("IT", &[&event(0, "AC", "PU")]));
    harness.poll().await;
    let of_system = "SELECT count(*) FROM deliveries WHERE lane < 0 AND state = 'pending'";
    assert_eq!(harness.count(of_system).await, 2);
    tidy(&harness, 1, &[]).await;
    assert_eq!(harness.count(of_system).await, 1);
    harness.deliver().await;
    let system = harness.kinds().into_iter().filter(|kind| kind.starts_with("system."));
    assert_eq!(system.collect::<Vec<_>>(), ["system.account.recovered"]);
}
