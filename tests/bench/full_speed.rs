//! How many labels a poller looks at per second, and what a look costs, beside a bare HTTP client in the same run.
//!
//! `cargo bench --bench full_speed -- [labels] [seconds]`. The sandbox is a process of its own on the same machine, so
//! rates depend on what else it does: quote the ratio.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use trackpost::clock;
use trackpost::config::{Account, Config, Discover, Environment, LabelSources};
use trackpost::daemon::open_store;
use trackpost::desk::Desk;
use trackpost::domain::label::{AccountName, LabelKey, Metadata, Registration, Source};
use trackpost::domain::poll::FirstPoll;
use trackpost::domain::secret::Hidden;
use trackpost::experience::Experience;
use trackpost::poller::{Policy, Poller};
use trackpost::pulse::Pulses;
use trackpost::registrar;
use trackpost::shipstation::Client;

/// Requests under way at once, for both.
const IN_FLIGHT: u32 = 64;

struct Measure {
    requests: u64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Measure {
    fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.requests as f64
    }
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let labels = numbers.first().copied().unwrap_or(1_000);
    let seconds = numbers.get(1).copied().unwrap_or(20);
    let (mut sandbox, base_url) = sandbox();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let account = account(&base_url);
    let bare = runtime.block_on(bare(&account, labels, Duration::from_secs(seconds)));
    let polls = runtime.block_on(polls(account, labels, Duration::from_secs(seconds)));
    for (name, measure) in [("bare GETs", &bare), ("polls", &polls)] {
        println!(
            "{name:>10}: {:>8.0} a second, {:>6.0} µs of CPU each ({} in {:.1} s)",
            measure.rate(),
            measure.cpu_micros(),
            measure.requests,
            measure.seconds
        );
    }
    println!(
        "     ratio: {:.2} of the rate, {:.2} times the CPU",
        polls.rate() / bare.rate(),
        polls.cpu_micros() / bare.cpu_micros()
    );
    let _ = sandbox.kill();
    let _ = sandbox.wait();
}

fn sandbox() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trackpost"))
        .args(["sandbox", "--requests-per-minute", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    (child, said["base_url"].as_str().unwrap().to_owned())
}

fn account(base_url: &str) -> Account {
    Account {
        name: AccountName::new("main"),
        base_url: base_url.to_owned(),
        allow_insecure: false,
        tracking_path: "/v2/labels/{label_id}/track".to_owned(),
        api_key: Hidden::new("TEST_bench".to_owned()),
        requests_per_minute: u32::MAX,
        requests_per_month: 0,
        max_in_flight: IN_FLIGHT,
        timeout: Duration::from_secs(10),
        proxies: Default::default(),
        discover: Discover {
            enabled: false,
            interval: Duration::from_secs(300),
            lookback: Duration::from_secs(300),
        },
    }
}

async fn bare(account: &Account, labels: u64, run: Duration) -> Measure {
    trackpost::tls::install();
    let client = reqwest::Client::new();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let workers: Vec<_> = (0..u64::from(IN_FLIGHT))
        .map(|worker| {
            let (client, base) = (client.clone(), account.base_url.clone());
            tokio::spawn(async move {
                let mut requests = 0;
                while began.elapsed() < run {
                    let label = (worker + requests * u64::from(IN_FLIGHT)) % labels;
                    let url = format!("{base}/v2/labels/se-{label}/track");
                    let body = client.get(url).header("api-key", "TEST_bench").send().await.unwrap();
                    body.bytes().await.unwrap();
                    requests += 1;
                }
                requests
            })
        })
        .collect();
    let mut requests = 0;
    for worker in workers {
        requests += worker.await.unwrap();
    }
    Measure { requests, seconds: began.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds() - cpu }
}

async fn polls(account: Account, labels: u64, run: Duration) -> Measure {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&folder.path().join("bench.db")).await.unwrap();
    let wanted: Vec<Registration> = (0..labels)
        .map(|number| Registration {
            key: LabelKey { account: account.name.clone(), id: format!("se-{number}").parse().unwrap() },
            metadata: Metadata::new(),
            source: Source::Config,
        })
        .collect();
    let mut cadence = Config::builtin(&Environment::default()).unwrap().config.cadence;
    for row in cadence.rows.values_mut() {
        row.intervals = vec![Duration::from_millis(1)];
        row.slow_after = Vec::new();
        row.hours = None;
    }
    let policy = Policy {
        cadence,
        patience: Default::default(),
        first_poll: FirstPoll::Baseline,
        subscribers: Vec::new(),
    };
    registrar::apply(&store, LabelSources::of(wanted), clock::now()).await.unwrap();
    let pulse = Pulses::default().start("bench", clock::now());
    let client = Client::new().unwrap();
    let desk = Arc::new(Desk::open(account, store.clone(), client, clock::now()).await.unwrap());
    let policy = tokio::sync::watch::channel(policy.into()).1;
    let poller = Poller::new(Arc::clone(&desk), policy, Experience::default(), pulse);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let polling = tokio::spawn(poller.run(stopped));
    tokio::time::sleep(run).await;
    stop.send_replace(true);
    polling.await.unwrap().unwrap();
    let measure = Measure {
        requests: desk.used() as u64,
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds() - cpu,
    };
    store.close().await;
    measure
}

/// User and system time of this process, in hundredths of a second as the kernel counts.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
