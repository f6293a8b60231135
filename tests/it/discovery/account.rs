//! Quota, budget and status of an account, shared by discovery and polls.

use trackpost::sandbox::Answer;

use super::{DISCOVER, harness};
use crate::harness::parcel::in_transit;
use crate::harness::{API_KEY, Harness, ORDERS, seconds};

#[tokio::test]
async fn a_429_stops_polls_and_discovery() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.discover().await;
    harness.sandbox.script_list_once(Answer::status(429).header("retry-after", "40"));
    harness.pass(seconds(400));
    harness.discover_once().await;
    let before = harness.sandbox.counters().requests;
    harness.poll().await;
    harness.pass(seconds(39));
    harness.poll().await;
    harness.discover_once().await;
    assert_eq!(harness.sandbox.counters().requests, before, "no request before 40 s have passed");
    harness.pass(seconds(1));
    assert_eq!((harness.poll().await, harness.discover().await), (1, 1));

    harness.answers("se-1", Answer::status(429).header("retry-after", "400"));
    harness.poll_again("se-1").await;
    harness.pass(seconds(399));
    assert_eq!(harness.discover().await, 0);
    harness.pass(seconds(1));
    assert_eq!(harness.discover().await, 1);
}

#[tokio::test]
async fn without_labels_discovery_probes_a_refused_key() {
    let mut harness = harness().await;
    harness.sandbox.set_api_keys(vec!["another".to_owned()]);
    harness.discover_once().await;
    harness.deliver().await;
    assert_eq!(harness.kinds(), ["system.account.unauthorized"]);
    harness.pass(seconds(61));
    harness.discover_once().await;
    let before = harness.sandbox.counters().requests;
    harness.discover_once().await;
    assert_eq!(harness.sandbox.counters().requests, before, "one probe");
    harness.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    harness.make([1]);
    harness.pass(seconds(3600));
    harness.discover().await;
    harness.deliver().await;
    assert_eq!(harness.kinds(), ["system.account.unauthorized", "system.account.recovered"]);
    assert_eq!(harness.registered_labels().await, 1);
}

#[tokio::test]
async fn discovery_probes_the_account_while_a_carrier_waits() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.discover().await;
    harness.says("se-1", &in_transit());
    harness.poll().await;
    let throttled = r#"{"request_id":"1","errors":[{"error_source":"carrier","error_code":"rate_limit_exceeded","carrier_code":"ups","message":"too many"}]}"#;
    harness.answers("se-1", Answer::json(429, throttled).header("retry-after", "900"));
    harness.poll_again("se-1").await;
    harness.sandbox.set_api_keys(vec!["another".to_owned()]);
    harness.pass(seconds(400));
    harness.discover_once().await;
    harness.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    harness.pass(seconds(61));
    assert_eq!(harness.poll().await, 0, "se-1 is due but must not be polled");
    harness.discover_once().await;
    harness.deliver().await;
    let system = harness.kinds().into_iter().filter(|kind| kind.starts_with("system")).collect::<Vec<_>>();
    assert_eq!(system, ["system.account.unauthorized", "system.account.recovered"]);
}

#[tokio::test]
async fn voided_labels_are_found_under_a_small_budget() {
    let mut harness = Harness::with(&format!("requests_per_month = 1000\n{DISCOVER}{ORDERS}")).await;
    harness.make([1]);
    for _ in 0..12 {
        let wake = harness.discover_once().await;
        harness.pass(wake.duration_since(harness.now()).max(seconds(1)));
    }
    let voids = harness.listings().iter().filter(|target| target.contains("voided")).count();
    assert!(voids > 0 && voids < harness.listings().len(), "{:?}", harness.listings());
}

#[tokio::test]
async fn a_failing_list_does_not_stop_polls() {
    let forbidden =
        r#"{"request_id":"1","errors":[{"error_code":"invalid_billing_plan","message":"for Sam Sample"}]}"#;
    for answer in [Answer::json(403, forbidden), Answer::status(502), Answer::json(200, "{\"labels\":")] {
        let mut harness = harness().await;
        harness.register(&["se-1"]).await;
        harness.says("se-1", &in_transit());
        harness.poll().await;
        harness.sandbox.script_list(answer);
        for minutes in [1, 2, 4, 8, 16, 32, 60] {
            let before = harness.listings().len();
            harness.discover_once().await;
            assert_eq!(harness.listings().len(), before + 1);
            harness.poll_again("se-1").await;
            harness.pass(seconds(minutes * 60 - 1));
            harness.discover_once().await;
            assert_eq!(harness.listings().len(), before + 1, "no list request for {minutes} minutes");
            harness.pass(seconds(1));
        }
        harness.deliver().await;
        assert!(harness.kinds().iter().all(|kind| !kind.starts_with("system.")), "{:?}", harness.kinds());
        harness.sandbox.unscript_list();
        harness.make([2]);
        harness.discover().await;
        assert_eq!(harness.row("se-2").await.state, "active");
    }
}

#[tokio::test]
async fn a_failing_page_is_requested_in_smaller_pages() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.sandbox.script_list_once(Answer::json(200, vec![b' '; 5 * 1024 * 1024]));
    harness.sandbox.script_list_once(Answer::json(200, "{"));
    for _ in 0..4 {
        let wake = harness.discover_once().await;
        harness.pass(wake.duration_since(harness.now()).max(seconds(1)));
    }
    let sizes: Vec<String> = harness.listings();
    let size = |listing: &String| listing.split("page_size=").nth(1).unwrap().to_owned();
    let sizes: Vec<String> = sizes.iter().map(size).collect();
    assert_eq!(
        sizes,
        ["100", "50&label_status=voided", "25", "50&label_status=voided"],
        "walks for new labels and voids alternate"
    );
    assert_eq!(harness.registered_labels().await, 1);
}

#[tokio::test]
async fn a_full_quota_keeps_a_permit_for_the_list() {
    let mut harness = Harness::with(&format!("requests_per_minute = 8\n{DISCOVER}{ORDERS}")).await;
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(harness.poll().await, 8);
    let wake = harness.discover_once().await;
    assert!(harness.listings().is_empty());
    harness.pass(wake.duration_since(harness.now()));
    assert_eq!(harness.poll().await, 0, "the free permit is kept");
    harness.discover_once().await;
    assert_eq!(harness.listings().len(), 1);
    harness.poll().await;
    let wake = harness.discover_once().await;
    assert_eq!(wake.duration_since(harness.now()).as_secs(), 30, "the polls come next");
}

#[tokio::test]
async fn list_requests_count_against_the_quota_also_after_a_restart() {
    let mut harness = Harness::with(&format!("requests_per_minute = 20\n{DISCOVER}{ORDERS}")).await;
    harness.sandbox.set_largest_page(1);
    for number in 0..4 {
        harness.make([number]);
        harness.pass(seconds(2));
    }
    for _ in 0..3 {
        let wake = harness.discover_once().await;
        assert_eq!(
            wake.duration_since(harness.now()).as_secs(),
            12,
            "one request in four of twenty a minute"
        );
        harness.pass(seconds(12));
    }
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.restart().await;
    assert_eq!(harness.poll().await, 17);
}

#[tokio::test]
async fn a_small_budget_is_left_to_the_polls() {
    // About one request every two minutes, the list less often than its interval.
    let mut harness = Harness::with(&format!("requests_per_month = 20000\n{DISCOVER}{ORDERS}")).await;
    harness.make([1]);
    for _ in 0..2 {
        let wake = harness.discover_once().await;
        let rest = wake.duration_since(harness.now()).as_secs();
        assert!((420..560).contains(&rest), "{rest} s");
        harness.pass(seconds(rest + 1));
    }
    assert_eq!(harness.listings().len(), 2);
}
