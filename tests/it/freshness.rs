//! Freshness: delays between a change and its poll, as stored and shown (contract 9.3), for a parcel with known times.

use std::fs::File;
use std::sync::Arc;

use jiff::SignedDuration;
use trackpost::domain::label::{AccountName, LabelKey};
use trackpost::domain::polling::freshness::{FreshnessKind, Histogram};
use trackpost::sandbox::Answer;
use trackpost::store::views::freshness::Series;
use trackpost::workers::janitor::FreshnessReport;

use crate::harness::Harness;
use crate::harness::parcel::{event, tracking};

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// Returns the instant `minute` minutes after noon, when the harness opens.
fn scan(minute: u32, status: &str, code: &str) -> String {
    event(360 + minute, status, code)
}

/// A label that was polled at noon with one scan. Nothing is counted yet.
async fn polled_label() -> Harness {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &tracking("IT", &[&scan(0, "AC", "PU")]));
    harness.poll().await;
    assert_eq!(counted(&harness).await, [], "a first answer is not counted");
    harness
}

async fn look(harness: &mut Harness, after: SignedDuration, answer: &str) {
    harness.says("se-1", answer);
    harness.pass(after);
    harness.poll_again("se-1").await;
}

/// Returns kind, whether of deliveries, and the buckets that are not empty, with their counts.
type Counted = (FreshnessKind, bool, Vec<(usize, u64)>);

fn held(series: &Series) -> Counted {
    let buckets = series.histogram.0.into_iter().enumerate().filter(|(_, events)| *events > 0);
    (series.kind, series.delivered, buckets.collect())
}

async fn counted(harness: &Harness) -> Vec<Counted> {
    harness.store().freshness(None).await.unwrap().iter().map(held).collect()
}

#[tokio::test]
async fn freshness_counts_survive_a_restart() {
    let mut harness = polled_label().await;
    let (a, b, c) = (scan(0, "AC", "PU"), scan(11, "IT", "AR"), scan(100, "DE", "DL"));
    // Polled 9 minutes after the scan, 20 after the last poll.
    look(&mut harness, minutes(20), &tracking("IT", &[&b, &a])).await;
    // An unchanged poll and a failed one: the last good one counts.
    look(&mut harness, minutes(40), &tracking("IT", &[&b, &a])).await;
    harness.answers("se-1", Answer::json(500, String::new()));
    harness.pass(minutes(30));
    harness.poll_again("se-1").await;
    // The delivery arrives with two backfilled scans, one of them in the future.
    let (old, ahead) = (scan(5, "IT", "DP"), scan(400, "IT", "NT"));
    look(&mut harness, minutes(60), &tracking("DE", &[&ahead, &c, &b, &old, &a])).await;
    harness.restart().await;

    let series = harness.store().freshness(None).await.unwrap();
    assert!(series.iter().all(|series| series.account.as_str() == "main" && series.carrier == "ups"));
    assert_eq!(
        series.iter().map(held).collect::<Vec<_>>(),
        [
            // 90 minutes since the last good poll, twice; 20 minutes.
            (FreshnessKind::ImplausibleTime, false, vec![(0, 1)]),
            (FreshnessKind::SinceLastPoll, false, vec![(3, 1), (5, 1)]),
            (FreshnessKind::SinceLastPoll, true, vec![(5, 1)]),
            (FreshnessKind::SinceScan, false, vec![(1, 1)]),
            (FreshnessKind::SinceScan, true, vec![(4, 1)]),
        ]
    );
}

#[tokio::test]
async fn time_without_polls_is_not_counted() {
    let mut harness = polled_label().await;
    let key = LabelKey { account: AccountName::new("main"), id: "se-1".parse().unwrap() };
    harness.store().remove_by_hand(&key, harness.now()).await.unwrap();
    harness.pass(minutes(600));
    harness.register(&["se-1"]).await;
    let (a, b, c) = (scan(0, "AC", "PU"), scan(30, "IT", "AR"), scan(610, "IT", "DP"));
    harness.says("se-1", &tracking("IT", &[&b, &a]));
    harness.poll().await;
    assert_eq!(counted(&harness).await, []);
    look(&mut harness, minutes(15), &tracking("IT", &[&c, &b, &a])).await;
    assert_eq!(
        counted(&harness).await,
        [
            (FreshnessKind::SinceLastPoll, false, vec![(2, 1)]),
            (FreshnessKind::SinceScan, false, vec![(0, 1)])
        ]
    );
}

#[tokio::test]
async fn a_late_poll_is_counted() {
    let mut harness = polled_label().await;
    harness.pass_until_due().await;
    harness.poll().await;
    assert_eq!(counted(&harness).await, [], "the poll is in time");
    harness.pass_until_due().await;
    harness.pass(minutes(50));
    harness.poll().await;
    assert_eq!(counted(&harness).await, [(FreshnessKind::LatePoll, false, vec![(4, 1)])]);
}

#[tokio::test]
async fn freshness_is_logged_once_a_day() {
    let mut harness = polled_label().await;
    let (a, b) = (scan(0, "AC", "PU"), scan(11, "IT", "AR"));
    look(&mut harness, minutes(20), &tracking("DE", &[&scan(15, "DE", "DL"), &b, &a])).await;

    let file = harness.path().with_file_name("log");
    let writer = Arc::new(File::create(&file).unwrap());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let mut report = FreshnessReport::new(harness.now());
    for _ in 0..3 {
        // Until half past seven, half past two, and half past nine.
        report.step(harness.store(), harness.now()).await.unwrap();
        harness.pass(minutes(420));
    }
    drop(logging);
    let log = std::fs::read_to_string(file).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        log.contains(
            "freshness of the last 7 days: deliveries: 1, half noticed within 30m, 95 % within 30m; \
             other events: 1, half noticed within 30m, 95 % within 30m; polls more than 5m late: 0; \
             stretch 1.00; mean lateness 0.00 of the interval account=main"
        ),
        "{log}"
    );
}

#[tokio::test]
async fn old_days_are_merged_and_sums_never_decrease() {
    let mut harness = polled_label().await;
    let list: Vec<String> = (0..4).map(|n| scan(n * 10, "IT", &format!("C{n}"))).rev().collect();
    for seen in 1..=4 {
        let list: Vec<&str> = list[4 - seen..].iter().map(String::as_str).collect();
        look(&mut harness, minutes(24 * 60), &tracking("IT", &[&list[..], &[&scan(0, "AC", "PU")]].concat()))
            .await;
    }
    let before = harness.store().freshness(None).await.unwrap();
    let days = "SELECT count(DISTINCT day) FROM freshness";
    assert_eq!(harness.count(days).await, 4);
    let two_days_ago = harness.now() - minutes(2 * 24 * 60);
    let mut lately: Vec<Histogram> = Vec::new();
    for _ in 0..2 {
        harness.store().fold_freshness(harness.now() - minutes(24 * 60)).await.unwrap();
        assert_eq!(harness.store().freshness(None).await.unwrap(), before);
        assert_eq!(harness.count(days).await, 3);
        let found = harness.store().freshness(Some(two_days_ago)).await.unwrap();
        lately.push(
            found.into_iter().find(|series| series.kind == FreshnessKind::SinceLastPoll).unwrap().histogram,
        );
    }
    assert_eq!(lately.iter().map(Histogram::total).collect::<Vec<_>>(), [2, 2]);
}
