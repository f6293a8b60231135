//! A subscriber that fails as a whole (contract 7.6).

use std::collections::BTreeMap;
use std::time::Duration;

use trackpost::domain::delivery::health::{Health, HealthState};
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::domain::secret::Hidden;
use trackpost::sandbox::Answer;

use crate::house::parcel::{event, in_transit, tracking};
use crate::house::{House, ORDERS, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE state = 'delivered'";
const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
const NEWS: &str = "SELECT count(*) FROM messages WHERE label_id = 'se-1'";
const ATTEMPTS: &str = "SELECT count(*) FROM attempts";
const LABELS: [&str; 6] = ["se-1", "se-2", "se-3", "se-4", "se-5", "se-6"];

async fn health(house: &House, subscriber: &str) -> Health {
    house.store().subscriber_health(&SubscriberName::new(subscriber)).await.unwrap()
}

/// Six labels with several messages each, and a receiver that does not answer for a day; `tick` goes on in between.
async fn down_for_a_day(house: &mut House) {
    house.register(&LABELS).await;
    LABELS.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll().await;
    let noon = house.now();
    while house.now() < noon + seconds(86_400) {
        let health = health(house, "orders").await;
        let next = health.probe_at.max(health.held_until).unwrap_or(house.now() + seconds(2));
        house.pass(next.max(house.now() + seconds(1)).duration_since(house.now()));
        house.deliver().await;
        if house.now().duration_since(noon) > seconds(40_000) && house.count(NEWS).await == 3 {
            // News comes in the meantime.
            house.says("se-1", &tracking("IT", &[&event(30, "IT", "AR"), &event(0, "AC", "PU")]));
            house.look_again("se-1").await;
            house.restart().await;
        }
    }
    let attempts = house.count(ATTEMPTS).await;
    assert!((50..400).contains(&attempts), "{attempts} attempts in a day");
    assert_eq!((health(house, "orders").await.state, house.count(DEAD).await), (HealthState::Failing, 0));
    let told = "SELECT count(*) FROM messages WHERE type = 'system.subscriber.failing'";
    assert_eq!(house.count(told).await, 1, "it is told once, through a restart too");
}

/// Everything comes within the longest wait for a probe and a moment to drain, each once, in order.
async fn comes_back(house: &mut House) {
    comes_back_after(house, 301).await;
}

async fn comes_back_after(house: &mut House, wait: i64) {
    house.pass(seconds(wait));
    house.deliver().await;
    assert_eq!((house.count(PENDING).await, house.count(DEAD).await), (0, 0));
    assert_eq!(health(house, "orders").await.state, HealthState::Ok);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for callback in house.callbacks("orders").into_iter().filter(|callback| callback.answered == Some(200)) {
        assert!(ids.insert(callback.message_id.unwrap()), "twice");
        if let (Some(label), Some(seq)) = (callback.label_id, callback.seq) {
            assert!(last.insert(label, seq) < Some(seq), "in order");
        }
    }
    assert_eq!(last.len(), LABELS.len());
    assert_eq!(house.count("SELECT count(*) FROM messages").await, ids.len() as i64);
    let kinds = house.kinds();
    for kind in ["system.subscriber.failing", "system.subscriber.recovered"] {
        assert!(kinds.iter().any(|other| other == kind), "{kind}");
    }
}

#[tokio::test]
async fn a_receiver_that_answers_500_for_a_day_gets_everything_once_and_in_order() {
    let mut house = House::new().await;
    house.receiver.answer_always(Answer::status(500));
    down_for_a_day(&mut house).await;
    house.receiver.answer_always(Answer::status(200));
    comes_back(&mut house).await;
}

#[tokio::test]
async fn nobody_listening_for_a_day_costs_nothing_either() {
    // A door that is shut, and later opened at the same place.
    let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = door.local_addr().unwrap();
    drop(door);
    let mut house = House::with(&ORDERS.replace("HOOK/orders", &format!("http://{address}/orders"))).await;
    down_for_a_day(&mut house).await;
    assert_eq!(house.count("SELECT count(*) FROM attempts WHERE outcome <> 'refused'").await, 0);
    house.open_a_receiver_at(address).await;
    comes_back(&mut house).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_for_a_day_gets_everything_once_and_in_order() {
    let mut house = House::new().await;
    let usual = std::mem::replace(&mut house.policy.subscribers[0].timeout, Duration::from_millis(5));
    house.restart().await;
    house.receiver.answer_always(Answer::status(200).after(Duration::from_secs(600)));
    down_for_a_day(&mut house).await;
    assert_eq!(house.count("SELECT count(*) FROM attempts WHERE outcome NOT LIKE '%timeout'").await, 0);
    house.policy.subscribers[0].timeout = usual;
    house.restart().await;
    house.receiver.answer_always(Answer::status(200));
    comes_back(&mut house).await;
}

#[tokio::test]
async fn a_receiver_that_says_429_for_a_day_is_asked_when_it_said_and_gets_everything_once_and_in_order() {
    let mut house = House::new().await;
    house.receiver.answer_always(Answer::status(429).header("retry-after", "900"));
    down_for_a_day(&mut house).await;
    let attempts = house.count(ATTEMPTS).await;
    assert!(attempts <= 8 + 86_400 / 900, "{attempts} attempts: one in a quarter of an hour");
    house.receiver.answer_always(Answer::status(200));
    comes_back_after(&mut house, 901).await;
}

#[tokio::test]
async fn one_probe_at_a_time_while_news_come_in() {
    let mut house = House::new().await;
    house.receiver.answer_always(Answer::status(500));
    house.register(&LABELS).await;
    LABELS.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll_and_deliver().await;
    let before = house.receiver.counts().received;
    assert!(before <= 8, "{before}: at most those that were under way when it fell");
    for wait in [5, 10, 20, 40] {
        house.pass(seconds(wait - 1));
        house.deliver().await;
        let before = house.receiver.counts().received;
        house.pass(seconds(1));
        house.register(&[&format!("se-{wait}0")]).await;
        house.says(&format!("se-{wait}0"), &in_transit());
        house.poll_and_deliver().await;
        assert_eq!(house.receiver.counts().received, before + 1, "after {wait} s");
    }
}

#[tokio::test]
async fn many_that_are_never_taken_stand_in_no_other_ones_way() {
    let mut house = House::new().await;
    house.receiver.answer_by(|callback| {
        let good = callback.label_id.as_deref().is_none_or(|label| label == "se-99");
        (!good).then(|| Answer::status(422))
    });
    let bad: Vec<String> = (1..=20).map(|number| format!("se-{number}")).collect();
    house.register(&bad.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bad.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll_and_deliver().await;
    assert_eq!(health(&house, "orders").await.state, HealthState::Failing);
    house.pass(seconds(1));
    house.register(&["se-99"]).await;
    house.says("se-99", &in_transit());
    for wait in [4, 10] {
        assert_eq!(house.count(DELIVERED).await, 0, "it is probed with the longest due first");
        house.pass(seconds(wait));
        house.poll_and_deliver().await;
    }
    assert!(house.count(DELIVERED).await > 0, "and then with the newest");
}

#[tokio::test]
async fn one_message_that_is_never_taken_harms_no_other() {
    let mut house = House::with(&(ORDERS.to_owned() + "retry = [\"5s\", \"10s\"]\n")).await;
    house
        .receiver
        .answer_by(|callback| (callback.label_id.as_deref() == Some("se-1")).then(|| Answer::status(422)));
    for (index, label) in LABELS.iter().enumerate() {
        house.register(&[label]).await;
        house.says(label, &in_transit());
        house.poll_and_deliver().await;
        house.pass(seconds(12));
        house.deliver().await;
        assert_eq!(health(&house, "orders").await.state, HealthState::Ok, "{index}");
    }
    assert!(house.count(DEAD).await > 0, "it is given up, others were accepted");
    assert!(house.kinds().iter().all(|kind| !kind.starts_with("system.")));
}

#[tokio::test]
async fn many_that_are_never_taken_die_and_do_not_keep_the_subscriber_from_being_well() {
    let one_each = ORDERS.replace("[\"*\"]", "[\"tracking.updated\", \"system.*\"]");
    let mut house = House::with(&(one_each + "retry = [\"60s\", \"120s\", \"240s\"]\n")).await;
    let bad = ["se-1", "se-2", "se-3", "se-4", "se-5", "se-6"];
    house.receiver.answer_by(|callback| {
        callback.label_id.as_deref().is_some_and(|label| label.len() == 4).then(|| Answer::status(422))
    });
    house.register(&bad).await;
    bad.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll_and_deliver().await;
    for n in 0..20 {
        let good = format!("se-10{n}");
        house.register(&[&good]).await;
        house.says(&good, &in_transit());
        house.poll_and_deliver().await;
        house.pass(seconds(30));
        house.deliver().await;
        let health = health(&house, "orders").await;
        assert_eq!((health.state, health.episode_at), (HealthState::Ok, None), "{n}: {health:?}");
    }
    let of_bad = "SELECT count(DISTINCT m.label_key) FROM deliveries d JOIN messages m USING (message_key)
                  WHERE d.state = 'dead' AND m.label_id LIKE 'se-_'";
    assert_eq!(house.count(of_bad).await, 6);
    let fell = "SELECT count(*) FROM messages WHERE type = 'system.subscriber.failing'";
    assert_eq!(house.count(fell).await, 1);
}

#[tokio::test]
async fn others_are_told_and_those_who_did_not_ask_are_not() {
    let watching = ORDERS.replace("orders", "watching").replace("[\"*\"]", "[\"system.subscriber.failing\"]");
    let quiet = ORDERS.replace("orders", "quiet").replace("[\"*\"]", "[\"tracking.*\"]");
    let mut house = House::with(&(watching + &quiet + ORDERS)).await;
    house.receiver.answer_by(|callback| (callback.path == "/orders").then(|| Answer::status(500)));
    house.register(&LABELS).await;
    LABELS.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll_and_deliver().await;
    house.deliver().await;
    let told = house.callbacks("watching");
    assert_eq!(told.len(), 1);
    let body: serde_json::Value = serde_json::from_slice(&told[0].body).unwrap();
    assert_eq!(body["data"]["subscriber"], "orders");
    assert_eq!(body["data"]["state"], "failing");
    assert_eq!(body["data"]["reason"], "failures");
    assert_eq!(body["data"]["detail"], "status 500");
    house.receiver.answer_by(|_| None);
    house.pass(seconds(6));
    house.deliver().await;
    house.deliver().await;
    assert_eq!(house.callbacks("watching").len(), 1, "it did not ask about recoveries");
    assert!(house.callbacks("quiet").iter().all(|callback| callback.label_id.is_some()));
}

#[tokio::test]
async fn gone_twice_pauses_until_somebody_resumes_it() {
    let mut house = House::new().await;
    house.receiver.answer_always(Answer::status(410));
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    for _ in 0..4 {
        house.pass(seconds(1_900));
        house.deliver().await;
    }
    assert_eq!(health(&house, "orders").await.state, HealthState::Paused);
    let received = house.receiver.counts().received;
    house.receiver.answer_always(Answer::status(200));
    house.pass(seconds(86_400));
    house.deliver().await;
    house.restart().await;
    house.deliver().await;
    assert_eq!(house.receiver.counts().received, received, "nothing is sent while it is paused");
    let (orders, now) = (SubscriberName::new("orders"), house.now());
    let (resumed, _) = house.store().change_health(&orders, move |health| health.resume(now)).await.unwrap();
    assert!(resumed);
    house.deliver().await;
    assert_eq!((house.count(PENDING).await, house.count(DEAD).await), (0, 0));
    assert_eq!(health(&house, "orders").await.state, HealthState::Ok);
}

#[tokio::test]
async fn another_url_is_another_receiver() {
    let mut house = House::new().await;
    house.receiver.answer_by(|callback| (callback.path == "/orders").then(|| Answer::status(410)));
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    for _ in 0..2 {
        house.pass(seconds(700));
        house.deliver().await;
    }
    assert_eq!(health(&house, "orders").await.state, HealthState::Paused);
    house.policy.subscribers[0].url = Hidden::new(format!("{}moved", house.hook));
    house.restart().await;
    house.deliver_once("orders").await;
    house.deliver().await;
    assert_eq!(house.count(PENDING).await, 0);
    let stored = "SELECT count(*) FROM subscribers WHERE url_digest LIKE '%http%'";
    assert_eq!(house.count(stored).await, 0, "of the URL only a digest is kept");
}

#[tokio::test]
async fn a_hold_goes_before_the_probe() {
    let mut house = House::new().await;
    house.register(&LABELS).await;
    LABELS.iter().for_each(|label| house.says(label, &in_transit()));
    house.receiver.answer_always(Answer::status(503).header("retry-after", "3600"));
    house.poll_and_deliver().await;
    let received = house.receiver.counts().received;
    house.receiver.answer_always(Answer::status(200));
    house.pass(seconds(3_590));
    house.deliver().await;
    assert_eq!(house.receiver.counts().received, received);
    house.pass(seconds(15));
    house.deliver().await;
    assert_eq!(house.count(PENDING).await, 0);
}
