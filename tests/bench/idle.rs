//! Costs of a daemon with quiet labels: CPU time and context switches, beside an idle HTTP server (the mock) in the
//! same run.
//!
//! `cargo bench --bench idle -- [labels] [seconds]`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::time::{Duration, Instant};

use common::daemon::{Settings, Site};
use common::mock::{Behavior, Mock};
use common::process::Process;

fn main() {
    common::run(bench);
}

async fn bench(arguments: Vec<u64>) {
    let labels = arguments.first().map_or(10_000, |labels| *labels as usize);
    let time = Duration::from_secs(arguments.get(1).copied().unwrap_or(20));
    let mock = Mock::start(labels);
    mock.behave(Behavior::changed(0)).await;
    let site = Site::new(&mock, &Settings { accounts: 4, ..Settings::new(&mock, labels, "24h") });
    let mut daemon = site.start();
    daemon.polled(&mock, labels).await;
    // The writes of the start are finished.
    tokio::time::sleep(Duration::from_secs(8)).await;

    let gets = mock.counts().await.gets;
    let (server, idle) = tokio::join!(watch(mock.process(), time), watch(daemon.process(), time));
    let polls = mock.counts().await.gets - gets;
    println!("{:<28} {:>12} {:>20}", "", "% of a core", "context switches/s");
    println!("{:<28} {:>12.3} {:>20.1}", "idle HTTP server", server.0, server.1);
    println!("{:<28} {:>12.3} {:>20.1}", format!("trackpost, {labels} labels"), idle.0, idle.1);
    println!("{polls} polls meanwhile; resident {:.0} MiB", daemon.process().resident_mib());
    daemon.stop().await;
}

/// Returns the share of a core in percent, and the context switches a second.
async fn watch(process: Process, time: Duration) -> (f64, f64) {
    let (began, mut cpu, mut switches) = (Instant::now(), Duration::ZERO, 0);
    let mut before = process.threads();
    // The counters of a thread end with it, so they are read often.
    while began.elapsed() < time {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = process.threads();
        for (thread, now) in &after {
            let was = before.get(thread).copied().unwrap_or_default();
            cpu += now.0.saturating_sub(was.0);
            switches += now.1.saturating_sub(was.1);
        }
        before = after;
    }
    let seconds = began.elapsed().as_secs_f64();
    (cpu.as_secs_f64() / seconds * 100.0, switches as f64 / seconds)
}
