//! Retries by hand and replays: in order and under the same ids (contract 1, 5.3, 7.2).

mod commands;

use std::time::Duration;

use jiff::Timestamp;
use trackpost::domain::messages::subscriber::{Format, SubscriberName};
use trackpost::domain::messages::{MessageType, account_message};
use trackpost::sandbox::{Answer, ReceivedCallback};
use trackpost::store::replay::{ReplaySpan, Requeued, StateBefore, StoredMessage};
use trackpost::store::upkeep::RetentionLimits;

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::{Harness, ORDERS, connect, hours, nth, position, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";

fn orders() -> SubscriberName {
    SubscriberName::new("orders")
}

fn all_messages() -> ReplaySpan {
    ReplaySpan { since: Timestamp::MIN, until: Timestamp::MAX, label: None }
}

async fn stored(harness: &Harness) -> Vec<StoredMessage> {
    let (mut all, mut last) = (Vec::new(), None);
    loop {
        let page = harness.store().stored_messages(&orders(), &all_messages(), last.as_ref()).await.unwrap();
        let Some(end) = page.last() else { return all };
        last = Some(end.clone());
        all.extend(page);
    }
}

/// Queues the deliveries selected by `chosen` again, each after `wait` seconds times its position.
async fn queue(harness: &Harness, chosen: impl Fn(&StoredMessage) -> bool, wait: i64) -> u64 {
    let all = stored(harness).await;
    let again: Vec<Requeued> = (0..)
        .zip(all.iter().filter(|stored| chosen(stored)))
        .map(|(index, stored)| Requeued {
            message: stored.row,
            lane: stored.lane,
            before: stored.before,
            at: harness.now() + seconds(index * wait),
        })
        .collect();
    harness.store().queue_again(&orders(), Format::Standard, &again, harness.now()).await.unwrap()
}

async fn check_invariants(harness: &Harness) {
    assert_eq!(harness.store().violations().await.unwrap(), [""; 0]);
}

/// Returns the number within the label and the answer of each callback from `start` on.
fn received_from(harness: &Harness, start: usize) -> Vec<(u64, u16)> {
    let callbacks = harness.callbacks("orders");
    callbacks[start..]
        .iter()
        .map(|callback| (position(callback.seq.unwrap()), callback.answered.unwrap()))
        .collect()
}

fn head(callback: &ReceivedCallback) -> (Option<String>, Option<u64>, Vec<u8>) {
    (callback.message_id.clone(), callback.seq, callback.body.to_vec())
}

/// One label: messages 1 to 3 are delivered, 4 to 6 wait because of a 500.
async fn partly_delivered() -> Harness {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    harness.receiver.answer_by(|callback| (callback.seq >= Some(nth(4))).then(|| Answer::status(500)));
    harness.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_again("se-1").await;
    harness.deliver().await;
    assert_eq!(received_from(&harness, 0), [(1, 200), (2, 200), (3, 200), (4, 500)]);
    harness
}

#[tokio::test]
async fn a_replay_sends_accepted_messages_unchanged() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    harness.poll_and_deliver().await;
    let first = harness.callbacks("orders");
    harness.pass(hours(1));
    assert_eq!(queue(&harness, |_| true, 0).await, 6);
    check_invariants(&harness).await;
    harness.deliver().await;
    check_invariants(&harness).await;
    let all = harness.callbacks("orders");
    assert_eq!(all.len(), 12);
    for again in &all[6..] {
        let before = first.iter().find(|callback| callback.message_id == again.message_id).unwrap();
        assert_eq!(head(before), head(again));
        assert_eq!((before.attempt, again.attempt), (Some(1), Some(2)));
        assert_ne!(before.header("webhook-timestamp"), again.header("webhook-timestamp"));
        assert_ne!(before.header("webhook-signature"), again.header("webhook-signature"));
    }
    assert_eq!(harness.count(PENDING).await, 0);
}

#[tokio::test]
async fn replayed_messages_go_before_waiting_ones() {
    let mut harness = partly_delivered().await;
    assert_eq!(queue(&harness, |stored| stored.seq < Some(nth(3) as i64), 0).await, 2);
    check_invariants(&harness).await;
    harness.receiver.answer_by(|callback| (callback.seq == Some(nth(2))).then(|| Answer::status(500)));
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [(1, 200), (2, 500)], "4 waits for the repeated 2");
    check_invariants(&harness).await;
    harness.receiver.answer_by(|_| None);
    harness.pass(hours(24));
    harness.deliver().await;
    assert_eq!(received_from(&harness, 6), [(2, 200), (4, 200), (5, 200), (6, 200), (7, 200)]);
}

/// Queues messages again while a newer message of the label is in flight, which is answered with `status`.
async fn with_newer_in_flight(status: u16) -> Harness {
    let mut harness = partly_delivered().await;
    let before = harness.callbacks("orders").len();
    harness.receiver.answer_by(move |callback| {
        let slow = Answer::status(status).after(Duration::from_millis(600));
        (callback.seq == Some(nth(4)) && callback.attempt == Some(2)).then_some(slow)
    });
    harness.pass(seconds(6));
    let now = harness.now();
    let mut courier = harness.take_courier("orders");
    let in_flight = tokio::spawn(async move {
        courier.step(now).await.unwrap();
        courier
    });
    harness.receiver.wait_until(|counts| counts.received == before + 1).await;
    assert_eq!(queue(&harness, |stored| stored.seq == Some(nth(1) as i64), 0).await, 1);
    check_invariants(&harness).await;
    let courier = in_flight.await.unwrap();
    check_invariants(&harness).await;
    harness.return_courier(courier, "orders");
    harness.receiver.answer_by(|_| None);
    harness
}

#[tokio::test]
async fn a_newer_message_in_flight_ends_first_and_is_sent_once() {
    let mut harness = with_newer_in_flight(200).await;
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [(4, 200), (1, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn a_newer_message_that_failed_in_between_waits() {
    let mut harness = with_newer_in_flight(500).await;
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [(4, 500), (1, 200)], "it waits as planned");
    harness.pass(seconds(331));
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [(4, 500), (1, 200), (4, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn a_replay_rate_spreads_the_labels() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2", "se-3"]).await;
    ["se-1", "se-2", "se-3"].iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    let before = harness.callbacks("orders").len();
    assert_eq!(queue(&harness, |_| true, 1).await, 9);
    for done in [3, 6, 9] {
        harness.deliver().await;
        assert_eq!(harness.callbacks("orders").len(), before + done, "a label is due every three seconds");
        harness.pass(seconds(3));
    }
}

#[tokio::test]
async fn a_dead_delivery_is_retried_by_hand() {
    let mut harness = Harness::with(&format!("{ORDERS}retry = [\"1s\"]\n")).await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    let bad = |callback: &ReceivedCallback| {
        callback.label_id.as_deref() == Some("se-1") && callback.seq == Some(nth(1))
    };
    harness.receiver.answer_by(move |callback| bad(callback).then(|| Answer::status(400)));
    harness.poll().await;
    harness.pass(seconds(1));
    harness.deliver().await;
    harness.pass(seconds(2));
    harness.deliver().await;
    const DEAD: &str = "SELECT delivery_key FROM deliveries WHERE state = 'dead'";
    let dead = harness.count(DEAD).await;
    harness.receiver.answer_by(|_| None);
    assert_eq!(harness.store().retry(dead, harness.now()).await.unwrap(), 1);
    check_invariants(&harness).await;
    harness.deliver().await;
    let last = harness.callbacks("orders").pop().unwrap();
    assert_eq!((last.seq, last.attempt, last.answered), (Some(nth(1)), Some(3), Some(200)));
    assert_eq!(harness.count(PENDING).await, 0);
}

#[tokio::test]
async fn a_pending_delivery_retried_by_hand_is_due_now_if_it_is_first() {
    let mut harness = partly_delivered().await;
    harness.receiver.answer_by(|_| None);
    let pending = stored(&harness).await;
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [], "nothing is due");
    assert!(pending.iter().filter(|stored| stored.before == StateBefore::Pending).count() >= 3);
    let behind = harness.count("SELECT max(delivery_key) FROM deliveries").await;
    harness.store().retry(behind, harness.now()).await.unwrap();
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [], "it waits for earlier messages");
    let head = harness.count("SELECT min(delivery_key) FROM deliveries WHERE state = 'pending'").await;
    harness.store().retry(head, harness.now()).await.unwrap();
    harness.deliver().await;
    assert_eq!(received_from(&harness, 4), [(4, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn replay_pages_continue_each_other_and_include_messages_without_a_label() {
    let mut harness = Harness::with(&format!("requests_per_minute = 60000\n{ORDERS}")).await;
    let labels: Vec<String> = (0..180).map(|n| format!("se-{n}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    harness.register(&labels).await;
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll().await;
    let account = harness.account.name.clone();
    let recovered =
        account_message(MessageType::AccountRecovered, &account, "it is back", None, harness.now());
    sqlx::query(
        "INSERT INTO messages (message_id, account, type, created_at, body) VALUES (?, 'main', ?, ?, ?)",
    )
    .bind(&recovered.id)
    .bind(recovered.kind.as_str())
    .bind(recovered.created_at.as_millisecond())
    .bind(&recovered.body)
    .execute(&mut connect(harness.path()).await)
    .await
    .unwrap();
    let all = stored(&harness).await;
    assert_eq!(all.len(), 541);
    assert_eq!((all[540].label_row, all[540].before), (None, StateBefore::Never));
    assert!(all.is_sorted_by_key(|stored| stored.row), "in the order of creation");
    let of_one: Vec<_> = all.iter().filter(|stored| stored.label_row == all[0].label_row).cloned().collect();
    assert!(of_one.is_sorted_by_key(|stored| stored.seq), "in the order of seq");
    let one = ReplaySpan { label: all[0].label_row, ..all_messages() };
    assert_eq!(harness.store().stored_messages(&orders(), &one, None).await.unwrap(), of_one);
    let after = ReplaySpan { since: harness.now() + seconds(1), ..all_messages() };
    assert!(harness.store().stored_messages(&orders(), &after, None).await.unwrap().is_empty());

    assert_eq!(queue(&harness, |stored| stored.before == StateBefore::Never, 0).await, 1);
    check_invariants(&harness).await;
    harness.deliver().await;
    let callbacks = harness.callbacks("orders");
    assert_eq!(
        callbacks.iter().filter(|callback| callback.message_id.as_ref() == Some(&recovered.id)).count(),
        1
    );
}

#[tokio::test]
async fn a_replay_killed_halfway_can_be_repeated() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &in_transit());
    harness.says("se-2", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(queue(&harness, |stored| stored.row <= 3, 0).await, 3);
    harness.crash().await;
    check_invariants(&harness).await;
    assert_eq!(queue(&harness, |stored| stored.before == StateBefore::Delivered, 0).await, 3, "the rest");
    harness.deliver().await;
    let mut ids: Vec<_> =
        harness.callbacks("orders")[6..].iter().map(|again| again.message_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), harness.callbacks("orders").len()), (6, 12), "each was sent once more");
}

#[tokio::test]
async fn a_replay_works_after_old_attempts_were_deleted() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    let keep = RetentionLimits {
        attempts_since: Timestamp::MAX,
        finished_since: Timestamp::MIN,
        undelivered_since: Timestamp::MIN,
    };
    assert_eq!(harness.store().prune(keep, 100).await.unwrap().attempts, 3);
    queue(&harness, |_| true, 0).await;
    check_invariants(&harness).await;
    harness.deliver().await;
    assert!(harness.callbacks("orders")[3..].iter().all(|callback| callback.attempt == Some(2)));
}
