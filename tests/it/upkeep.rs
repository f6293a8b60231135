//! What is kept, and what goes when it was kept long enough (contract 2, 7.6).

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

use crate::house::parcel::{event, tracking};
use crate::house::{House, ORDERS, hours, seconds};

const MESSAGES: &str = "SELECT count(*) FROM messages";
const LABELS: &str = "SELECT count(*) FROM labels";
const ABSENT: &str = "SELECT count(*) FROM subscribers WHERE absent_since IS NOT NULL";

fn days(days: i64) -> SignedDuration {
    hours(days * 24)
}

/// Tidies up until nothing more goes, for a configuration with these subscribers.
async fn tidy(house: &House, keep_days: u64, subscribers: &[Subscriber]) {
    let day = std::time::Duration::from_secs(86_400);
    let keep = StoreConfig {
        path: house.path().to_owned(),
        keep_finished: day * u32::try_from(keep_days).unwrap(),
        keep_attempts: day,
    };
    while janitor::step(house.store(), &keep, subscribers, house.now()).await.unwrap() {}
}

/// As [`tidy`], for all subscribers of the house.
async fn tidy_all(house: &House, keep_days: u64) {
    tidy(house, keep_days, &house.policy.subscribers).await;
}

async fn ping(house: &House, subscriber: &str) {
    let name = SubscriberName::new(subscriber);
    house.store().add_ping(&name, Ping::new(&name, house.now()), house.now()).await.unwrap();
}

/// `orders` is told something that belongs to no label.
async fn tell(house: &House) {
    let (name, now) = (house.account.name.clone(), house.now());
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
    house.store().record_account(record).await.unwrap();
}

/// `se-1` was delivered; what is to be told of it waits.
async fn delivered_parcel(configuration: &str) -> House {
    let mut house = House::with(configuration).await;
    house.register(&["se-1"]).await;
    house.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.poll().await;
    house
}

#[tokio::test]
async fn what_the_system_said_and_pings_go_in_time() {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.answers("se-1", Answer::status(401));
    house.poll_and_deliver().await;
    ping(&house, "orders").await;
    house.deliver().await;
    assert_eq!(house.kinds(), ["system.account.unauthorized", "trackpost.ping"]);
    house.pass(days(20) - seconds(1));
    tidy_all(&house, 20).await;
    assert_eq!(house.count(MESSAGES).await, 2);
    house.pass(seconds(2));
    tidy_all(&house, 20).await;
    assert_eq!(house.count(MESSAGES).await, 0);
}

#[tokio::test]
async fn what_is_owed_stays_and_what_is_dead_two_weeks() {
    let mut house = House::with(&format!("{ORDERS}retry = [\"1s\"]\n")).await;
    house.receiver.answer_by(|callback| match callback.kind.as_deref() {
        Some("system.account.recovered") => Some(Answer::status(422)),
        _ => None,
    });
    tell(&house).await;
    house.deliver().await;
    house.register(&["se-1"]).await;
    house.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.poll_and_deliver().await;
    house.pass(days(20));
    tidy_all(&house, 1).await;
    assert_eq!(
        (house.count(LABELS).await, house.count(MESSAGES).await),
        (0, 1),
        "the message of the system is still owed"
    );
    house.register(&["se-2"]).await;
    house.says("se-2", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.poll_and_deliver().await;
    house.deliver().await;
    house.pass(seconds(2));
    house.deliver().await;
    const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
    assert_eq!(house.count(DEAD).await, 1);
    tidy_all(&house, 1).await;
    assert_eq!(house.count(DEAD).await, 1, "it has only just died");
    house.pass(days(2));
    tidy_all(&house, 1).await;
    assert_eq!(house.count(DEAD).await, 0);

    // A label's dead one, on the other hand, is not yet two weeks old when the label is done for long enough.
    house.receiver.answer_by(|callback| {
        (callback.kind.as_deref() == Some("tracking.event.added")).then(|| Answer::status(422))
    });
    house.register(&["se-3", "se-4"]).await;
    house.says("se-3", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.poll_and_deliver().await;
    house
        .receiver
        .answer_by(|callback| (callback.label_id.as_deref() == Some("se-3")).then(|| Answer::status(422)));
    house.says("se-4", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.look_again("se-4").await;
    for _ in 0..30 {
        // Something else that is accepted.
        tell(&house).await;
        house.deliver().await;
        house.pass(seconds(2));
    }
    assert!(house.count(DEAD).await > 0);
    house.pass(days(13));
    tidy_all(&house, 1).await;
    assert_eq!(house.count(LABELS).await, 1, "the one with the dead message is kept");
    house.pass(days(1));
    tidy_all(&house, 1).await;
    assert_eq!(house.count(LABELS).await, 0);
}

#[tokio::test]
async fn what_is_owed_to_nobody_who_is_there_goes_after_two_weeks() {
    let house = delivered_parcel(ORDERS).await;
    house.pass(days(30));
    tidy_all(&house, 1).await;
    assert_eq!(house.count(LABELS).await, 1, "whoever is there gets it, however late");
    tidy(&house, 1, &[]).await;
    assert_eq!((house.count(LABELS).await, house.count(ABSENT).await), (1, 1), "two weeks count from here");
    house.pass(days(13));
    tidy(&house, 1, &[]).await;
    assert_eq!(house.count(LABELS).await, 1);
    house.pass(days(1) + seconds(1));
    tidy(&house, 1, &[]).await;
    assert_eq!((house.count(LABELS).await, house.count("SELECT count(*) FROM deliveries").await), (0, 0));
}

#[tokio::test]
async fn who_comes_back_within_two_weeks_gets_what_waited() {
    let mut house = delivered_parcel(ORDERS).await;
    let mut off = house.policy.subscribers.clone();
    off[0].enabled = false;
    tidy(&house, 1, &off).await;
    house.pass(days(13));
    tidy(&house, 1, &off).await;
    tidy_all(&house, 1).await;
    assert_eq!(house.count(ABSENT).await, 0, "the two weeks begin anew");
    house.pass(days(13));
    tidy(&house, 1, &off).await;
    house.deliver().await;
    assert_eq!(house.kinds().last().unwrap(), "tracking.updated");
}

#[tokio::test]
async fn what_was_counted_is_said() {
    let mut house = delivered_parcel(&(ORDERS.to_owned() + &ORDERS.replace("orders", "gone"))).await;
    house.deliver_once("orders").await;
    let left = [house.policy.subscribers[1].clone()];
    assert_eq!(left[0].name.as_str(), "orders");
    for _ in 0..20 {
        house.deliver_once("orders").await;
    }
    tidy(&house, 1, &left).await;
    house.pass(days(15));
    let keep = trackpost::store::upkeep::Keep {
        attempts_since: house.now(),
        finished_since: house.now() - days(1),
        undelivered_since: house.now() - days(14),
    };
    let pruned = house.store().prune(keep, 500).await.unwrap();
    let messages = u64::try_from(house.kinds().len()).unwrap();
    assert_eq!((pruned.labels, pruned.undelivered), (1, vec![("gone".to_owned(), messages)]));
}

#[tokio::test]
async fn what_stood_behind_something_pruned_comes_up() {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    tidy(&house, 1, &[]).await;
    house.answers("se-1", Answer::status(401));
    house.poll().await;
    tidy(&house, 1, &[]).await;
    house.pass(days(20));
    // How it fares is written now and then; since when it is absent stays known.
    house.store().change_health(&SubscriberName::new("orders"), |_| ()).await.unwrap();
    assert_eq!(house.count(ABSENT).await, 1);
    house.says("se-1", &tracking("IT", &[&event(0, "AC", "PU")]));
    house.poll().await;
    let of_system = "SELECT count(*) FROM deliveries WHERE lane < 0 AND state = 'pending'";
    assert_eq!(house.count(of_system).await, 2);
    tidy(&house, 1, &[]).await;
    assert_eq!(house.count(of_system).await, 1);
    house.deliver().await;
    let system = house.kinds().into_iter().filter(|kind| kind.starts_with("system."));
    assert_eq!(system.collect::<Vec<_>>(), ["system.account.recovered"]);
}
