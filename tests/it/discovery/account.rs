//! What the list and the polls of an account share: its quota, its budget, its standing.

use trackpost::sandbox::Answer;

use super::{DISCOVER, house};
use crate::house::parcel::in_transit;
use crate::house::{API_KEY, House, ORDERS, seconds};

#[tokio::test]
async fn a_429_stops_both() {
    let mut house = house().await;
    house.make([1]);
    house.discover().await;
    house.sandbox.script_list_once(Answer::status(429).header("retry-after", "40"));
    house.pass(seconds(400));
    house.discover_once().await;
    let asked = house.sandbox.counters().requests;
    house.poll().await;
    house.pass(seconds(39));
    house.poll().await;
    house.discover_once().await;
    assert_eq!(house.sandbox.counters().requests, asked, "nobody asks before 40 s have passed");
    house.pass(seconds(1));
    assert_eq!((house.poll().await, house.discover().await), (1, 1));

    house.answers("se-1", Answer::status(429).header("retry-after", "400"));
    house.look_again("se-1").await;
    house.pass(seconds(399));
    assert_eq!(house.discover().await, 0);
    house.pass(seconds(1));
    assert_eq!(house.discover().await, 1);
}

#[tokio::test]
async fn without_a_label_it_finds_out_by_itself_that_the_key_is_taken_again() {
    let mut house = house().await;
    house.sandbox.set_api_keys(vec!["another".to_owned()]);
    house.discover_once().await;
    house.deliver().await;
    assert_eq!(house.kinds(), ["system.account.unauthorized"]);
    house.pass(seconds(61));
    house.discover_once().await;
    let asked = house.sandbox.counters().requests;
    house.discover_once().await;
    assert_eq!(house.sandbox.counters().requests, asked, "one probe");
    house.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    house.make([1]);
    house.pass(seconds(3600));
    house.discover().await;
    house.deliver().await;
    assert_eq!(house.kinds(), ["system.account.unauthorized", "system.account.recovered"]);
    assert_eq!(house.watched().await, 1);
}

#[tokio::test]
async fn with_labels_of_a_carrier_that_waits_it_finds_that_out_too() {
    let mut house = house().await;
    house.make([1]);
    house.discover().await;
    house.says("se-1", &in_transit());
    house.poll().await;
    let throttled = r#"{"request_id":"1","errors":[{"error_source":"carrier","error_code":"rate_limit_exceeded","carrier_code":"ups","message":"too many"}]}"#;
    house.answers("se-1", Answer::json(429, throttled).header("retry-after", "900"));
    house.look_again("se-1").await;
    house.sandbox.set_api_keys(vec!["another".to_owned()]);
    house.pass(seconds(400));
    house.discover_once().await;
    house.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    house.pass(seconds(61));
    assert_eq!(house.poll().await, 0, "se-1 is due, and may not be asked about");
    house.discover_once().await;
    house.deliver().await;
    let system = house.kinds().into_iter().filter(|kind| kind.starts_with("system")).collect::<Vec<_>>();
    assert_eq!(system, ["system.account.unauthorized", "system.account.recovered"]);
}

#[tokio::test]
async fn under_a_small_budget_voids_are_sought_too() {
    let mut house = House::with(&format!("requests_per_month = 1000\n{DISCOVER}{ORDERS}")).await;
    house.make([1]);
    for _ in 0..12 {
        let wake = house.discover_once().await;
        house.pass(wake.duration_since(house.now()).max(seconds(1)));
    }
    let voids = house.listings().iter().filter(|asked| asked.contains("voided")).count();
    assert!(voids > 0 && voids < house.listings().len(), "{:?}", house.listings());
}

#[tokio::test]
async fn a_list_that_is_forbidden_or_broken_stops_no_polls() {
    let forbidden =
        r#"{"request_id":"1","errors":[{"error_code":"invalid_billing_plan","message":"for Sam Sample"}]}"#;
    for answer in [Answer::json(403, forbidden), Answer::status(502), Answer::json(200, "{\"labels\":")] {
        let mut house = house().await;
        house.register(&["se-1"]).await;
        house.says("se-1", &in_transit());
        house.poll().await;
        house.sandbox.script_list(answer);
        for minutes in [1, 2, 4, 8, 16, 32, 60] {
            let asked = house.listings().len();
            house.discover_once().await;
            assert_eq!(house.listings().len(), asked + 1);
            house.look_again("se-1").await;
            house.pass(seconds(minutes * 60 - 1));
            house.discover_once().await;
            assert_eq!(house.listings().len(), asked + 1, "the list is left alone for {minutes} minutes");
            house.pass(seconds(1));
        }
        house.deliver().await;
        assert!(house.kinds().iter().all(|kind| !kind.starts_with("system.")), "{:?}", house.kinds());
        house.sandbox.unscript_list();
        house.make([2]);
        house.discover().await;
        assert_eq!(house.row("se-2").await.state, "active");
    }
}

#[tokio::test]
async fn a_page_that_cannot_be_had_is_asked_for_in_smaller_ones() {
    let mut house = house().await;
    house.make([1]);
    house.sandbox.script_list_once(Answer::json(200, vec![b' '; 5 * 1024 * 1024]));
    house.sandbox.script_list_once(Answer::json(200, "{"));
    for _ in 0..4 {
        let wake = house.discover_once().await;
        house.pass(wake.duration_since(house.now()).max(seconds(1)));
    }
    let sizes: Vec<String> = house.listings();
    let size = |listing: &String| listing.split("page_size=").nth(1).unwrap().to_owned();
    let sizes: Vec<String> = sizes.iter().map(size).collect();
    assert_eq!(
        sizes,
        ["100", "50&label_status=voided", "25", "50&label_status=voided"],
        "news and voids by turns"
    );
    assert_eq!(house.watched().await, 1);
}

#[tokio::test]
async fn a_full_quota_keeps_a_slot_for_the_list() {
    let mut house = House::with(&format!("requests_per_minute = 8\n{DISCOVER}{ORDERS}")).await;
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    house.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(house.poll().await, 8);
    let wake = house.discover_once().await;
    assert!(house.listings().is_empty());
    house.pass(wake.duration_since(house.now()));
    assert_eq!(house.poll().await, 0, "the slot that came free is kept");
    house.discover_once().await;
    assert_eq!(house.listings().len(), 1);
    house.poll().await;
    let wake = house.discover_once().await;
    assert_eq!(wake.duration_since(house.now()).as_secs(), 30, "and then the polls have their turn");
}

#[tokio::test]
async fn calls_for_the_list_count_against_the_quota_also_across_a_restart() {
    let mut house = House::with(&format!("requests_per_minute = 20\n{DISCOVER}{ORDERS}")).await;
    house.sandbox.set_largest_page(1);
    for number in 0..4 {
        house.make([number]);
        house.pass(seconds(2));
    }
    for _ in 0..3 {
        let wake = house.discover_once().await;
        assert_eq!(wake.duration_since(house.now()).as_secs(), 12, "one call in four of twenty a minute");
        house.pass(seconds(12));
    }
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    house.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    house.restart().await;
    assert_eq!(house.poll().await, 17);
}

#[tokio::test]
async fn a_small_budget_is_left_to_the_polls() {
    // A call every two minutes or so, the list less often than its interval.
    let mut house = House::with(&format!("requests_per_month = 20000\n{DISCOVER}{ORDERS}")).await;
    house.make([1]);
    for _ in 0..2 {
        let wake = house.discover_once().await;
        let rest = wake.duration_since(house.now()).as_secs();
        assert!((420..560).contains(&rest), "{rest} s");
        house.pass(seconds(rest + 1));
    }
    assert_eq!(house.listings().len(), 2);
}
