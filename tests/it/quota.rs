//! An account's quota: never exceeded, and shared so that all waits stretch by the same factor (contract 4.2).
//!
//! The sandbox counts by the virtual clock of the harness, so its counts are those that the vendor would have.
#![allow(clippy::print_stdout, reason = "the measurements are useful output")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::LabelKey;
use trackpost::domain::polling::pace;
use trackpost::sandbox::{Answer, LoggedRequest};
use trackpost::workers::account_access::RequestKind;

use crate::harness::parcel::{in_transit, tracking};
use crate::harness::{API_KEY, Harness, ORDERS, about, hours, seconds};

/// Four groups of labels: status, minutes between two polls, number of labels.
const CLASSES: [(&str, i64, usize); 4] =
    [("EX", 5, 500), ("IT", 10, 1_000), ("AC", 20, 1_500), ("NY", 40, 2_000)];

/// A cadence with these minutes between two polls of each status, and without rows that shorten them.
fn cadence() -> String {
    let rows =
        CLASSES.map(|(status, minutes, _)| format!("[cadence.{status}]\nintervals = [\"{minutes}m\"]\n"));
    rows.concat() + "[alerts]\nstalled_after = {}\nlate_after = 0\n"
}

/// Advances the time in steps of `step` until `until`, and polls at each step.
async fn poll_until(harness: &mut Harness, until: Timestamp, step: SignedDuration) {
    while harness.now() < until {
        harness.poll_once().await;
        harness.pass(step);
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("se-{n}")).collect()
}

async fn registered(harness: &Harness, labels: &[String]) {
    harness.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// Returns the instants of the polls of each label.
fn polls_by_label(requests: &[LoggedRequest]) -> BTreeMap<&str, Vec<Timestamp>> {
    let mut polls: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for request in requests {
        polls.entry(request.label.as_deref().unwrap_or_default()).or_default().push(request.at);
    }
    polls
}

#[tokio::test]
async fn five_thousand_due_labels_stretch_alike_within_the_limit() {
    let quick = format!("requests_per_minute = 200\nmax_in_flight = 32\n{}", cadence());
    let mut harness = Harness::with(&quick).await;
    harness.sandbox.set_rate_limit(Some(200));
    let labels = names(5_000);
    // Labels of all groups alternate.
    let class_of = |n: usize| match n % 10 {
        0 => CLASSES[0],
        1 | 2 => CLASSES[1],
        3..=5 => CLASSES[2],
        _ => CLASSES[3],
    };
    for (n, label) in labels.iter().enumerate() {
        harness.says(label, &tracking(class_of(n).0, &[]));
    }
    registered(&harness, &labels).await;
    // All labels are new and due at once: their first polls take 25 minutes. An ordinary day follows.
    let began = harness.now();
    poll_until(&mut harness, began + SignedDuration::from_mins(25), seconds(4)).await;
    let steady_at = harness.now() + SignedDuration::from_mins(50);
    let end = steady_at + SignedDuration::from_mins(60);
    poll_until(&mut harness, end, seconds(4)).await;

    let requests = harness.sandbox.requests();
    let mut stretches: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for (label, instants) in polls_by_label(&requests) {
        let minutes = class_of(label[3..].parse().unwrap()).1;
        for pair in instants.windows(2).filter(|pair| pair[1] >= steady_at) {
            let stretch = pair[1].duration_since(pair[0]).as_secs_f64() / (minutes * 60) as f64;
            let (sum, count) = stretches.entry(minutes).or_default();
            (*sum, *count) = (*sum + stretch, *count + 1);
        }
    }
    let means: BTreeMap<i64, f64> =
        stretches.iter().map(|(minutes, (sum, count))| (*minutes, sum / f64::from(*count))).collect();
    let counters = harness.sandbox.counters();
    let (store, now) = (harness.store(), harness.now());
    let used = store.quota_used(&harness.account.name, now).await.unwrap();
    let (shown, measured) = (pace::stretch(used.demand, 200.0 / 60.0), 1.0 + used.lateness);
    let demand: f64 = CLASSES.iter().map(|(_, minutes, labels)| *labels as f64 / *minutes as f64).sum();
    println!(
        "5000 labels ask for {demand:.0} a minute of 200: {} requests in 135 minutes, at most {} in any 60 s, {} refused; \
         stretch as shown {shown:.2}, as measured at serving {measured:.2}; actual over planned wait by class: {means:.2?}",
        counters.requests,
        counters.max_in_60s,
        counters.answered(429),
    );
    assert_eq!(counters.answered(429), 0);
    assert!(counters.max_in_60s <= 200);
    assert_eq!(polls_by_label(&requests).len(), 5_000, "every label is polled");
    assert_eq!(means.len(), 4);
    let (least, most) =
        means.values().fold((f64::MAX, 0.0_f64), |(least, most), mean| (least.min(*mean), most.max(*mean)));
    assert!(most / least < 1.5, "{means:?}");
    assert!(
        about(measured, shown, 0.15) && about(means[&10], shown, 0.15),
        "the shown values equal the measured ones"
    );
    let used = requests.iter().filter(|request| request.at >= steady_at).count() as f64 / 60.0;
    assert!(used > 180.0, "the quota is used, within steps of four seconds: {used:.0} a minute");
}

#[tokio::test]
async fn ten_thousand_labels_at_once_stay_within_the_limit_and_do_not_starve_the_others() {
    let quick = "requests_per_minute = 2000\nmax_in_flight = 200\n[cadence.IT]\nintervals = [\"1m\"]\n\
                 [cadence.NY]\nintervals = [\"24h\"]\n[alerts]\nstalled_after = {}\nlate_after = 0\n";
    let mut harness = Harness::with(quick).await;
    harness.sandbox.set_rate_limit(Some(2_000));
    let labels = names(10_000);
    harness.says("se-known", &in_transit());
    labels.iter().for_each(|label| harness.says(label, &tracking("NY", &[])));
    harness.register(&["se-known"]).await;
    harness.poll().await;
    registered(&harness, &labels).await;
    let began = harness.now();
    poll_until(&mut harness, began + SignedDuration::from_mins(6), seconds(4)).await;

    let counters = harness.sandbox.counters();
    assert_eq!(counters.answered(429), 0);
    assert!(counters.max_in_60s <= 2_000, "{}", counters.max_in_60s);
    let requests = harness.sandbox.requests();
    let polls = polls_by_label(&requests);
    assert_eq!(polls.len(), 10_001, "every label is polled within six minutes");
    for pair in polls["se-known"].windows(2) {
        assert!(pair[1].duration_since(pair[0]) < SignedDuration::from_mins(3), "{:?}", polls["se-known"]);
    }
    assert!(polls["se-known"].len() > 2);
}

/// Sends requests as another client of the account.
async fn send_as_other_client(harness: &Harness, requests: usize) {
    let client = reqwest::Client::new();
    for _ in 0..requests {
        let url = format!("{}/v2/labels/se-other/track", harness.sandbox.base_url());
        client.get(url).header("api-key", API_KEY).send().await.unwrap();
    }
}

fn ours(harness: &Harness) -> u64 {
    harness.sandbox.counters().requests - harness.sandbox.requests_of("se-other")
}

const THROTTLED_UNTIL: &str = "SELECT coalesce(max(throttled_until), 0) FROM accounts";
const ADAPTIVE_LIMIT: &str = "SELECT coalesce(max(adaptive_limit), 1000) FROM quotas";

#[tokio::test]
async fn the_adaptive_limit_shares_the_quota_with_other_clients() {
    let often = "[cadence.IT]\nintervals = [\"1m\"]\n[alerts]\nstalled_after = {}\n";
    let mut harness = Harness::with(&format!("requests_per_minute = 160\nmax_in_flight = 32\n{often}")).await;
    harness.sandbox.set_rate_limit(Some(200));
    let labels = names(300);
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    registered(&harness, &labels).await;
    trackpost::tls::install();
    let (mut limits, mut minutes) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let (before, refused) = (ours(&harness), harness.sandbox.counters().answered(429));
        for _ in 0..12 {
            send_as_other_client(&harness, 8).await;
            let until = harness.count(THROTTLED_UNTIL).await;
            let sent = ours(&harness);
            harness.poll_once().await;
            if harness.now().as_millisecond() < until {
                assert_eq!(ours(&harness), sent, "no request before the end of Retry-After");
            }
            harness.pass(seconds(5));
        }
        limits.push(harness.count(ADAPTIVE_LIMIT).await);
        minutes.push((ours(&harness) - before, harness.sandbox.counters().answered(429) - refused));
    }
    println!("ours and refused, a minute: {minutes:?}; adaptive limit in thousandths: {limits:?}");
    let (fewest, refused) = minutes[5..]
        .iter()
        .fold((u64::MAX, 0), |(fewest, sum), (ours, refused)| (fewest.min(*ours), sum + refused));
    assert!((50..105).contains(&fewest), "{fewest} a minute beside the 96 of another client");
    assert!(refused < 15, "{refused} refused in 35 minutes");
    assert!(limits[39] < 700);

    // The other clients stop; the adaptive limit survives a restart.
    harness.restart().await;
    harness.pass(seconds(61));
    let before = ours(&harness);
    let now = harness.now();
    poll_until(&mut harness, now + seconds(60), seconds(5)).await;
    assert!(ours(&harness) - before < 110, "{} in a minute", ours(&harness) - before);
    harness.pass(hours(2));
    let before = ours(&harness);
    let now = harness.now();
    poll_until(&mut harness, now + seconds(120), seconds(5)).await;
    assert!(ours(&harness) - before > 280, "{} in two minutes", ours(&harness) - before);
    assert_eq!(harness.count(ADAPTIVE_LIMIT).await, 1000);
}

#[tokio::test]
async fn a_monthly_budget_is_spread_evenly_and_never_exceeded() {
    let hourly =
        "requests_per_month = 1500\n[cadence.IT]\nintervals = [\"1h\"]\n[alerts]\nstalled_after = {}\n";
    let april: Timestamp = "2030-04-01T00:00:00Z".parse().unwrap();
    let mut harness = Harness::at(april, hourly).await;
    let labels = names(40);
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    registered(&harness, &labels).await;
    // The demand is 40 an hour, the budget 50 a day.
    let mut days = Vec::new();
    for day in 0..31 {
        let before = harness.sandbox.counters().requests;
        let midnight = harness.now() + hours(24);
        poll_until(&mut harness, midnight, SignedDuration::from_mins(20)).await;
        match day % 7 {
            3 => harness.restart().await,
            5 => harness.crash().await,
            _ => {}
        }
        days.push(harness.sandbox.counters().requests - before);
    }
    let in_april: u64 = days[..30].iter().sum();
    println!("1500 in April: {in_april}; by day: {days:?}");
    assert!((1_400..=1_500).contains(&in_april), "{in_april}");
    assert!(days.iter().all(|day| (40..=60).contains(day)), "{days:?}");
    let counts = polls_by_label(&harness.sandbox.requests()).values().map(Vec::len).collect::<Vec<_>>();
    assert!(counts.iter().all(|count| count.abs_diff(38) < 8), "each label gets its share: {counts:?}");
}

#[tokio::test]
async fn a_used_up_monthly_budget_lasts_until_the_next_month() {
    let mut harness = Harness::with(&format!("requests_per_month = 10\n{ORDERS}")).await;
    registered(&harness, &names(40)).await;
    let april = "2030-04-01T00:00:00Z".parse::<Timestamp>().unwrap();
    poll_until(&mut harness, april, hours(3)).await;
    assert_eq!(harness.sandbox.counters().requests, 10);
    harness.restart().await;
    harness.poll().await;
    assert_eq!(harness.sandbox.counters().requests, 11, "a new month has a new budget");
}

#[tokio::test]
async fn a_used_up_quota_does_not_delay_another_account() {
    let mut harness = Harness::new().await;
    registered(&harness, &names(200)).await;
    assert_eq!(harness.poll().await, 160);
    let other = harness.of_account("other").await;
    other.acquire(RequestKind::Poll, harness.now()).await.unwrap().expect("it has its own quota");
}

#[tokio::test]
async fn requests_other_than_polls_count_also_after_a_restart() {
    let mut harness = Harness::new().await;
    registered(&harness, &names(200)).await;
    let (access, now) = (harness.access(), harness.now());
    for _ in 0..50 {
        drop(access.acquire(RequestKind::Other, now).await.unwrap().unwrap());
        access.record_usage(now).await.unwrap();
    }
    drop(access);
    harness.restart().await;
    assert_eq!(harness.poll().await, 110);
    assert_eq!(harness.count("SELECT requests FROM months").await, 160);
}

const RESERVED: &str = "SELECT reserved FROM quotas";

#[tokio::test]
async fn a_kill_costs_at_most_one_step_of_reserved_requests() {
    let mut harness = Harness::new().await;
    registered(&harness, &names(100)).await;
    assert_eq!(harness.poll().await, 100);
    // A twentieth of 160 at once: 13 steps of 8.
    assert_eq!(harness.count(RESERVED).await, 4);
    harness.crash().await;
    assert_eq!(harness.count("SELECT requests FROM months").await, 104, "reserved requests count as sent");
    assert_eq!((harness.count(RESERVED).await, harness.access().used()), (0, 104));
    harness.restart().await;
    assert_eq!(harness.count("SELECT requests FROM months").await, 104, "they count once");
}

#[tokio::test]
async fn a_clean_stop_returns_reserved_requests_that_were_not_sent() {
    let mut harness = Harness::new().await;
    registered(&harness, &names(100)).await;
    harness.poll().await;
    harness.restart().await;
    assert_eq!(harness.count("SELECT requests FROM months").await, 100);
    assert_eq!((harness.count(RESERVED).await, harness.access().used()), (0, 100));
}

#[tokio::test]
async fn interrupted_requests_count_as_sent() {
    let mut harness = Harness::new().await;
    let (access, now) = (harness.access(), harness.now());
    // The polls were dropped when one of them could not be recorded.
    for _ in 0..3 {
        drop(access.acquire(RequestKind::Poll, now).await.unwrap().unwrap());
    }
    drop(access);
    harness.restart().await;
    assert_eq!(harness.access().used(), 3);
    harness.restart().await;
    assert_eq!(harness.access().used(), 3, "they count once");
}

#[tokio::test]
async fn requests_are_reserved_in_twentieths_of_the_smaller_limit() {
    for (limits, step) in [
        ("requests_per_minute = 10", 1),
        ("requests_per_minute = 60000", 3_000),
        ("requests_per_minute = 160\nrequests_per_month = 100", 5),
    ] {
        let harness = Harness::with(&format!("{limits}\n{ORDERS}")).await;
        let slot = harness.access().acquire(RequestKind::Poll, harness.now()).await.unwrap().unwrap();
        assert_eq!(harness.count(RESERVED).await, step, "{limits}");
        drop(slot);
    }
}

fn throttled_carrier(code: &str) -> Answer {
    let body = format!(
        r#"{{"request_id":"1","errors":[{{"error_source":"carrier","error_type":"system","error_code":"rate_limit_exceeded","message":"too many","carrier_code":{code}}}]}}"#
    );
    Answer::json(429, body).header("retry-after", "600")
}

#[tokio::test]
async fn a_carriers_429_holds_that_carriers_labels_and_no_others() {
    let mut harness = Harness::new().await;
    harness.register(&["se-ups-1", "se-ups-2", "se-usps", "se-new"]).await;
    harness.says("se-ups-1", &in_transit());
    harness.says("se-ups-2", &in_transit());
    harness.says("se-usps", &in_transit().replace("\"ups\"", "\"usps\""));
    harness.answers("se-new", throttled_carrier("null"));
    assert_eq!(harness.poll().await, 4);
    assert!((harness.wait_of("se-new").await - 600.0).abs() < 1.0, "its own wait, with any carrier");
    assert_eq!(harness.count("SELECT count(*) FROM carriers").await, 0);

    harness.pass(hours(5));
    harness.says("se-new", &in_transit().replace("\"ups\"", "\"dhl\""));
    harness.answers("se-ups-1", throttled_carrier("null"));
    harness.answers("se-ups-2", throttled_carrier("\"ups\""));
    // The polls run side by side, so both may be sent, but no further one of that carrier.
    harness.poll().await;
    let by_label = |harness: &Harness| {
        ["se-ups-1", "se-ups-2", "se-usps", "se-new"].map(|id| harness.sandbox.requests_of(id))
    };
    assert_eq!(by_label(&harness)[2..], [2, 2], "the other labels continue");
    let before = by_label(&harness);
    for id in ["se-ups-1", "se-ups-2"] {
        harness.says(id, &in_transit());
    }
    harness.restart().await;
    harness.pass(seconds(599));
    harness.poll().await;
    assert_eq!(by_label(&harness), before);
    harness.pass(seconds(1));
    harness.poll().await;
    assert_eq!(by_label(&harness)[..2], [before[0] + 1, before[1] + 1]);
    for id in ["se-ups-1", "se-ups-2", "se-new"] {
        let row = harness.row(id).await;
        assert_eq!((row.failures, row.refusals, row.state.as_str()), (0, 0, "active"), "{id}");
    }
}

#[tokio::test]
async fn a_poll_requested_by_hand_comes_first() {
    let often =
        "requests_per_minute = 10\n[cadence.IT]\nintervals = [\"1m\"]\n[alerts]\nstalled_after = {}\n";
    let mut harness = Harness::with(often).await;
    let labels = names(60);
    labels.iter().for_each(|label| harness.says(label, &in_transit()));
    registered(&harness, &labels).await;
    let now = harness.now();
    poll_until(&mut harness, now + SignedDuration::from_mins(20), seconds(5)).await;
    let last = harness.sandbox.requests().last().unwrap().label.clone().unwrap();
    let key = LabelKey { account: harness.account.name.clone(), id: last.parse().unwrap() };
    harness.store().poll_now(&key, harness.now()).await.unwrap();
    let before = harness.sandbox.requests_of(&last);
    let now = harness.now();
    poll_until(&mut harness, now + seconds(40), seconds(5)).await;
    assert_eq!(harness.sandbox.requests_of(&last), before + 1, "within four polls, not after the other 59");
}
