//! Clock jumps during a run or between two runs: polls and deliveries continue (contract 9.5).

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::clock::{ClockRecord, Mark};
use trackpost::domain::polling::budget::Month;
use trackpost::domain::polling::rate_limiter::EndedRequests;
use trackpost::sandbox::{Answer, SandboxOptions};
use trackpost::store::usage::Usage;

use crate::harness::child::{Site, until};
use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, connect, hours, seconds};

const TEN_MINUTES: &str =
    "[cadence.IT]\nintervals = [\"10m\"]\n[alerts]\nstalled_after = {}\nlate_after = 0\n";

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
        assert!(harness.receiver.counts().received > received, "{back} {restart}: its wait is over");
    }
}

#[tokio::test]
async fn the_probe_of_a_failing_subscriber_is_made_in_time_after_the_clock_was_set_back() {
    for (back, restart) in JUMPS.into_iter().flat_map(|back| [(back, false), (back, true)]) {
        let mut harness = Harness::with(&format!("{TEN_MINUTES}{ORDERS}")).await;
        harness.receiver.answer_always(Answer::status(503));
        harness.register(&["se-1", "se-2", "se-3"]).await;
        ["se-1", "se-2", "se-3"].iter().for_each(|label| harness.says(label, &in_transit()));
        harness.poll().await;
        for _ in 0..12 {
            harness.deliver().await;
            harness.pass(seconds(1));
        }
        let failing = "SELECT count(*) FROM subscribers WHERE state = 'failing'";
        assert_eq!(harness.count(failing).await, 1);
        harness.pass(back);
        if restart {
            harness.restart().await;
        }
        harness.deliver().await;
        let received = harness.receiver.counts().received;
        harness.pass(seconds(21));
        harness.deliver().await;
        assert!(harness.receiver.counts().received > received, "{back} {restart}: probes double from 5 s on");
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

/// The requests of the last minute keep their age when the clock jumps, in a run or between two runs.
#[tokio::test]
async fn counted_requests_keep_their_age_when_the_clock_jumps() {
    for jump in [120, 90_000, -30, -3_600] {
        for between_runs in [false, true] {
            let harness = Harness::new().await;
            let (store, account) = (harness.store(), &harness.account.name);
            let began = harness.now();
            let clock = |real: i64, skew: i64| {
                let wall = began + seconds(real + skew);
                let uptime = Duration::from_secs(1_000 + real.unsigned_abs());
                ClockRecord { mark: Mark { wall, uptime, machine: Some([1; 32]) }, gaps: Arc::default() }
            };
            let count = async |real: i64, skew: i64, requests: u32| {
                let clock = clock(real, skew);
                let at = clock.mark.wall;
                let ended = vec![EndedRequests { at, month: Month::of(at), requests }];
                store
                    .record_usage(account, Usage { clock, ended, ..harness.access().usage() }, at)
                    .await
                    .unwrap();
            };
            store.begin_run(clock(0, 0), SignedDuration::ZERO).await.unwrap();
            count(1, 0, 30).await;
            count(20, 0, 4).await;
            if !between_runs {
                count(23, jump, 2).await;
            }
            let now = clock(25, jump);
            let wall = now.mark.wall;
            let last = store.last_run().await.unwrap().unwrap();
            let jump = last.mark.jump_between_runs(now.mark);
            store.begin_run(now, jump).await.unwrap();
            let used = store.open_quota(account, wall).await.unwrap();
            let age = |at: Timestamp| wall.duration_since(at).as_secs();
            let found: Vec<(i64, usize)> =
                used.lately.iter().map(|(at, requests)| (age(*at), *requests)).collect();
            // An age may be a second or two too low, which is on the safe side.
            let expected: &[(i64, usize)] =
                if between_runs { &[(24, 30), (5, 4)] } else { &[(24, 30), (5, 4), (2, 2)] };
            let close = |((found, n), (expected, m)): (&(i64, usize), &(i64, usize))| {
                n == m && (expected - 3..=*expected).contains(found)
            };
            assert_eq!(found.len(), expected.len(), "{jump} {between_runs}: {found:?}");
            assert!(found.iter().zip(expected).all(close), "{jump} {between_runs}: {found:?}");
        }
    }
}

/// The label was registered while the clock was 61 days behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_far_behind_expires_no_label_after_a_restart() {
    const BEHIND: i64 = 61 * 86_400_000;
    let site = Site::new(SandboxOptions::default()).await;
    site.sandbox.script("se-1", Answer::json(200, in_transit()));
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    let daemon = site.start();
    site.received(|counts| counts.accepted >= 3).await;
    daemon.stop().await;
    let mut database = connect(&site.database()).await;
    let moved = sqlx::query(
        "UPDATE labels SET registered_at = registered_at - ?1, first_answer_at = first_answer_at - ?1,
            last_changed_at = last_changed_at - ?1, newest_scan_at = newest_scan_at - ?1",
    );
    moved.bind(BEHIND).execute(&mut database).await.unwrap();
    let gap = sqlx::query("UPDATE clock SET gaps = json_array(json_array(wall - ?1, wall - 100))");
    gap.bind(BEHIND - 100).execute(&mut database).await.unwrap();
    for _ in 0..2 {
        let requests = site.sandbox.counters().requests;
        let daemon = site.start();
        until(|| site.sandbox.counters().requests >= requests + 3).await.expect("it is polled");
        daemon.stop().await;
    }
    let alerts: Vec<String> = sqlx::query_scalar(
        "SELECT type FROM messages WHERE type IN ('tracking.stalled', 'tracking.late', 'tracking.expired')",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    assert_eq!(alerts, [""; 0]);
}
