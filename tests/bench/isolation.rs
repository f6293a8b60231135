//! How long a healthy subscriber's callbacks take from due to accepted: alone, and beside one that hangs and one that is
//! dead, in the same run.
//!
//! `cargo bench --bench isolation -- [callbacks a second] [seconds of each part]`. News come as polls bring them, each of
//! a label of its own, to all subscribers there are.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod outbox;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outbox::{Receiver, cpu, subscriber, written};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use trackpost::clock;
use trackpost::config::LabelSources;
use trackpost::courier::Courier;
use trackpost::daemon::open_store;
use trackpost::domain::account::Verdict;
use trackpost::domain::history::EventWrites;
use trackpost::domain::label::{AccountName, LabelKey, Metadata, Registration, Source};
use trackpost::domain::message::{Message, MessageType};
use trackpost::domain::poll::{Glance, PlannedDelivery, PollPlan};
use trackpost::domain::snapshot::Snapshot;
use trackpost::domain::subscriber::Subscriber;
use trackpost::pulse::Pulses;
use trackpost::registrar;
use trackpost::store::Store;
use trackpost::store::polls::PollRecord;
use trackpost::store::usage::Usage;

fn main() {
    outbox::receive_if_asked();
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let rate = numbers.first().copied().unwrap_or(100);
    let seconds = numbers.get(1).copied().unwrap_or(25);
    let receiver = Receiver::start();
    // Nobody listens there any more.
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let well = subscriber("well", &receiver.url);
    let hangs = subscriber("hangs", &format!("{}/hang", receiver.url));
    let dead = subscriber("dead", &format!("http://{dead}/"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (name, subscribers) in
        [("alone", vec![well.clone()]), ("beside a hanging and a dead one", vec![well, hangs, dead])]
    {
        let (waits, cpu) = runtime.block_on(run(subscribers, rate, Duration::from_secs(seconds)));
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: p50 {} ms, p95 {} ms, p99 {} ms, {} ms at most ({} callbacks, {:.0} µs of CPU each)",
            at(0.50),
            at(0.95),
            at(0.99),
            at(1.0),
            waits.len(),
            cpu.as_secs_f64() * 1e6 / waits.len() as f64
        );
    }
}

/// How many ms each callback to the first of `subscribers` took, sorted, and the CPU that all took.
async fn run(subscribers: Vec<Subscriber>, rate: u64, time: Duration) -> (Vec<i64>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.db");
    let store = open_store(&path).await.unwrap();
    let callbacks = u32::try_from(rate * time.as_secs()).unwrap();
    let labels = labels(&store, callbacks).await;
    let audience = tokio::sync::watch::channel(Arc::new(subscribers.clone())).1;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut delivering = tokio::task::JoinSet::new();
    for subscriber in &subscribers {
        let pulse = Pulses::default().start("bench", clock::now());
        let courier = Courier::new(subscriber.clone(), audience.clone(), store.clone(), pulse).unwrap();
        delivering.spawn(courier.run(stopped.clone()));
    }
    let (before, bytes) = (cpu(), written());
    let mut ticks = tokio::time::interval(time / callbacks);
    for label in labels {
        ticks.tick().await;
        store.record_poll(news(&label, &subscribers)).await.unwrap();
    }
    // The last of them are soon accepted.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu() - before;
    println!(
        "written to disk: {:.1} KiB for each",
        (written() - bytes) as f64 / 1024.0 / f64::from(callbacks)
    );
    // Those that hang end with the runtime's tasks.
    stop.send_replace(true);
    delivering.abort_all();
    while delivering.join_next().await.is_some() {}
    let waits = waits(&path).await;
    assert_eq!(waits.len(), callbacks as usize, "all were accepted");
    store.close().await;
    (waits, spent)
}

async fn labels(store: &Store, count: u32) -> Vec<Snapshot> {
    let account = AccountName::new("main");
    let wanted: Vec<Registration> = (0..count)
        .map(|number| Registration {
            key: LabelKey { account: account.clone(), id: format!("se-{number}").parse().unwrap() },
            metadata: Metadata::new(),
            source: Source::Config,
        })
        .collect();
    registrar::apply(&store, LabelSources::of(wanted), clock::now()).await.unwrap();
    // The store is new: its rows count from one.
    let rows: Vec<i64> = (1..=i64::from(count)).collect();
    let labels = store.due_labels(&rows, clock::now()).await.unwrap();
    assert_eq!(labels.len(), count as usize);
    labels
}

/// A poll that found one thing new.
fn news(label: &Snapshot, subscribers: &[Subscriber]) -> PollRecord {
    let (now, kind) = (clock::now(), MessageType::EventAdded);
    let mut standing = label.standing.clone();
    standing.last_seq = 1;
    standing.last_changed_at = Some(now);
    let message = Message {
        id: format!("msg_{}", label.row),
        kind,
        seq: Some(1),
        created_at: now,
        body: format!(r#"{{"type":"{}","data":"{}"}}"#, kind.as_str(), "x".repeat(2_000)),
        resource_url: None,
        about: None,
    };
    let deliveries = subscribers.iter().map(|subscriber| PlannedDelivery {
        message: 0,
        subscriber: subscriber.name.clone(),
        format: subscriber.format,
    });
    let plan = PollPlan {
        standing,
        events: EventWrites::default(),
        deliveries: deliveries.collect(),
        messages: vec![message],
        verdict: Verdict::Fine,
        notices: Vec::new(),
        glance: Glance {
            at: now.as_millisecond(),
            outcome: "answer".to_owned(),
            status: Some(200),
            detail: None,
            changes: 1,
        },
    };
    let usage = Usage {
        account: label.key.account.clone(),
        requests: 1,
        sent_at: now,
        ended_at: now,
        lateness: 0.0,
        stretch: 1.0,
        share: None,
        held: None,
    };
    PollRecord::new(label, plan, now, None, usage)
}

async fn waits(path: &Path) -> Vec<i64> {
    let mut outside = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    // What the system says of the others is not counted.
    let all = "SELECT delivered_at - created_at FROM deliveries
               WHERE subscriber = 'well' AND lane > 0 AND state = 'delivered' ORDER BY 1";
    sqlx::query_scalar(all).fetch_all(&mut outside).await.unwrap()
}
