//! How fast an outbox drains to one receiver, and what a delivery costs, beside bare POSTs of the same client in the same
//! run.
//!
//! `cargo bench --bench drain -- [labels] [messages of each]`. The receiver is a process of its own on the same machine,
//! so rates depend on what else it does: quote the ratio.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

mod outbox;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outbox::{Receiver, cpu, subscriber};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use trackpost::clock;
use trackpost::courier::Courier;
use trackpost::daemon::open_store;
use trackpost::domain::subscriber::Subscriber;
use trackpost::pulse::Pulses;

/// Of each body.
const BYTES: usize = 2_048;

struct Measure {
    posts: u64,
    took: Duration,
    cpu: Duration,
    peak_mib: f64,
}

impl Measure {
    fn rate(&self) -> f64 {
        self.posts as f64 / self.took.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.posts as f64
    }
}

fn main() {
    outbox::receive_if_asked();
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let labels = numbers.first().copied().unwrap_or(10_000);
    let each = numbers.get(1).copied().unwrap_or(10);
    let receiver = Receiver::start();
    let subscriber = subscriber("orders", &receiver.url);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bare = runtime.block_on(bare(&subscriber, labels * each));
    let drained = runtime.block_on(drained(subscriber, labels, each));
    for (name, measure) in [("bare POSTs", &bare), ("deliveries", &drained)] {
        println!(
            "{name}: {:>7.0} a second, {:>4.0} µs of CPU each, {:>3.0} MiB at most ({} in {:.1} s)",
            measure.rate(),
            measure.cpu_micros(),
            measure.peak_mib,
            measure.posts,
            measure.took.as_secs_f64()
        );
    }
    println!(
        "     ratio: {:.2} of the rate, {:.2} times the CPU",
        drained.rate() / bare.rate(),
        drained.cpu_micros() / bare.cpu_micros()
    );
}

async fn measured(posts: u64, work: impl Future<Output = ()>) -> Measure {
    forget_peak();
    let (began, before) = (Instant::now(), cpu());
    work.await;
    Measure { posts, took: began.elapsed(), cpu: cpu() - before, peak_mib: peak_mib() }
}

/// As many at once as the courier may have under way.
async fn bare(subscriber: &Subscriber, posts: u64) -> Measure {
    trackpost::tls::install();
    let client = reqwest::Client::new();
    let (url, body) = (subscriber.url.expose().clone(), "x".repeat(BYTES));
    let workers = u64::from(subscriber.max_in_flight);
    measured(posts, async {
        let work = (0..workers).map(|_| {
            let (client, url, body) = (client.clone(), url.clone(), body.clone());
            tokio::spawn(async move {
                for _ in 0..posts / workers {
                    let answer = client.post(&url).body(body.clone()).send().await.unwrap();
                    answer.bytes().await.unwrap();
                }
            })
        });
        for worker in work.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
    })
    .await
}

async fn drained(subscriber: Subscriber, labels: u64, each: u64) -> Measure {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.db");
    let store = open_store(&path).await.unwrap();
    let mut outside = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    fill(&mut outside, labels, each).await;
    let audience = tokio::sync::watch::channel(Arc::new(vec![subscriber.clone()])).1;
    let pulse = Pulses::default().start("bench", clock::now());
    let courier = Courier::new(subscriber, audience, store.clone(), pulse).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let measure = measured(labels * each, async {
        let delivering = tokio::spawn(courier.run(stopped));
        while pending(&mut outside).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        stop.send_replace(true);
        delivering.await.unwrap().unwrap();
    })
    .await;
    println!("the database: {:.0} MiB", size(&path));
    assert_eq!(store.broken().await.unwrap(), [""; 0]);
    store.close().await;
    measure
}

/// What polls would have left: of each label `each` messages.
async fn fill(outside: &mut SqliteConnection, labels: u64, each: u64) {
    let (now, labels, each) = (clock::now().as_millisecond(), labels as i64, each as i64);
    let statements: [&'static str; 4] = [
        "WITH RECURSIVE series (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM series WHERE value < ?2)
         INSERT INTO labels (label_key, account, label_id, state, by_config, source, registered_at, next_poll_at, last_seq)
         SELECT value, 'main', 'se-' || value, 'active', 1, 'config', ?1, ?1, ?3 FROM series",
        "WITH RECURSIVE seqs (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM seqs WHERE seq < ?3)
         INSERT INTO messages (message_id, account, label_key, label_id, seq, type, created_at, body)
         SELECT 'msg_' || label_key || '_' || seq, 'main', label_key, label_id, seq, 'tracking.event.added', ?1,
                json_object('type', 'tracking.event.added', 'data', ?4)
         FROM seqs CROSS JOIN labels",
        "INSERT INTO message_hours (hour, message_key) VALUES (?1 / 3600000, 1)",
        "INSERT INTO deliveries (message_key, subscriber, format, lane, place, state, created_at, next_attempt_at, reason)
         SELECT message_key, 'orders', 'standard', label_key, seq, 'pending', ?1, ?1, '\"first\"' FROM messages",
    ];
    let body = "x".repeat(BYTES - 48);
    for statement in statements {
        let query = sqlx::query(statement).bind(now).bind(labels).bind(each).bind(&body);
        query.execute(&mut *outside).await.unwrap();
    }
}

async fn pending(outside: &mut SqliteConnection) -> bool {
    let any = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'pending')";
    sqlx::query_scalar(any).fetch_one(outside).await.unwrap()
}

fn size(path: &Path) -> f64 {
    std::fs::metadata(path).unwrap().len() as f64 / (1024.0 * 1024.0)
}

/// The most memory that this process had resident since [`forget_peak`], in MiB.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}
