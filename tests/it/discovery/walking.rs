//! Walks along the list in any order, with any page size, and with a crash at any point.

use serde_json::{Value, json};
use trackpost::sandbox::Answer;

use super::{DISCOVER, harness, id, label};
use crate::harness::{Harness, ORDERS, hours, seconds};

#[tokio::test]
async fn a_long_list_is_read_completely_with_any_page_size() {
    let mut harness = harness().await;
    harness.sandbox.set_largest_page(7);
    for hour in 0..5 {
        harness.make(hour * 10..hour * 10 + 10);
        harness.pass(hours(1));
    }
    let calls = harness.discover().await;
    assert_eq!(harness.registered_labels().await, 50);
    assert!(calls <= 20, "{calls} requests for 50 labels, 7 a page");
    let counted = harness.count("SELECT count(DISTINCT label_id) FROM labels WHERE by_discovery = 1").await;
    assert_eq!(counted, 50);
}

#[tokio::test]
async fn a_list_in_the_wrong_order_loses_no_label() {
    let mut harness = harness().await;
    let now = harness.now();
    let of = |n: i64| label(&format!("se-{n}"), now - seconds(n), "completed", true);
    let two = |labels: [Value; 2], page: u32| {
        Answer::json(200, json!({"labels": labels, "pages": 3, "page": page, "links": {}}).to_string())
    };
    for (number, labels) in [(1, [of(1), of(2)]), (2, [of(3), of(4)]), (3, [of(5), of(6)])] {
        harness.sandbox.script_list_once(two(labels, number));
    }
    for _ in 0..3 {
        let wake = harness.discover_once().await;
        harness.pass(wake.duration_since(harness.now()));
    }
    assert_eq!(harness.registered_labels().await, 6);
    let pages: Vec<bool> =
        (1..=3).map(|n| harness.listings()[n - 1].contains(&format!("&page={n}&"))).collect();
    assert_eq!(pages, [true; 3], "{:?}", harness.listings());
}

#[tokio::test]
async fn discovery_continues_from_its_position_after_an_outage() {
    let mut harness = Harness::with(&format!("{DISCOVER}lookback = \"1h\"\n{ORDERS}")).await;
    harness.make([1]);
    harness.discover().await;
    let seen = harness.now();
    harness.shut().await;
    for number in 2..12 {
        harness.pass(hours(12));
        harness.make([number]);
    }
    harness.pass(hours(12));
    // The label appears late and is dated before the last label seen.
    harness.make([12]);
    harness.sandbox.date(&id("se-12"), seen - seconds(14 * 60));
    harness.restart().await;
    harness.discover().await;
    assert_eq!(harness.registered_labels().await, 12, "only the first walk uses the lookback");
}

#[tokio::test]
async fn killed_between_two_pages_no_label_is_lost_or_added_twice() {
    let mut harness = harness().await;
    harness.sandbox.set_largest_page(4);
    for number in 0..20 {
        harness.make([number]);
        harness.pass(seconds(60));
    }
    for round in 0..40 {
        let wake = harness.discover_once().await;
        harness.pass(wake.duration_since(harness.now()).max(seconds(1)));
        match round {
            0..12 if round % 3 == 1 => harness.crash().await,
            0..12 if round % 3 == 2 => {
                harness.abort_writer().await;
                let now = harness.now();
                let _ = harness.discoverer().step(now).await;
                harness.crash().await;
            }
            _ => {}
        }
    }
    assert_eq!(harness.registered_labels().await, 20);
    let before = harness.sandbox.counters().requests;
    harness.poll_and_deliver().await;
    assert_eq!(harness.sandbox.counters().requests - before, 20);
}
