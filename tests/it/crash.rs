//! Crash points of the code: the state after the next start is right (design rule 6).
//!
//! A kill is a dropped future or a lost writer. `process` does the same with a real kill -9.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::sandbox::Answer;
use trackpost::sandbox::ledger::Follows;
use trackpost::store::StoreError;

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::{Harness, ORDERS, seconds};

/// Polls `future` at most this many times, then drops it. Returns whether it finished.
async fn drop_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn killed_during_a_poll_the_label_is_still_due() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::json(200, in_transit()).after(Duration::from_secs(600)));
    let (sandbox, now) = (harness.sandbox.clone(), harness.now());
    tokio::select! {
        _ = harness.poller().step(now) => panic!("there is no answer yet"),
        () = wait_for_requests(&sandbox, 1) => {}
    }
    harness.crash().await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(harness.kinds().len(), 3);
}

/// Waits for this many requests.
async fn wait_for_requests(sandbox: &trackpost::sandbox::SandboxHandle, requests: u64) {
    while sandbox.counters().requests < requests {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn killed_between_a_poll_and_its_record_only_the_request_is_lost() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.reserve().await;
    harness.abort_writer().await;
    let now = harness.now();
    assert!(matches!(harness.poller().step(now).await, Err(StoreError::WriterGone)));
    assert_eq!(harness.sandbox.requests_of("se-1"), 1, "the label was polled");

    harness.crash().await;
    assert_eq!(harness.row("se-1").await.last_seq, 0);
    harness.poll_and_deliver().await;
    assert_eq!(harness.sandbox.requests_of("se-1"), 2);
    assert_eq!(harness.kinds().len(), 3);
}

#[tokio::test]
async fn killed_after_the_commit_every_message_is_sent_once() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.reserve().await;
    let inbox = harness.store().inbox(&SubscriberName::new("orders"));
    let now = harness.now();
    // The writer hands over after its commit and before its answer; this task sees the handover first.
    tokio::select! {
        biased;
        () = inbox.arrived() => {}
        _ = harness.poller().step(now) => panic!("the poller had its answer"),
    }
    harness.crash().await;
    assert_eq!(harness.count("SELECT count(*) FROM messages").await, 3, "everything was committed");
    assert_eq!(harness.poll().await, 0, "the label is not due");
    harness.deliver().await;
    assert_eq!(harness.kinds().len(), 3);
    assert_eq!(harness.receiver.counts().repeated, 0);
}

#[tokio::test]
async fn killed_before_the_post_the_next_start_sends_it() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    let now = harness.now();
    assert!(!drop_after(1, harness.courier("orders").step(now)).await);
    assert_eq!(harness.receiver.counts().received, 0);
    harness.crash().await;
    harness.deliver().await;
    assert_eq!((harness.kinds().len(), harness.receiver.counts().repeated), (3, 0));
}

#[tokio::test]
async fn killed_during_the_post_it_is_sent_again() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    harness.receiver.answer_next([Answer::status(200).after(Duration::from_secs(600))]);
    let (receiver, now) = (harness.receiver.clone(), harness.now());
    tokio::select! {
        _ = harness.courier("orders").step(now) => panic!("there is no answer yet"),
        () = receiver.wait_until(|counts| counts.received == 1) => {}
    }
    harness.crash().await;
    harness.deliver().await;
    let callbacks = harness.callbacks("orders");
    assert_eq!(callbacks.len(), 4);
    assert_eq!(callbacks[0].message_id, callbacks[1].message_id);
    assert_eq!(callbacks[1].attempt, Some(1), "the earlier attempt is not recorded");
}

#[tokio::test]
async fn killed_after_the_post_was_accepted_and_before_it_is_recorded_it_is_sent_again_under_its_id() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    // The courier's first step checks whether the clock was set back.
    harness.deliver_once("orders").await;
    harness.poll().await;
    harness.abort_writer().await;
    let now = harness.now();
    assert!(matches!(harness.courier("orders").step(now).await, Err(StoreError::WriterGone)));
    assert_eq!(harness.receiver.counts().accepted, 1);

    harness.crash().await;
    harness.deliver().await;
    let accepted = harness.receiver.accepted();
    assert_eq!((accepted.counts().accepted, accepted.unique().len()), (4, 3));
    assert_eq!(accepted.repeated(), [accepted.unique()[0].clone()]);
}

#[tokio::test]
async fn killed_at_any_moment_nothing_is_lost_and_nothing_gets_a_second_id() {
    let shop = ORDERS.replace("orders", "shop").replace("standard", "shipstation");
    let mut harness = Harness::with(&(ORDERS.to_owned() + &shop)).await;
    let labels = ["se-1", "se-2", "se-3"];
    harness.register(&labels).await;
    let scans: Vec<String> = (0..12).map(|n| event(n * 30, "IT", &format!("C{n}"))).collect();
    for round in 0..60 {
        let seen: Vec<&str> = scans[..=round / 5].iter().rev().map(String::as_str).collect();
        labels.iter().for_each(|label| harness.says(label, &tracking("IT", &seen)));
        harness.pass(seconds(3 * 3600));
        let now = harness.now();
        drop_after(round % 17, harness.poller().step(now)).await;
        drop_after(round % 13, harness.courier("orders").step(now)).await;
        drop_after(round % 11, harness.courier("shop").step(now)).await;
        harness.crash().await;
    }
    for label in labels {
        harness.poll_again(label).await;
    }
    harness.deliver().await;

    assert_eq!(harness.count("SELECT count(*) FROM deliveries WHERE state <> 'delivered'").await, 0);
    harness.check_received(&[("orders", Follows::Events), ("shop", Follows::Answers)]).await;
    assert_eq!(harness.receiver.with_accepted(|accepted| accepted.events_of("orders")), 3 * 12);
}
