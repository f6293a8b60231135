//! Failures of the account as opposed to failures of a label (contract 3, 4.2).
#![allow(clippy::print_stdout, reason = "the measurements are useful output")]

use serde_json::Value;
use trackpost::sandbox::{Answer, FaultKind, InjectedFault, LoggedRequest};

use crate::harness::parcel::{event, in_transit, tracking};
use crate::harness::{API_KEY, Harness, ORDERS, hours, seconds};

/// Polls `se-1`, which is throttled. Returns for how many seconds the account waited.
async fn seconds_waited(throttle: impl FnOnce(&Harness) -> Answer) -> i64 {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", throttle(&harness));
    assert_eq!(harness.poll().await, 1);
    assert_eq!(harness.row("se-1").await.failures, 0, "it is not a failure of the label");
    harness.register(&["se-2"]).await;
    harness.says("se-1", &in_transit());
    for waited in 0..=7_200 {
        match harness.poll().await {
            0 => harness.pass(seconds(1)),
            2 => return waited,
            requests => panic!("{requests} labels were polled"),
        }
    }
    panic!("no other label was polled");
}

#[tokio::test]
async fn a_429_stops_the_account_for_its_retry_after() {
    assert_eq!(seconds_waited(|_| Answer::status(429).header("retry-after", "37")).await, 37);
}

#[tokio::test]
async fn retry_after_of_the_api_may_be_a_date() {
    let until = |harness: &Harness| {
        let at = harness.now() + seconds(90);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap();
        Answer::status(429).header("retry-after", &date)
    };
    assert_eq!(seconds_waited(until).await, 90);
    for form in ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"] {
        let until = |harness: &Harness| {
            let at = (harness.now() + seconds(90)).to_zoned(jiff::tz::TimeZone::UTC);
            Answer::status(429).header("retry-after", &at.strftime(form).to_string())
        };
        assert_eq!(seconds_waited(until).await, 90, "{form}");
    }
    assert_eq!(seconds_waited(|_| Answer::status(429).header("retry-after", "36.5")).await, 37);
}

#[tokio::test]
async fn a_429_without_retry_after_waits_a_minute() {
    assert_eq!(seconds_waited(|_| Answer::status(429)).await, 60);
    assert_eq!(seconds_waited(|_| Answer::status(429).header("retry-after", "soon")).await, 60);
}

#[tokio::test]
async fn the_wait_after_a_429_survives_a_restart() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(429).header("retry-after", "300"));
    harness.poll().await;
    harness.restart().await;
    harness.pass(seconds(299));
    assert_eq!(harness.poll().await, 0);
    harness.pass(seconds(1));
    assert_eq!(harness.poll().await, 1);
}

#[tokio::test]
async fn a_refused_key_suspends_the_account_except_for_a_probe() {
    let mut harness = Harness::new().await;
    let labels: Vec<String> = (0..20).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.sandbox.set_api_keys(vec!["another".to_owned()]);
    assert!(harness.poll().await <= 8, "only the requests in flight");
    harness.deliver().await;
    assert_eq!(harness.kinds(), ["system.account.unauthorized"]);

    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(harness.poll().await, 0);
        harness.pass(seconds(minutes * 60 - 1));
        assert_eq!(harness.poll().await, 0, "no probe before {minutes} minutes");
        harness.pass(seconds(1));
        assert_eq!(harness.poll().await, 1, "one probe after {minutes} minutes");
        harness.restart().await;
    }
    harness.deliver().await;
    assert_eq!(harness.kinds().len(), 1, "it is reported once, also after a restart");

    harness.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    harness.pass(seconds(3600));
    assert!(harness.poll().await >= 20, "the account recovers by itself");
    harness.deliver().await;
    let system: Vec<_> = harness.kinds().into_iter().filter(|kind| kind.starts_with("system.")).collect();
    assert_eq!(system, ["system.account.unauthorized", "system.account.recovered"]);
    assert_eq!(harness.row("se-7").await.failures, 0);
}

#[tokio::test]
async fn account_messages_have_no_label() {
    let shop = ORDERS.replace("orders", "shop").replace("standard", "shipstation");
    let mut harness = Harness::with(&(ORDERS.to_owned() + &shop)).await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(402));
    harness.poll_and_deliver().await;
    let callback = harness.callbacks("orders").remove(0);
    assert_eq!((callback.label_id.as_deref(), callback.seq), (None, None));
    let body: Value = serde_json::from_slice(&callback.body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["account"]),
        (&Value::from("system.account.unauthorized"), &Value::from("main"))
    );
    assert!(!callback.body.windows(API_KEY.len()).any(|part| part == API_KEY.as_bytes()));
    assert!(harness.callbacks("shop").is_empty(), "the vendor's format has no system messages");
}

/// The vendor's answer after the end of the subscription.
const INACTIVE: &str = r#"{"request_id":"00000000-0000-4000-8000-000000000000","errors":[{"error_source":"shipengine","error_type":"account_status","error_code":"subscription_inactive","message":"(text)"}]}"#;

/// Twelve labels: `se-0` to `se-11`.
async fn twelve() -> (Harness, Vec<String>) {
    let harness = Harness::new().await;
    let labels: Vec<String> = (0..12).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (harness, labels)
}

fn system_messages(harness: &Harness) -> Vec<String> {
    harness.kinds().into_iter().filter(|kind| kind.starts_with("system.")).collect()
}

#[tokio::test]
async fn an_ended_api_subscription_suspends_the_account_whatever_the_http_status() {
    for (status, body) in [
        (402, INACTIVE.to_owned()),
        (400, INACTIVE.to_owned()),
        (403, INACTIVE.to_owned()),
        (402, String::new()),
        (
            400,
            INACTIVE
                .replace("account_status", "business_rules")
                .replace("subscription_inactive", "trial_expired"),
        ),
        (
            403,
            INACTIVE.replace("account_status", "security").replace("subscription_inactive", "unauthorized"),
        ),
    ] {
        let (mut harness, labels) = twelve().await;
        for label in &labels {
            harness.answers(label, Answer::json(status, body.clone()));
        }
        assert!(harness.poll().await <= 8, "{status} {body}: only the requests in flight");
        for minutes in [1, 2, 4] {
            harness.pass(seconds(minutes * 60));
            assert_eq!(harness.poll().await, 1, "{status} {body}: one probe");
        }
        for label in &labels {
            harness.says(label, &in_transit());
        }
        harness.pass(seconds(8 * 60));
        assert!(harness.poll().await >= 12, "{status} {body}: all labels are polled after the payment");
        harness.deliver().await;
        assert_eq!(system_messages(&harness), ["system.account.unauthorized", "system.account.recovered"]);
        assert_eq!(harness.count("SELECT count(*) FROM labels WHERE refusals > 0 OR failures > 0").await, 0);
    }
}

#[tokio::test]
async fn a_403_for_one_label_concerns_only_that_label() {
    let (mut harness, labels) = twelve().await;
    for label in &labels {
        harness.says(label, &in_transit());
    }
    let forbidden =
        INACTIVE.replace("account_status", "security").replace("subscription_inactive", "forbidden");
    harness.answers("se-3", Answer::json(403, forbidden));
    for _ in 0..4 {
        harness.poll().await;
        harness.pass(hours(6));
    }
    harness.deliver().await;
    assert!(system_messages(&harness).is_empty(), "the account is ok");
    assert!(harness.row("se-3").await.refusals > 0);
    assert_eq!(harness.count("SELECT count(*) FROM labels WHERE refusals > 0").await, 1);
    assert_eq!(
        harness.count("SELECT count(*) FROM labels WHERE last_seq > 0").await,
        11,
        "all other labels were polled"
    );
}

#[tokio::test]
async fn the_same_refusal_for_many_labels_suspends_the_account() {
    for refusal in
        [Answer::status(403), Answer::json(400, r#"{"errors":[{"message":"no"}]}"#), Answer::status(404)]
    {
        let (mut harness, labels) = twelve().await;
        for label in &labels {
            harness.answers(label, refusal.clone());
        }
        assert!(harness.poll().await <= 10, "only the requests in flight at the third refusal");
        assert!(harness.count("SELECT count(*) FROM labels WHERE refusals > 0").await <= 2);
        harness.pass(seconds(60));
        assert_eq!(harness.poll().await, 1, "one probe");
        for label in &labels {
            harness.says(label, &in_transit());
        }
        harness.pass(seconds(120));
        assert!(harness.poll().await >= 10, "the account recovers by itself");
        harness.deliver().await;
        assert_eq!(system_messages(&harness), ["system.account.unauthorized", "system.account.recovered"]);
    }
}

#[tokio::test]
async fn unknown_labels_do_not_suspend_the_account() {
    let (mut harness, labels) = twelve().await;
    for label in &labels {
        // Each answer names its label.
        harness.sandbox.forget(&label.parse().unwrap());
    }
    assert_eq!(harness.poll().await, 12);
    harness.deliver().await;
    assert!(system_messages(&harness).is_empty());
    assert_eq!(harness.count("SELECT count(*) FROM labels WHERE refusals = 1").await, 12);
}

#[tokio::test]
async fn the_probe_polls_another_label_than_the_refused_one() {
    let (mut harness, labels) = twelve().await;
    for label in &labels {
        harness.says(label, &in_transit());
    }
    harness.poll_and_deliver().await;
    let refused =
        INACTIVE.replace("account_status", "security").replace("subscription_inactive", "unauthorized");
    harness.answers("se-7", Answer::json(403, refused));
    harness.poll_again("se-7").await;
    let before = harness.sandbox.requests().len();
    harness.pass(hours(12));
    harness.poll().await;
    assert_ne!(harness.sandbox.requests()[before].label.as_deref(), Some("se-7"));
}

#[tokio::test]
async fn a_429_stops_an_account_for_at_most_a_day() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.answers("se-1", Answer::status(429).header("retry-after", "99999999"));
    harness.poll().await;
    let state = harness.store().account_state(&harness.account.name, harness.now()).await.unwrap();
    let waits = state.throttled_until.unwrap().duration_since(harness.now()).as_secs_f64();
    assert!((86_390.0..=86_410.0).contains(&waits), "{waits} s");
}

#[tokio::test]
async fn a_wrong_url_suspends_the_account_and_is_reported() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    let nowhere = r#"{"request_id":"1","errors":[{"error_source":"shipengine","error_type":"security","error_code":"not_found","message":"GET","method":"/v2/x","path":"GET /v2/x is not a valid API endpoint."}]}"#;
    for label in ["se-1", "se-2"] {
        harness.answers(label, Answer::json(404, nowhere));
    }
    harness.poll_and_deliver().await;
    assert_eq!(harness.kinds(), ["system.account.unauthorized"]);
    let body: Value = serde_json::from_slice(&harness.callbacks("orders")[0].body).unwrap();
    assert_eq!(body["data"]["reason"], "misconfigured");
    let detail = body["data"]["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{}/v2/labels/se-", harness.sandbox.base_url())), "{detail}");
    assert_eq!(harness.row("se-1").await.refusals, 0, "it is not a refusal of the label");
    harness.pass(seconds(60));
    assert_eq!(harness.poll().await, 1, "one probe");
}

#[tokio::test]
async fn an_outage_is_probed_and_is_not_a_failure_of_a_label() {
    let mut harness = Harness::new().await;
    let labels: Vec<String> = (0..40).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for label in &labels {
        harness.answers(label, Answer::status(502));
    }
    // Twenty in a row are enough, with the requests in flight.
    assert!(harness.poll().await <= 27, "an outage does not need forty requests");
    for minutes in [1, 2, 4, 8, 16, 32, 60] {
        harness.pass(seconds(minutes * 60 - 1));
        assert_eq!(harness.poll().await, 0);
        harness.pass(seconds(1));
        assert_eq!(harness.poll().await, 1);
    }
    let counted = harness.count("SELECT count(*) FROM labels WHERE failures > 1").await;
    assert_eq!(counted, 0, "no failures of labels are counted");

    for label in &labels {
        harness.says(label, &in_transit());
    }
    harness.pass(seconds(3600));
    let at_once = harness.poll().await;
    assert!(at_once <= 2, "{at_once} at once, the others later");
    assert_eq!(harness.count("SELECT count(*) FROM labels WHERE failures > 0").await, 0);
    let mut caught_up = at_once;
    for _ in 0..60 {
        harness.pass(seconds(1));
        let now = harness.poll().await;
        assert!(now <= 3, "{now} within a second");
        caught_up += now;
    }
    assert!(caught_up >= 40, "{caught_up} have caught up within a minute");
    harness.deliver().await;
    let sent = harness.kinds().into_iter().filter(|kind| kind == "tracking.updated").count();
    assert_eq!(sent, 40);
    assert!(harness.kinds().iter().all(|kind| !kind.starts_with("system.")));
}

#[tokio::test]
async fn the_quota_holds_across_a_restart() {
    let mut harness = Harness::new().await;
    let labels: Vec<String> = (0..200).map(|n| format!("se-{n}")).collect();
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(harness.poll().await, 160);
    harness.restart().await;
    assert_eq!(harness.poll().await, 0);
    harness.pass(seconds(60));
    assert_eq!(harness.poll().await, 0);
    harness.pass(seconds(1));
    assert_eq!(harness.poll().await, 40);
}

/// Two cadence rows and alerts. A label without a change for half a day expires.
const SHORT_CADENCE: &str = r#"
[cadence]
give_up_after = "12h"
[cadence.EX]
intervals = ["10m"]
[cadence.IT]
intervals = ["2h"]
[alerts]
stalled_after = { IT = 1, EX = 1 }
late_after = 1
"#;

#[tokio::test]
async fn a_day_without_the_api_expires_no_label_and_polls_catch_up_in_order() {
    let mut harness = Harness::with(&format!("{SHORT_CADENCE}{ORDERS}")).await;
    let labels: Vec<String> = (0..200).map(|n| format!("se-{n}")).collect();
    let status = |n: usize| if n.is_multiple_of(2) { "EX" } else { "IT" };
    for (n, label) in labels.iter().enumerate() {
        harness.says(label, &tracking(status(n), &[&event(60, status(n), "AR")]));
    }
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    harness.poll().await;
    harness.pass(seconds(61));
    harness.poll_and_deliver().await;
    let sent = harness.kinds().len();

    harness.sandbox.set_faults(vec![InjectedFault::new(FaultKind::Fail(503), 1.0)]);
    labels.iter().for_each(|label| harness.sandbox.unscript(label));
    let dawn = harness.now() + hours(24);
    let (mut first, mut probes) = (0, 0);
    while harness.now() < dawn {
        harness.pass(seconds(60));
        let down = harness.count("SELECT count(*) FROM accounts WHERE status = 'down'").await == 1;
        let requests = harness.poll().await;
        if down {
            assert!(requests <= 1, "{requests} probes at once");
            probes += requests;
        } else {
            first += requests;
        }
    }
    println!("a day without the API: {first} failures until the account was down, then {probes} probes");
    assert!(probes <= 32, "{probes} probes in a day");
    harness.deliver().await;
    assert_eq!(harness.kinds().len(), sent, "no message during the outage");
    assert_eq!(harness.count("SELECT count(*) FROM labels WHERE state = 'active'").await, 200);

    harness.sandbox.set_faults(vec![]);
    for (n, label) in labels.iter().enumerate() {
        let scans = [&*event(90, status(n), "DP"), &*event(60, status(n), "AR")];
        harness.says(label, &tracking(status(n), &scans));
    }
    let back = harness.sandbox.requests().len();
    let mut seconds_taken = 0;
    while harness.sandbox.requests().len() < back + 200 {
        harness.pass(seconds(1));
        let requests = harness.poll().await;
        assert!(requests <= 3, "{requests} within a second");
        seconds_taken += 1;
        assert!(seconds_taken < 4_000, "the last probe is an hour away at most");
    }
    harness.deliver().await;
    let silent = ["tracking.expired", "tracking.stalled", "tracking.late", "tracking.unavailable"];
    assert!(
        harness.kinds().iter().all(|kind| !silent.contains(&kind.as_str())),
        "changes come before alerts"
    );
    assert_eq!(harness.count("SELECT count(*) FROM labels WHERE state <> 'active' OR failures > 0").await, 0);

    // A day has 144 waits of ten minutes and 12 of two hours.
    let requests = harness.sandbox.requests().split_off(back);
    let urgent = |request: &&LoggedRequest| {
        request.label.as_deref().unwrap()[3..].parse::<usize>().unwrap().is_multiple_of(2)
    };
    let among_first = requests[..100].iter().filter(urgent).count();
    assert!(among_first >= 90, "{among_first} of the first hundred are the more urgent ones");
}
