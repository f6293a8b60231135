//! An account's quota: never over it, whatever is due, and shared out so that all waits stretch alike (contract 4.2).
//!
//! The sandbox counts by the same virtual clock as the house, so what it says is what the vendor would have counted.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trackpost::sandbox::{Answer, Asked};

use crate::house::parcel::{in_transit, tracking};
use crate::house::{API_KEY, House, ORDERS, hours, seconds};

/// Four urgencies, by status.
const CLASSES: [(&str, i64); 4] = [("EX", 5), ("IT", 10), ("AC", 20), ("NY", 40)];

/// Minutes between two looks at a label of each status, and nothing that brings one forward.
fn cadence() -> String {
    let rows = CLASSES.map(|(status, minutes)| format!("[cadence.{status}]\nintervals = [\"{minutes}m\"]\n"));
    rows.concat() + "[silence]\nstalled_after = {}\nlate_after = 0\n"
}

/// Time passes in steps of `step` until `until`, and at each the poller does what it may.
async fn live(house: &mut House, until: Timestamp, step: SignedDuration) {
    while house.now() < until {
        house.poll_once().await;
        house.pass(step);
    }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("se-{n}")).collect()
}

async fn registered(house: &House, labels: &[String]) {
    house.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The instants at which each label was asked about.
fn looks(requests: &[Asked]) -> BTreeMap<&str, Vec<Timestamp>> {
    let mut looks: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for asked in requests {
        looks.entry(asked.label.as_deref().unwrap_or_default()).or_default().push(asked.at);
    }
    looks
}

#[tokio::test]
async fn five_thousand_due_labels_stretch_alike_and_never_go_over_the_limit() {
    let quick = format!("requests_per_minute = 200\nmax_in_flight = 32\n{}", cadence());
    let mut house = House::with(&quick).await;
    house.sandbox.set_rate_limit(Some(200));
    let labels = names(5_000);
    for (n, label) in labels.iter().enumerate() {
        house.says(label, &tracking(CLASSES[n % 4].0, &[]));
    }
    registered(&house, &labels).await;
    // All of them are new, and due at once: 25 minutes for the first look at each. Then an ordinary day.
    let began = house.now();
    live(&mut house, began + SignedDuration::from_mins(25), seconds(3)).await;
    let settled = house.now() + SignedDuration::from_mins(40);
    let end = settled + SignedDuration::from_mins(60);
    live(&mut house, end, seconds(3)).await;

    let requests = house.sandbox.requests();
    let mut stretches: BTreeMap<i64, (f64, u32)> = BTreeMap::new();
    for (label, instants) in looks(&requests) {
        let minutes = CLASSES[label[3..].parse::<usize>().unwrap() % 4].1;
        for pair in instants.windows(2).filter(|pair| pair[1] >= settled) {
            let stretch = pair[1].duration_since(pair[0]).as_secs_f64() / (minutes * 60) as f64;
            let (sum, count) = stretches.entry(minutes).or_default();
            (*sum, *count) = (*sum + stretch, *count + 1);
        }
    }
    let means: BTreeMap<i64, f64> =
        stretches.iter().map(|(minutes, (sum, count))| (*minutes, sum / f64::from(*count))).collect();
    let counters = house.sandbox.counters();
    let asked: f64 = CLASSES.iter().map(|(_, minutes)| 1_250.0 / *minutes as f64).sum();
    println!(
        "5000 labels ask for {asked:.0} a minute of 200: {} requests in 125 minutes, at most {} in any 60 s, {} refused; \
         actual over planned wait by class: {means:.2?}",
        counters.requests,
        counters.max_in_60s,
        counters.answered(429),
    );
    assert_eq!(counters.answered(429), 0);
    assert!(counters.max_in_60s <= 200);
    assert_eq!(looks(&requests).len(), 5_000, "none starves");
    assert_eq!(means.len(), 4);
    let (least, most) =
        means.values().fold((f64::MAX, 0.0_f64), |(least, most), mean| (least.min(*mean), most.max(*mean)));
    assert!(most / least < 1.5, "{means:?}");
    let used = requests.iter().filter(|asked| asked.at >= settled).count() as f64 / 60.0;
    assert!(used > 190.0, "the quota is used: {used:.0} a minute");
}

/// Everybody else who uses the account: so many requests.
async fn somebody_else_asks(house: &House, requests: usize) {
    let client = reqwest::Client::new();
    for _ in 0..requests {
        let url = format!("{}/v2/labels/se-other/track", house.sandbox.base_url());
        client.get(url).header("api-key", API_KEY).send().await.unwrap();
    }
}

fn ours(house: &House) -> u64 {
    house.sandbox.counters().requests - house.sandbox.requests_of("se-other")
}

const THROTTLED_UNTIL: &str = "SELECT coalesce(max(throttled_until), 0) FROM accounts";
const SHARE: &str = "SELECT coalesce(max(share), 1000) FROM quotas";

#[tokio::test]
async fn a_limit_that_somebody_else_uses_too_is_shared() {
    let often = "[cadence.IT]\nintervals = [\"1m\"]\n[silence]\nstalled_after = {}\n";
    let mut house = House::with(&format!("requests_per_minute = 160\nmax_in_flight = 32\n{often}")).await;
    house.sandbox.set_rate_limit(Some(200));
    let labels = names(300);
    labels.iter().for_each(|label| house.says(label, &in_transit()));
    registered(&house, &labels).await;
    trackpost::tls::install();
    let (mut shares, mut minutes) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let (before, refused) = (ours(&house), house.sandbox.counters().answered(429));
        for _ in 0..12 {
            let until = house.count(THROTTLED_UNTIL).await;
            let asked = ours(&house);
            house.poll_once().await;
            if house.now().as_millisecond() < until {
                assert_eq!(ours(&house), asked, "no call before Retry-After is over");
            }
            somebody_else_asks(&house, 24).await;
            house.pass(seconds(5));
        }
        shares.push(house.count(SHARE).await);
        minutes.push((ours(&house) - before, house.sandbox.counters().answered(429) - refused));
    }
    println!("ours and refused, a minute: {minutes:?}; share in thousandths: {shares:?}");
}
