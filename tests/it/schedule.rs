//! Attempts that count for a retry schedule (contract 7.5, 7.6).

use std::time::Duration;

use trackpost::domain::delivery::outcome::{Attempt, Outcome};
use trackpost::domain::secret::Hidden;
use trackpost::sandbox::Answer;
use trackpost::store::outbox::EndedAttempt;

use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
const DEAD: &str = "SELECT count(*) FROM deliveries WHERE state = 'dead'";
const OF_ONE: &str = "SELECT delivery_key FROM deliveries WHERE lane = 1";

/// Two labels with one callback each, and a schedule with two steps.
async fn two_labels() -> Harness {
    let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5s\", \"10s\"]\n";
    let mut harness = Harness::with(&short).await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    harness.poll().await;
    harness
}

async fn deliver_after(harness: &mut Harness, wait: i64) {
    harness.pass(seconds(wait));
    harness.deliver().await;
}

/// Refuses callbacks of `se-1` from now on.
fn refuse_first_label(harness: &Harness) {
    let one = |label: Option<&str>| label == Some("se-1");
    harness
        .receiver
        .answer_by(move |callback| one(callback.label_id.as_deref()).then(|| Answer::status(422)));
}

async fn retry_by_hand(harness: &Harness, delivery: &'static str) {
    let delivery = harness.count(delivery).await;
    assert_eq!(harness.store().retry(delivery, harness.now()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_replayed_delivery_has_the_whole_schedule() {
    let mut harness = two_labels().await;
    harness.receiver.answer_always(Answer::status(500));
    for _ in 0..60 {
        deliver_after(&mut harness, 301).await;
    }
    harness.receiver.answer_always(Answer::status(200));
    deliver_after(&mut harness, 301).await;
    assert_eq!(harness.count(PENDING).await, 0);
    let attempts = "SELECT max(attempts) FROM deliveries";
    assert!(harness.count(attempts).await > 20, "there were many probes");

    refuse_first_label(&harness);
    retry_by_hand(&harness, OF_ONE).await;
    retry_by_hand(&harness, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
    for dead in [0, 0, 1] {
        harness.deliver().await;
        assert_eq!(harness.count(DEAD).await, dead);
        harness.pass(seconds(12));
        // Callbacks of the other label are accepted meanwhile.
        if dead == 0 {
            retry_by_hand(&harness, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
        }
    }
    let logged = "SELECT count(*) = max(attempt) AND max(attempt) = d.attempts FROM attempts a
                  JOIN deliveries d USING (delivery_key) WHERE d.lane = 1";
    assert_eq!(harness.count(logged).await, 1, "the attempt count continues");
}

#[tokio::test]
async fn deliveries_accepted_before_a_replay_do_not_count() {
    let mut harness = two_labels().await;
    harness.deliver().await;
    harness.pass(seconds(60));
    refuse_first_label(&harness);
    retry_by_hand(&harness, OF_ONE).await;
    harness.deliver().await;
    for _ in 0..6 {
        deliver_after(&mut harness, 12).await;
    }
    assert_eq!(
        (harness.count(PENDING).await, harness.count(DEAD).await),
        (1, 0),
        "no other message was accepted"
    );
    retry_by_hand(&harness, "SELECT delivery_key FROM deliveries WHERE lane = 2").await;
    deliver_after(&mut harness, 1).await;
    deliver_after(&mut harness, 12).await;
    assert_eq!((harness.count(PENDING).await, harness.count(DEAD).await), (0, 1));
}

#[tokio::test]
async fn probes_of_a_failing_subscriber_do_not_use_up_the_schedule() {
    let mut harness = two_labels().await;
    harness.receiver.answer_always(Answer::status(500));
    for _ in 0..40 {
        deliver_after(&mut harness, 301).await;
    }
    let tried = harness.count("SELECT failures FROM deliveries WHERE lane = 1").await;
    assert!(tried <= 2, "{tried}: attempts before the episode");
    refuse_first_label(&harness);
    harness.receiver.answer_always(Answer::status(200));
    while harness.count(PENDING).await == 2 {
        deliver_after(&mut harness, 301).await;
    }
    deliver_after(&mut harness, 1).await;
    while harness.count(DEAD).await == 0 {
        deliver_after(&mut harness, 12).await;
    }
    let counted = harness.count("SELECT failures FROM deliveries WHERE lane = 1").await;
    assert_eq!(counted, 3, "attempts before the episode and after its end");
    assert!(harness.count("SELECT attempts FROM deliveries WHERE lane = 1").await > 20);
}

#[tokio::test]
async fn a_changed_url_clears_failures_and_retry_after() {
    for (status, retry_after) in [(503, Some("7200")), (500, Some("7200")), (500, None)] {
        let short = ORDERS.replace("[\"*\"]", "[\"tracking.updated\"]") + "retry = [\"5h\"]\n";
        let mut harness = Harness::with(&short).await;
        harness.receiver.answer_by(move |callback| {
            let answer = Answer::status(status);
            let answer = match retry_after {
                Some(seconds) => answer.header("retry-after", seconds),
                None => answer,
            };
            (callback.path == "/orders").then_some(answer)
        });
        let labels = ["se-1", "se-2", "se-3"];
        harness.register(&labels).await;
        labels.iter().for_each(|label| harness.says(label, &in_transit()));
        harness.poll_and_deliver().await;
        assert_eq!(harness.count(PENDING).await, 3);
        harness.pass(seconds(5));
        harness.policy.subscribers[0].url = Hidden::new(format!("{}moved", harness.hook));
        harness.restart().await;
        let before = harness.receiver.counts().received;
        harness.deliver_once("orders").await;
        assert_eq!(harness.receiver.counts().received, before + 1, "{status}: at a rising pace");
        harness.deliver().await;
        assert_eq!(harness.count(PENDING).await, 0, "{status} {retry_after:?}");
        assert_eq!(harness.callbacks("moved").len(), 3);
    }
}

#[tokio::test]
async fn every_attempt_is_recorded() {
    let harness = two_labels().await;
    let (key, now) = (harness.count(OF_ONE).await, harness.now());
    let ended = |outcome| EndedAttempt {
        subscriber: harness.policy.subscribers[0].clone().into(),
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
        subscribers: Default::default(),
        ended_at: now,
        can_wait: false,
    };
    // As if it had been in flight more than once: all attempts are recorded, and the accepted one stays accepted.
    harness.store().record_attempt(ended(Outcome::Reset)).await.unwrap();
    harness.store().record_attempt(ended(Outcome::Accepted { status: 200 })).await.unwrap();
    assert_eq!(harness.count("SELECT count(*) FROM attempts").await, 2);
    assert_eq!(harness.count("SELECT count(*) FROM deliveries WHERE attempts = 2").await, 1);
    assert_eq!(harness.count(PENDING).await, 1);
    // A record that can wait is written even without others.
    let last = EndedAttempt { can_wait: true, ..ended(Outcome::Accepted { status: 201 }) };
    harness.store().record_attempt(last).await.unwrap();
    assert_eq!(harness.count("SELECT count(*) FROM attempts").await, 3);
    assert_eq!(harness.count(PENDING).await, 1);
}
