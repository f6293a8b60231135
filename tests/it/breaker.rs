//! A failing subscriber (contract 7.6).

use std::collections::BTreeMap;
use std::time::Duration;

use trackpost::domain::delivery::health::{Health, HealthState};
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::domain::secret::Hidden;
use trackpost::sandbox::Answer;

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::peer::closed_port;
use crate::harness::{Harness, ORDERS, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
const DELIVERED: &str = "SELECT count(*) FROM deliveries WHERE state = 'delivered'";
const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
const MESSAGES_OF_FIRST: &str = "SELECT count(*) FROM messages WHERE label_id = 'se-1'";
const ATTEMPTS: &str = "SELECT count(*) FROM attempts";
const LABELS: [&str; 6] = ["se-1", "se-2", "se-3", "se-4", "se-5", "se-6"];

async fn health(harness: &Harness, subscriber: &str) -> Health {
    harness.store().subscriber_health(&SubscriberName::new(subscriber)).await.unwrap()
}

/// Six labels with several messages each, and a receiver that does not answer for a day. `tick` runs in between.
async fn down_for_a_day(harness: &mut Harness) {
    harness.register(&LABELS).await;
    LABELS.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll().await;
    let noon = harness.now();
    while harness.now() < noon + seconds(86_400) {
        let health = health(harness, "orders").await;
        let next = health.probe_at.max(health.held_until).unwrap_or(harness.now() + seconds(2));
        harness.pass(next.max(harness.now() + seconds(1)).duration_since(harness.now()));
        harness.deliver().await;
        if harness.now().duration_since(noon) > seconds(40_000) && harness.count(MESSAGES_OF_FIRST).await == 3
        {
            // More messages are created meanwhile.
            harness.says("se-1", &tracking("IT", &[&event(30, "IT", "AR"), &event(0, "AC", "PU")]));
            harness.poll_again("se-1").await;
            harness.restart().await;
        }
    }
    let attempts = harness.count(ATTEMPTS).await;
    assert!((50..400).contains(&attempts), "{attempts} attempts in a day");
    assert_eq!((health(harness, "orders").await.state, harness.count(DEAD).await), (HealthState::Failing, 0));
    let reported = "SELECT count(*) FROM messages WHERE type = 'system.subscriber.failing'";
    assert_eq!(harness.count(reported).await, 1, "it is reported once, also after a restart");
}

/// Checks that all messages arrive once and in order, within the longest wait for a probe and a short drain.
async fn check_catch_up(harness: &mut Harness) {
    check_catch_up_within(harness, 301).await;
}

async fn check_catch_up_within(harness: &mut Harness, wait: i64) {
    harness.pass(seconds(wait));
    harness.deliver().await;
    assert_eq!((harness.count(PENDING).await, harness.count(DEAD).await), (0, 0));
    assert_eq!(health(harness, "orders").await.state, HealthState::Ok);
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut ids = std::collections::BTreeSet::new();
    for callback in harness.callbacks("orders").into_iter().filter(|callback| callback.answered == Some(200))
    {
        assert!(ids.insert(callback.message_id.unwrap()), "twice");
        if let (Some(label), Some(seq)) = (callback.label_id, callback.seq) {
            assert!(last.insert(label, seq) < Some(seq), "in order");
        }
    }
    assert_eq!(last.len(), LABELS.len());
    assert_eq!(harness.count("SELECT count(*) FROM messages").await, ids.len() as i64);
    let kinds = harness.kinds();
    for kind in ["system.subscriber.failing", "system.subscriber.recovered"] {
        assert!(kinds.iter().any(|other| other == kind), "{kind}");
    }
}

#[tokio::test]
async fn a_receiver_that_answers_500_for_a_day_gets_everything_once_and_in_order() {
    let mut harness = Harness::new().await;
    harness.receiver.answer_always(Answer::status(500));
    down_for_a_day(&mut harness).await;
    harness.receiver.answer_always(Answer::status(200));
    check_catch_up(&mut harness).await;
}

#[tokio::test]
async fn a_receiver_that_refuses_connections_for_a_day_gets_everything_once_and_in_order() {
    // A closed port, which a receiver opens later.
    let (address, reserved) = closed_port();
    let mut harness =
        Harness::with(&ORDERS.replace("HOOK/orders", &format!("http://{address}/orders"))).await;
    down_for_a_day(&mut harness).await;
    assert_eq!(harness.count("SELECT count(*) FROM attempts WHERE outcome <> 'refused'").await, 0);
    drop(reserved);
    harness.start_receiver_at(address).await;
    check_catch_up(&mut harness).await;
}

#[tokio::test]
async fn a_receiver_that_hangs_for_a_day_gets_everything_once_and_in_order() {
    let mut harness = Harness::new().await;
    let usual = std::mem::replace(&mut harness.policy.subscribers[0].timeout, Duration::from_millis(5));
    harness.restart().await;
    harness.receiver.answer_always(Answer::status(200).after(Duration::from_secs(600)));
    down_for_a_day(&mut harness).await;
    assert_eq!(harness.count("SELECT count(*) FROM attempts WHERE outcome NOT LIKE '%timeout'").await, 0);
    harness.policy.subscribers[0].timeout = usual;
    harness.restart().await;
    harness.receiver.answer_always(Answer::status(200));
    check_catch_up(&mut harness).await;
}

#[tokio::test]
async fn a_receiver_that_answers_429_for_a_day_is_probed_at_its_retry_after_and_gets_everything_once_and_in_order()
 {
    let mut harness = Harness::new().await;
    harness.receiver.answer_always(Answer::status(429).header("retry-after", "900"));
    down_for_a_day(&mut harness).await;
    let attempts = harness.count(ATTEMPTS).await;
    assert!(attempts <= 8 + 86_400 / 900, "{attempts} attempts: one in a quarter of an hour");
    harness.receiver.answer_always(Answer::status(200));
    check_catch_up_within(&mut harness, 901).await;
}

#[tokio::test]
async fn one_probe_at_a_time_while_messages_arrive() {
    let mut harness = Harness::new().await;
    harness.receiver.answer_always(Answer::status(500));
    harness.register(&LABELS).await;
    LABELS.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    let before = harness.receiver.counts().received;
    assert!(before <= 8, "{before}: at most the attempts in flight when it failed");
    for wait in [5, 10, 20, 40] {
        harness.pass(seconds(wait - 1));
        harness.deliver().await;
        let before = harness.receiver.counts().received;
        harness.pass(seconds(1));
        harness.register(&[&format!("se-{wait}0")]).await;
        harness.says(&format!("se-{wait}0"), &in_transit());
        harness.poll_and_deliver().await;
        assert_eq!(harness.receiver.counts().received, before + 1, "after {wait} s");
    }
}

#[tokio::test]
async fn many_messages_never_accepted_do_not_block_other_messages() {
    let mut harness = Harness::new().await;
    harness.receiver.answer_by(|callback| {
        let good = callback.label_id.as_deref().is_none_or(|label| label == "se-99");
        (!good).then(|| Answer::status(422))
    });
    let bad: Vec<String> = (1..=20).map(|number| format!("se-{number}")).collect();
    harness.register(&bad.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bad.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    assert_eq!(health(&harness, "orders").await.state, HealthState::Failing);
    harness.pass(seconds(1));
    harness.register(&["se-99"]).await;
    harness.says("se-99", &in_transit());
    for wait in [4, 10] {
        assert_eq!(harness.count(DELIVERED).await, 0, "the first probe is the oldest delivery");
        harness.pass(seconds(wait));
        harness.poll_and_deliver().await;
    }
    assert!(harness.count(DELIVERED).await > 0, "the next probe is the newest delivery");
}

#[tokio::test]
async fn one_message_never_accepted_does_not_delay_other_messages() {
    let mut harness = Harness::with(&(ORDERS.to_owned() + "retry = [\"5s\", \"10s\"]\n")).await;
    harness
        .receiver
        .answer_by(|callback| (callback.label_id.as_deref() == Some("se-1")).then(|| Answer::status(422)));
    for (index, label) in LABELS.iter().enumerate() {
        harness.register(&[label]).await;
        harness.says(label, &in_transit());
        harness.poll_and_deliver().await;
        harness.pass(seconds(12));
        harness.deliver().await;
        assert_eq!(health(&harness, "orders").await.state, HealthState::Ok, "{index}");
    }
    assert!(harness.count(DEAD).await > 0, "it is dead, because others were accepted");
    assert!(harness.kinds().iter().all(|kind| !kind.starts_with("system.")));
}

#[tokio::test]
async fn many_messages_never_accepted_become_dead_and_the_subscriber_recovers() {
    let one_each = ORDERS.replace("[\"*\"]", "[\"tracking.updated\", \"system.*\"]");
    let mut harness = Harness::with(&(one_each + "retry = [\"60s\", \"120s\", \"240s\"]\n")).await;
    let bad = ["se-1", "se-2", "se-3", "se-4", "se-5", "se-6"];
    harness.receiver.answer_by(|callback| {
        callback.label_id.as_deref().is_some_and(|label| label.len() == 4).then(|| Answer::status(422))
    });
    harness.register(&bad).await;
    bad.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    for n in 0..20 {
        let good = format!("se-10{n}");
        harness.register(&[&good]).await;
        harness.says(&good, &in_transit());
        harness.poll_and_deliver().await;
        harness.pass(seconds(30));
        harness.deliver().await;
        let health = health(&harness, "orders").await;
        assert_eq!((health.state, health.episode_at), (HealthState::Ok, None), "{n}: {health:?}");
    }
    let of_bad = "SELECT count(DISTINCT m.label_key) FROM deliveries d JOIN messages m USING (message_key)
                  WHERE d.state = 'dead' AND m.label_id LIKE 'se-_'";
    assert_eq!(harness.count(of_bad).await, 6);
    let fell = "SELECT count(*) FROM messages WHERE type = 'system.subscriber.failing'";
    assert_eq!(harness.count(fell).await, 1);
}

#[tokio::test]
async fn health_messages_go_only_to_subscribers_that_selected_them() {
    let watching = ORDERS.replace("orders", "watching").replace("[\"*\"]", "[\"system.subscriber.failing\"]");
    let quiet = ORDERS.replace("orders", "quiet").replace("[\"*\"]", "[\"tracking.*\"]");
    let mut harness = Harness::with(&(watching + &quiet + ORDERS)).await;
    harness.receiver.answer_by(|callback| (callback.path == "/orders").then(|| Answer::status(500)));
    harness.register(&LABELS).await;
    LABELS.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    harness.deliver().await;
    let reported = harness.callbacks("watching");
    assert_eq!(reported.len(), 1);
    let body: serde_json::Value = serde_json::from_slice(&reported[0].body).unwrap();
    assert_eq!(body["data"]["subscriber"], "orders");
    assert_eq!(body["data"]["state"], "failing");
    assert_eq!(body["data"]["reason"], "failures");
    assert_eq!(body["data"]["detail"], "status 500");
    harness.receiver.answer_by(|_| None);
    harness.pass(seconds(6));
    harness.deliver().await;
    harness.deliver().await;
    assert_eq!(harness.callbacks("watching").len(), 1, "it does not select recoveries");
    assert!(harness.callbacks("quiet").iter().all(|callback| callback.label_id.is_some()));
}

#[tokio::test]
async fn a_second_410_pauses_the_subscriber_until_it_is_resumed() {
    let mut harness = Harness::new().await;
    harness.receiver.answer_always(Answer::status(410));
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    for _ in 0..4 {
        harness.pass(seconds(1_900));
        harness.deliver().await;
    }
    assert_eq!(health(&harness, "orders").await.state, HealthState::Paused);
    let received = harness.receiver.counts().received;
    harness.receiver.answer_always(Answer::status(200));
    harness.pass(seconds(86_400));
    harness.deliver().await;
    harness.restart().await;
    harness.deliver().await;
    assert_eq!(harness.receiver.counts().received, received, "nothing is sent while it is paused");
    let (orders, now) = (SubscriberName::new("orders"), harness.now());
    let (resumed, _) =
        harness.store().change_health(&orders, move |health| health.resume(now)).await.unwrap();
    assert!(resumed);
    harness.deliver().await;
    assert_eq!((harness.count(PENDING).await, harness.count(DEAD).await), (0, 0));
    assert_eq!(health(&harness, "orders").await.state, HealthState::Ok);
}

#[tokio::test]
async fn a_changed_url_resets_the_health_of_a_subscriber() {
    let mut harness = Harness::new().await;
    harness.receiver.answer_by(|callback| (callback.path == "/orders").then(|| Answer::status(410)));
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    for _ in 0..2 {
        harness.pass(seconds(700));
        harness.deliver().await;
    }
    assert_eq!(health(&harness, "orders").await.state, HealthState::Paused);
    harness.policy.subscribers[0].url = Hidden::new(format!("{}moved", harness.hook));
    harness.restart().await;
    harness.deliver_once("orders").await;
    harness.deliver().await;
    assert_eq!(harness.count(PENDING).await, 0);
    let stored = "SELECT count(*) FROM subscribers WHERE url_digest LIKE '%http%'";
    assert_eq!(harness.count(stored).await, 0, "only a digest of the URL is stored");
}

#[tokio::test]
async fn a_retry_after_delays_the_probe() {
    let mut harness = Harness::new().await;
    harness.register(&LABELS).await;
    LABELS.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.receiver.answer_always(Answer::status(503).header("retry-after", "3600"));
    harness.poll_and_deliver().await;
    let received = harness.receiver.counts().received;
    harness.receiver.answer_always(Answer::status(200));
    harness.pass(seconds(3_590));
    harness.deliver().await;
    assert_eq!(harness.receiver.counts().received, received);
    harness.pass(seconds(15));
    harness.deliver().await;
    assert_eq!(harness.count(PENDING).await, 0);
}
