//! What a retry schedule counts, and from when (contract 7.5, 7.6).

use std::time::Duration;

use trackpost::domain::delivery::{Attempt, Outcome};
use trackpost::domain::secret::Hidden;
use trackpost::sandbox::Answer;
use trackpost::store::outbox::EndedAttempt;

use crate::house::parcel::in_transit;
use crate::house::{House, ORDERS, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
const OF_ONE: &str = "SELECT delivery_key FROM deliveries WHERE lane = 1";

/// Two labels with one callback each, and a schedule of two steps.
async fn two_labels() -> House {
    let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5s\", \"10s\"]\n";
    let mut house = House::with(&short).await;
    house.register(&["se-1", "se-2"]).await;
    house.says("se-1", &in_transit());
    house.says("se-2", &in_transit());
    house.poll().await;
    house
}

async fn deliver_after(house: &mut House, wait: i64) {
    house.pass(seconds(wait));
    house.deliver().await;
}

/// `se-1` is refused from now on.
fn refuse_one(house: &House) {
    let one = |label: Option<&str>| label == Some("se-1");
    house.receiver.answer_by(move |callback| one(callback.label_id.as_deref()).then(|| Answer::status(422)));
}

async fn retry_by_hand(house: &House, delivery: &'static str) {
    let delivery = house.count(delivery).await;
    assert_eq!(house.store().retry(delivery, house.now()).await.unwrap(), 1);
}

#[tokio::test]
async fn what_is_sent_again_has_the_whole_of_it() {
    let mut house = two_labels().await;
    house.receiver.answer_always(Answer::status(500));
    for _ in 0..60 {
        deliver_after(&mut house, 301).await;
    }
    house.receiver.answer_always(Answer::status(200));
    deliver_after(&mut house, 301).await;
    assert_eq!(house.count(PENDING).await, 0);
    let attempts = "SELECT max(attempts) FROM deliveries";
    assert!(house.count(attempts).await > 20, "it took many probes");

    refuse_one(&house);
    retry_by_hand(&house, OF_ONE).await;
    retry_by_hand(&house, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
    for dead in [0, 0, 1] {
        house.deliver().await;
        assert_eq!(house.count(DEAD).await, dead);
        house.pass(seconds(12));
        // Others are accepted all the while.
        if dead == 0 {
            retry_by_hand(&house, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
        }
    }
    let logged = "SELECT count(*) = max(attempt) AND max(attempt) = d.attempts FROM attempts a
                  JOIN deliveries d USING (delivery_key) WHERE d.lane = 1";
    assert_eq!(house.count(logged).await, 1, "attempts are counted on");
}

#[tokio::test]
async fn what_was_accepted_before_it_was_sent_again_does_not_count() {
    let mut house = two_labels().await;
    house.deliver().await;
    house.pass(seconds(60));
    refuse_one(&house);
    retry_by_hand(&house, OF_ONE).await;
    house.deliver().await;
    for _ in 0..6 {
        deliver_after(&mut house, 12).await;
    }
    assert_eq!((house.count(PENDING).await, house.count(DEAD).await), (1, 0), "nobody else was accepted");
    retry_by_hand(&house, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
    deliver_after(&mut house, 1).await;
    deliver_after(&mut house, 12).await;
    assert_eq!((house.count(PENDING).await, house.count(DEAD).await), (0, 1));
}

#[tokio::test]
async fn probes_of_a_failing_subscriber_use_nothing_up() {
    let mut house = two_labels().await;
    house.receiver.answer_always(Answer::status(500));
    for _ in 0..40 {
        deliver_after(&mut house, 301).await;
    }
    let tried = house.count("SELECT failures FROM deliveries WHERE lane = 1").await;
    assert!(tried <= 2, "{tried}: those before it fell");
    refuse_one(&house);
    house.receiver.answer_always(Answer::status(200));
    while house.count(PENDING).await == 2 {
        deliver_after(&mut house, 301).await;
    }
    deliver_after(&mut house, 1).await;
    while house.count(DEAD).await == 0 {
        deliver_after(&mut house, 12).await;
    }
    let counted = house.count("SELECT failures FROM deliveries WHERE lane = 1").await;
    assert_eq!(counted, 3, "those before it fell, and those since it is well again");
    assert!(house.count("SELECT attempts FROM deliveries WHERE lane = 1").await > 20);
}

#[tokio::test]
async fn another_url_has_refused_nothing_and_asked_for_nothing() {
    for (status, retry_after) in [(503, Some("7200")), (500, Some("7200")), (500, None)] {
        let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5h\"]\n";
        let mut house = House::with(&short).await;
        house.receiver.answer_by(move |callback| {
            let answer = Answer::status(status);
            let answer = match retry_after {
                Some(seconds) => answer.header("retry-after", seconds),
                None => answer,
            };
            (callback.path == "/orders").then_some(answer)
        });
        let labels = ["se-1", "se-2", "se-3"];
        house.register(&labels).await;
        labels.iter().for_each(|label| house.says(label, &in_transit()));
        house.poll_and_deliver().await;
        assert_eq!(house.count(PENDING).await, 3);
        house.pass(seconds(5));
        house.policy.subscribers[0].url = Hidden::new(format!("{}moved", house.hook));
        house.restart().await;
        let before = house.receiver.counts().received;
        house.deliver_once("orders").await;
        assert_eq!(house.receiver.counts().received, before + 1, "{status}: at a rising pace");
        house.deliver().await;
        assert_eq!(house.count(PENDING).await, 0, "{status} {retry_after:?}");
        assert_eq!(house.callbacks("moved").len(), 3);
    }
}

#[tokio::test]
async fn no_attempt_is_lost_from_the_log() {
    let house = two_labels().await;
    let (key, now) = (house.count(OF_ONE).await, house.now());
    let ended = |outcome| EndedAttempt {
        subscriber: house.policy.subscribers[0].clone().into(),
        key,
        ping: false,
        attempt: Attempt {
            started_at: now,
            duration: Duration::from_secs(15),
            outcome,
            detail: None,
            answer: None,
            retry_after: None,
        },
        probe: false,
        jitter: 0.0,
        audience: Default::default(),
        settled_at: now,
        can_wait: false,
    };
    // As if it had been under way more than once: all of it is told, and what was accepted stays so.
    house.store().settle(ended(Outcome::Reset)).await.unwrap();
    house.store().settle(ended(Outcome::Accepted { status: 200 })).await.unwrap();
    assert_eq!(house.count("SELECT count(*) FROM attempts").await, 2);
    assert_eq!(house.count("SELECT count(*) FROM deliveries WHERE attempts = 2").await, 1);
    assert_eq!(house.count(PENDING).await, 1);
    // It is written without company, too.
    let last = EndedAttempt { can_wait: true, ..ended(Outcome::Accepted { status: 201 }) };
    house.store().settle(last).await.unwrap();
    assert_eq!(house.count("SELECT count(*) FROM attempts").await, 3);
    assert_eq!(house.count(PENDING).await, 1);
}
