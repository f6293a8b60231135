//! Clock jumps during a run or between two runs: polls and deliveries continue (contract 9.5).

use jiff::SignedDuration;
use trackpost::domain::clock::Gaps;
use trackpost::sandbox::Answer;

use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, hours, seconds};

const TEN_MINUTES: &str =
    "[cadence.IT]\nintervals = [\"10m\"]\n[silence]\nstalled_after = {}\nlate_after = 0\n";

const JUMPS: [SignedDuration; 4] = [hours(-1), hours(-24), hours(-24 * 61), SignedDuration::from_secs(-90)];

/// Three labels, with callbacks that wait five minutes for their third attempt.
async fn waiting() -> Harness {
    let mut harness = Harness::with(&format!("{TEN_MINUTES}{ORDERS}retry = [\"5s\", \"5m\"]\n")).await;
    harness.receiver.answer_by(|callback| {
        // Some callbacks are accepted, so the messages fail and not the subscriber.
        (callback.kind.as_deref() != Some("tracking.updated")).then(|| Answer::status(500))
    });
    harness.register(&["se-1", "se-2", "se-3"]).await;
    ["se-1", "se-2", "se-3"].iter().for_each(|label| harness.says(label, &in_transit()));
    harness.poll_and_deliver().await;
    harness
}

#[tokio::test]
async fn polls_and_deliveries_go_on_after_the_clock_was_set_back() {
    for (back, restart) in JUMPS.into_iter().flat_map(|back| [(back, false), (back, true)]) {
        let mut harness = waiting().await;
        harness.pass(back);
        if restart {
            harness.restart().await;
        }
        let (requests, received) = (harness.sandbox.counters().requests, harness.receiver.counts().received);
        harness.poll_and_deliver().await;
        assert_eq!(harness.sandbox.counters().requests, requests, "{back} {restart}: nothing is due at once");
        harness.pass(seconds(6));
        harness.deliver().await;
        assert!(
            harness.receiver.counts().received > received,
            "{back} {restart}: the retry after 5 s is made"
        );
        harness.pass(seconds(11 * 60));
        harness.poll().await;
        assert_eq!(harness.sandbox.counters().requests, requests + 3, "{back} {restart}: one wait later");
    }
}

#[tokio::test]
async fn restarts_after_the_clock_was_set_back_do_not_lengthen_the_wait_of_a_label() {
    for (running, back) in [(true, hours(-24)), (false, hours(-24))] {
        let mut harness = waiting().await;
        let requests = harness.sandbox.counters().requests;
        harness.pass(back);
        if running {
            harness.poll().await;
        }
        for _ in 0..3 {
            harness.restart().await;
            harness.poll().await;
            harness.pass(seconds(4 * 60));
        }
        harness.poll().await;
        assert_eq!(harness.sandbox.counters().requests, requests + 3, "one wait of ten minutes");
    }
}

#[tokio::test]
async fn a_jump_of_the_clock_is_known_after_a_restart() {
    let mut harness = Harness::new().await;
    let now = harness.now();
    for spans in [vec![(now, now + hours(48)), (now + hours(60), now + hours(61))], Vec::new()] {
        let gaps = Gaps::of(spans);
        harness.store().record_clock_gaps(&gaps).await.unwrap();
        harness.restart().await;
        assert_eq!(harness.store().clock_gaps().await.unwrap(), gaps);
    }
}

#[tokio::test]
async fn a_failing_subscriber_is_probed_after_the_clock_was_set_back() {
    for (back, restart) in JUMPS.into_iter().flat_map(|back| [(back, false), (back, true)]) {
        let mut harness = Harness::with(&format!("{TEN_MINUTES}{ORDERS}")).await;
        harness.receiver.answer_always(Answer::status(503).header("retry-after", "20"));
        harness.register(&["se-1"]).await;
        harness.says("se-1", &in_transit());
        harness.poll_and_deliver().await;
        harness.pass(back);
        if restart {
            harness.restart().await;
        }
        let received = harness.receiver.counts().received;
        harness.deliver().await;
        assert_eq!(harness.receiver.counts().received, received, "{back} {restart}: its Retry-After is 20 s");
        harness.pass(seconds(22));
        harness.deliver().await;
        assert!(harness.receiver.counts().received > received, "{back} {restart}: it waits no longer");
    }
}

#[tokio::test]
async fn a_restart_does_not_lengthen_the_wait_of_an_account() {
    for back in JUMPS {
        let mut harness = Harness::with(&format!("{TEN_MINUTES}{ORDERS}")).await;
        harness.register(&["se-1"]).await;
        harness.answers("se-1", Answer::status(429).header("retry-after", "30"));
        harness.poll().await;
        harness.says("se-1", &in_transit());
        harness.pass(back);
        harness.restart().await;
        assert_eq!(harness.poll().await, 0, "{back}: no poll before its time");
        harness.pass(seconds(31));
        assert_eq!(harness.poll().await, 1, "{back}");
    }
}

/// A wait that ended before the clock was set back does not begin again.
#[tokio::test]
async fn a_finished_wait_does_not_begin_again_after_the_clock_was_set_back() {
    for back in [hours(-2), hours(-3)] {
        let mut harness = Harness::with(&format!("{TEN_MINUTES}{ORDERS}")).await;
        harness.register(&["se-1"]).await;
        harness.answers("se-1", Answer::status(429).header("retry-after", "3600"));
        harness.poll().await;
        harness.says("se-1", &in_transit());
        harness.pass(seconds(3_601));
        assert_eq!(harness.poll().await, 1, "{back}");
        harness.pass(back);
        harness.restart().await;
        assert_eq!(harness.poll().await, 0, "{back}: no poll before its time");
        harness.pass(seconds(11 * 60));
        assert_eq!(harness.poll().await, 1, "{back}: within one wait of the label");
    }
}

/// Requests sent while the clock was ahead count as sent now: the limit holds, and for a minute only.
#[tokio::test]
async fn the_quota_holds_over_a_restart_with_the_clock_set_back() {
    for back in JUMPS {
        let mut harness = Harness::with(&format!("requests_per_minute = 5\n{TEN_MINUTES}{ORDERS}")).await;
        let labels: Vec<String> = (1..=9).map(|n| format!("se-{n}")).collect();
        labels.iter().for_each(|label| harness.says(label, &in_transit()));
        harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(harness.poll().await, 5);
        harness.pass(back);
        harness.restart().await;
        assert_eq!(harness.poll().await, 0, "{back}: the minute is used up");
        harness.pass(seconds(62));
        assert!(harness.poll().await > 0, "{back}: the minute ends");
    }
}
