//! Sending again: by hand and by replay, in order, under the same ids (contract 1, 5.3, 7.2).

mod verb;

use std::time::Duration;

use jiff::Timestamp;
use trackpost::domain::messages::subscriber::{Format, SubscriberName};
use trackpost::domain::messages::{MessageType, account_message};
use trackpost::sandbox::{Answer, Delivery};
use trackpost::store::replay::{Again, Before, Span, Stored};
use trackpost::store::upkeep::Keep;

use crate::house::parcel::{event, in_transit, tracking};
use crate::house::{House, ORDERS, bystander, hours, nth, place, seconds};

const PENDING: &str = "SELECT count(*) FROM deliveries WHERE state = 'pending'";

fn orders() -> SubscriberName {
    SubscriberName::new("orders")
}

fn everything() -> Span {
    Span { since: Timestamp::MIN, until: Timestamp::MAX, label: None }
}

async fn stored(house: &House) -> Vec<Stored> {
    let (mut all, mut last) = (Vec::new(), None);
    loop {
        let page = house.store().stored_messages(&orders(), &everything(), last.as_ref()).await.unwrap();
        let Some(end) = page.last() else { return all };
        last = Some(end.clone());
        all.extend(page);
    }
}

/// Queues what `chosen` picks again, each after `wait` seconds times its place.
async fn queue(house: &House, chosen: impl Fn(&Stored) -> bool, wait: i64) -> u64 {
    let all = stored(house).await;
    let again: Vec<Again> = (0..)
        .zip(all.iter().filter(|stored| chosen(stored)))
        .map(|(place, stored)| Again {
            message: stored.row,
            lane: stored.lane,
            before: stored.before,
            at: house.now() + seconds(place * wait),
        })
        .collect();
    house.store().queue_again(&orders(), Format::Standard, &again, house.now()).await.unwrap()
}

async fn sound(house: &House) {
    assert_eq!(house.store().broken().await.unwrap(), [""; 0]);
}

/// Place among its label's messages and answer of what came in from `start` on.
fn came(house: &House, start: usize) -> Vec<(u64, u16)> {
    let callbacks = house.callbacks("orders");
    callbacks[start..]
        .iter()
        .map(|callback| (place(callback.seq.unwrap()), callback.answered.unwrap()))
        .collect()
}

fn head(callback: &Delivery) -> (Option<String>, Option<u64>, Vec<u8>) {
    (callback.message_id.clone(), callback.seq, callback.body.to_vec())
}

/// One label: messages 1 to 3 are delivered, 4 to 6 wait behind a 500.
async fn half_delivered() -> House {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    house.receiver.answer_by(|callback| (callback.seq >= Some(nth(4))).then(|| Answer::status(500)));
    house.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    house.look_again("se-1").await;
    house.deliver().await;
    assert_eq!(came(&house, 0), [(1, 200), (2, 200), (3, 200), (4, 500)]);
    house
}

#[tokio::test]
async fn what_was_delivered_is_sent_again_as_it_was() {
    let mut house = House::new().await;
    house.register(&["se-1", "se-2"]).await;
    house.says("se-1", &in_transit());
    house.says("se-2", &in_transit());
    house.poll_and_deliver().await;
    let first = house.callbacks("orders");
    house.pass(hours(1));
    assert_eq!(queue(&house, |_| true, 0).await, 6);
    sound(&house).await;
    house.deliver().await;
    sound(&house).await;
    let all = house.callbacks("orders");
    assert_eq!(all.len(), 12);
    for again in &all[6..] {
        let before = first.iter().find(|callback| callback.message_id == again.message_id).unwrap();
        assert_eq!(head(before), head(again));
        assert_eq!((before.attempt, again.attempt), (Some(1), Some(2)));
        assert_ne!(before.header("webhook-timestamp"), again.header("webhook-timestamp"));
        assert_ne!(before.header("webhook-signature"), again.header("webhook-signature"));
    }
    assert_eq!(house.count(PENDING).await, 0);
}

#[tokio::test]
async fn what_is_repeated_goes_before_what_waits() {
    let mut house = half_delivered().await;
    assert_eq!(queue(&house, |stored| stored.seq < Some(nth(3) as i64), 0).await, 2);
    sound(&house).await;
    house.receiver.answer_by(|callback| (callback.seq == Some(nth(2))).then(|| Answer::status(500)));
    house.deliver().await;
    assert_eq!(came(&house, 4), [(1, 200), (2, 500)], "4 waits for the repeated 2");
    sound(&house).await;
    house.receiver.answer_by(|_| None);
    house.pass(hours(24));
    house.deliver().await;
    assert_eq!(came(&house, 6), [(2, 200), (4, 200), (5, 200), (6, 200), (7, 200)]);
}

/// What is repeated while a newer message of the label is under way, answered `status`.
async fn beside(status: u16) -> House {
    let mut house = half_delivered().await;
    let before = house.callbacks("orders").len();
    house.receiver.answer_by(move |callback| {
        let slow = Answer::status(status).after(Duration::from_millis(600));
        (callback.seq == Some(nth(4)) && callback.attempt == Some(2)).then_some(slow)
    });
    house.pass(seconds(6));
    let now = house.now();
    let mut courier = house.take_courier("orders");
    let under_way = tokio::spawn(async move {
        courier.step(now).await.unwrap();
        courier
    });
    house.receiver.wait_until(|counts| counts.received == before + 1).await;
    assert_eq!(queue(&house, |stored| stored.seq == Some(nth(1) as i64), 0).await, 1);
    sound(&house).await;
    let courier = under_way.await.unwrap();
    sound(&house).await;
    house.employ(courier, "orders");
    house.receiver.answer_by(|_| None);
    house
}

#[tokio::test]
async fn a_newer_one_under_way_ends_first_and_is_not_doubled() {
    let mut house = beside(200).await;
    house.deliver().await;
    assert_eq!(came(&house, 4), [(4, 200), (1, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn a_newer_one_that_failed_meanwhile_waits_behind() {
    let mut house = beside(500).await;
    house.deliver().await;
    assert_eq!(came(&house, 4), [(4, 500), (1, 200)], "it waits as long as was planned");
    house.pass(seconds(331));
    house.deliver().await;
    assert_eq!(came(&house, 4), [(4, 500), (1, 200), (4, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn a_rate_spreads_the_labels() {
    let mut house = House::new().await;
    house.register(&["se-1", "se-2", "se-3"]).await;
    ["se-1", "se-2", "se-3"].iter().for_each(|label| house.says(label, &in_transit()));
    house.poll_and_deliver().await;
    let before = house.callbacks("orders").len();
    assert_eq!(queue(&house, |_| true, 1).await, 9);
    for done in [3, 6, 9] {
        house.deliver().await;
        assert_eq!(house.callbacks("orders").len(), before + done, "a label is due every three seconds");
        house.pass(seconds(3));
    }
}

#[tokio::test]
async fn a_dead_one_is_tried_again_by_hand() {
    let mut house = House::with(&format!("{ORDERS}retry = [\"1s\"]\n")).await;
    house.register(&["se-1", "se-2"]).await;
    house.says("se-1", &in_transit());
    house.says("se-2", &in_transit());
    let bad =
        |callback: &Delivery| callback.label_id.as_deref() == Some("se-1") && callback.seq == Some(nth(1));
    house.receiver.answer_by(move |callback| bad(callback).then(|| Answer::status(400)));
    house.poll().await;
    house.pass(seconds(1));
    house.deliver().await;
    house.pass(seconds(2));
    house.deliver().await;
    const DEAD: &str = "SELECT delivery_key FROM deliveries WHERE state = 'dead'";
    let dead = house.count(DEAD).await;
    house.receiver.answer_by(|_| None);
    assert_eq!(house.store().retry(dead, house.now()).await.unwrap(), 1);
    sound(&house).await;
    house.deliver().await;
    let last = house.callbacks("orders").pop().unwrap();
    assert_eq!((last.seq, last.attempt, last.answered), (Some(nth(1)), Some(3), Some(200)));
    assert_eq!(house.count(PENDING).await, 0);
}

#[tokio::test]
async fn a_pending_one_is_due_now_if_it_is_its_turn() {
    let mut house = half_delivered().await;
    house.receiver.answer_by(|_| None);
    let pending = stored(&house).await;
    house.deliver().await;
    assert_eq!(came(&house, 4), [], "nothing is due");
    assert!(pending.iter().filter(|stored| stored.before == Before::Pending).count() >= 3);
    let behind = house.count("SELECT max(delivery_key) FROM deliveries").await;
    house.store().retry(behind, house.now()).await.unwrap();
    house.deliver().await;
    assert_eq!(came(&house, 4), [], "it waits for those before it");
    let head = house.count("SELECT min(delivery_key) FROM deliveries WHERE state = 'pending'").await;
    house.store().retry(head, house.now()).await.unwrap();
    house.deliver().await;
    assert_eq!(came(&house, 4), [(4, 200), (5, 200), (6, 200), (7, 200)]);
}

#[tokio::test]
async fn pages_follow_each_other_and_what_has_no_label_is_among_them() {
    let mut house = House::with(&format!("requests_per_minute = 60000\n{ORDERS}")).await;
    let labels: Vec<String> = (0..180).map(|n| format!("se-{n}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    house.register(&labels).await;
    labels.iter().for_each(|label| house.says(label, &in_transit()));
    house.poll().await;
    let account = house.account.name.clone();
    let recovered = account_message(MessageType::AccountRecovered, &account, "it is back", None, house.now());
    sqlx::query(
        "INSERT INTO messages (message_id, account, type, created_at, body) VALUES (?, 'main', ?, ?, ?)",
    )
    .bind(&recovered.id)
    .bind(recovered.kind.as_str())
    .bind(recovered.created_at.as_millisecond())
    .bind(&recovered.body)
    .execute(&mut bystander(house.path()).await)
    .await
    .unwrap();
    let all = stored(&house).await;
    assert_eq!(all.len(), 541);
    assert_eq!((all[540].label_row, all[540].before), (None, Before::Never));
    assert!(all.is_sorted_by_key(|stored| stored.row), "as they were made");
    let of_one: Vec<_> = all.iter().filter(|stored| stored.label_row == all[0].label_row).cloned().collect();
    assert!(of_one.is_sorted_by_key(|stored| stored.seq), "and so by seq");
    let one = Span { label: all[0].label_row, ..everything() };
    assert_eq!(house.store().stored_messages(&orders(), &one, None).await.unwrap(), of_one);
    let after = Span { since: house.now() + seconds(1), ..everything() };
    assert!(house.store().stored_messages(&orders(), &after, None).await.unwrap().is_empty());

    assert_eq!(queue(&house, |stored| stored.before == Before::Never, 0).await, 1);
    sound(&house).await;
    house.deliver().await;
    let told = house.callbacks("orders");
    assert_eq!(told.iter().filter(|callback| callback.message_id.as_ref() == Some(&recovered.id)).count(), 1);
}

#[tokio::test]
async fn a_replay_that_died_halfway_is_asked_again() {
    let mut house = House::new().await;
    house.register(&["se-1", "se-2"]).await;
    house.says("se-1", &in_transit());
    house.says("se-2", &in_transit());
    house.poll_and_deliver().await;
    assert_eq!(queue(&house, |stored| stored.row <= 3, 0).await, 3);
    house.crash().await;
    sound(&house).await;
    assert_eq!(queue(&house, |stored| stored.before == Before::Delivered, 0).await, 3, "the rest");
    house.deliver().await;
    let mut ids: Vec<_> =
        house.callbacks("orders")[6..].iter().map(|again| again.message_id.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), house.callbacks("orders").len()), (6, 12), "each once more");
}

#[tokio::test]
async fn the_record_of_old_attempts_may_be_gone() {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    let keep = Keep {
        attempts_since: Timestamp::MAX,
        finished_since: Timestamp::MIN,
        undelivered_since: Timestamp::MIN,
    };
    assert_eq!(house.store().prune(keep, 100).await.unwrap().attempts, 3);
    queue(&house, |_| true, 0).await;
    sound(&house).await;
    house.deliver().await;
    assert!(house.callbacks("orders")[3..].iter().all(|callback| callback.attempt == Some(2)));
}
