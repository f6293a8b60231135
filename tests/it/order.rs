//! Order within a label, and independence of labels and subscribers (contract 7.2, 7.3).

use std::collections::HashMap;
use std::time::Duration;

use trackpost::sandbox::{Answer, ReceivedCallback};

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::peer::closed_port;
use crate::harness::{Harness, ORDERS, nth, seconds};

fn two_subscribers() -> String {
    ORDERS.to_owned() + &ORDERS.replace("orders", "slow")
}

/// Returns the accepted callbacks in order, each as label and number of the message within the label.
fn accepted(callbacks: &[ReceivedCallback]) -> Vec<(String, u64)> {
    let mut first: HashMap<String, u64> = HashMap::new();
    let places = callbacks.iter().filter_map(|callback| Some((callback.label_id.clone()?, callback.seq?)));
    for (label, seq) in places {
        first.entry(label).and_modify(|first| *first = seq.min(*first)).or_insert(seq);
    }
    let ok = callbacks.iter().filter(|callback| callback.answered == Some(200));
    ok.filter_map(|callback| {
        let label = callback.label_id.clone()?;
        let place = callback.seq? + 1 - first[&label];
        Some((label, place))
    })
    .collect()
}

fn of_label(label: &str, all: &[(String, u64)]) -> Vec<u64> {
    all.iter().filter(|(id, _)| id == label).map(|(_, seq)| *seq).collect()
}

#[tokio::test]
async fn later_messages_of_a_label_wait_and_other_labels_continue() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    let bad = |callback: &ReceivedCallback| {
        callback.label_id.as_deref() == Some("se-1") && callback.seq == Some(nth(1))
    };
    harness.receiver.answer_by(move |callback| bad(callback).then(|| Answer::status(500)));
    harness.poll_and_deliver().await;
    let done = accepted(&harness.callbacks("orders"));
    assert_eq!(of_label("se-1", &done), [0; 0], "all wait for the first message");
    assert_eq!(of_label("se-2", &done), [1, 2, 3]);

    harness.receiver.answer_by(|_| None);
    harness.pass(seconds(6));
    harness.deliver().await;
    assert_eq!(of_label("se-1", &accepted(&harness.callbacks("orders"))), [1, 2, 3]);
    assert_eq!(harness.receiver.accepted().violations(), []);
}

#[tokio::test]
async fn order_holds_whatever_requests_fail() {
    let mut harness = Harness::new().await;
    let labels = ["se-1", "se-2", "se-3", "se-4"];
    harness.register(&labels).await;
    let scans: Vec<String> = (0..8).rev().map(|n| event(n * 30, "IT", &format!("C{n}"))).collect();
    let scans: Vec<&str> = scans.iter().map(String::as_str).collect();
    labels.iter().for_each(|label| harness.says(label, &tracking("IT", &scans)));
    // Every third request fails.
    let count = std::sync::atomic::AtomicUsize::new(0);
    harness.receiver.answer_by(move |_| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        nth.is_multiple_of(3).then(|| Answer::status([500, 404, 301, 418][nth / 3 % 4]))
    });
    harness.poll().await;
    for _ in 0..40 {
        harness.deliver().await;
        harness.pass(seconds(6 * 3600));
    }
    let mut next: HashMap<String, u64> = HashMap::new();
    for (label, seq) in accepted(&harness.callbacks("orders")) {
        let expected = next.entry(label).or_insert(1);
        assert_eq!(seq, *expected);
        *expected += 1;
    }
    assert_eq!(next.len(), 4);
    assert!(next.values().all(|seq| *seq == 11), "{next:?}");
}

#[tokio::test]
async fn a_hanging_subscriber_does_not_delay_others() {
    let mut harness = Harness::with(&two_subscribers()).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.receiver.answer_by(|callback| {
        (callback.path == "/slow").then(|| Answer::status(200).after(Duration::from_secs(600)))
    });
    harness.poll().await;
    let (mut slow, now) = (harness.take_courier("slow"), harness.now());
    let hanging = tokio::spawn(async move { slow.step(now).await });
    harness.receiver.wait_until(|counts| counts.received == 1).await;
    harness.deliver().await;
    assert_eq!(accepted(&harness.callbacks("orders")).len(), 3);
    assert!(!hanging.is_finished(), "the other delivery still hangs");
    hanging.abort();
}

#[tokio::test]
async fn a_dead_subscriber_does_not_delay_others() {
    let (closed_port, _reserved) = closed_port();
    let dead = ORDERS.replace("[subscribers.orders]", "[subscribers.dead]");
    let dead = dead.replace("HOOK/orders", &format!("http://{closed_port}/"));
    let mut harness = Harness::with(&(ORDERS.to_owned() + &dead)).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(accepted(&harness.callbacks("orders")).len(), 3);
    let outcome = "SELECT count(*) FROM attempts WHERE outcome = 'refused'";
    assert_eq!(harness.count(outcome).await, 1);
    assert_eq!(
        harness
            .count("SELECT count(*) FROM deliveries WHERE subscriber = 'dead' AND state = 'pending'")
            .await,
        4,
        "three of the label, and the failing message"
    );
}

#[tokio::test]
async fn first_attempts_never_wait_behind_retries() {
    let mut harness = Harness::with(&format!("{ORDERS}max_in_flight = 1\n")).await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.receiver.answer_always(Answer::status(500));
    harness.poll_and_deliver().await;
    harness.pass(seconds(6));
    harness.register(&["se-2"]).await;
    harness.says("se-2", &in_transit());
    harness.receiver.answer_always(Answer::status(200));
    harness.poll_and_deliver().await;
    let order: Vec<(String, u64)> = accepted(&harness.callbacks("orders"));
    let (first, then) = (of_label("se-2", &order[..3]), of_label("se-1", &order[3..]));
    assert!(first.is_sorted() && first.len() == 3, "{order:?}");
    assert!(then.is_sorted() && then.len() == 3, "{order:?}");
}

#[tokio::test]
async fn hanging_retries_leave_room_for_first_attempts() {
    let mut harness = Harness::with(&format!("{ORDERS}max_in_flight = 4\n")).await;
    // Four failures in a row do not yet make the subscriber fail.
    harness.register(&["se-1", "se-2", "se-3", "se-4"]).await;
    for label in ["se-1", "se-2", "se-3", "se-4"] {
        harness.says(label, &in_transit());
    }
    harness.receiver.answer_by(|callback| match (callback.attempt, callback.label_id.as_deref()) {
        (Some(2), _) => Some(Answer::status(200).after(Duration::from_secs(600))),
        (_, Some("se-9")) => None,
        _ => Some(Answer::status(500)),
    });
    harness.poll().await;
    harness.deliver_once("orders").await;
    harness.pass(seconds(6));
    harness.register(&["se-9"]).await;
    harness.says("se-9", &in_transit());
    harness.poll().await;
    let (receiver, now) = (harness.receiver.clone(), harness.now());
    tokio::select! {
        _ = harness.courier("orders").step(now) => panic!("the retries hang"),
        () = receiver.wait_until(|counts| counts.accepted == 1) => {}
    }
    let of_nine =
        harness.callbacks("orders").iter().filter(|c| c.label_id.as_deref() == Some("se-9")).count();
    assert_eq!(of_nine, 1);
    harness.crash().await;
}
