//! Time from an answer served to its callback received, CPU time of a poll, and bytes written to the disk for it, at 50
//! and 500 polls a second, beside a bare client in the same run.
//!
//! `cargo bench --bench latency -- [seconds of each measurement]`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::time::Duration;

use common::daemon::{Settings, Site};
use common::mock::{Behavior, Counted, Mock};
use common::{Figures, bare};

fn main() {
    common::run(bench);
}

async fn bench(arguments: Vec<u64>) {
    let time = Duration::from_secs(arguments.first().copied().unwrap_or(8));
    let mock = Mock::start(500);
    println!(
        "{:>8} {:>8} {:<10} {:>8} {:>8} {:>10} {:>8}",
        "polls/s", "changed", "client", "p50 ms", "p99 ms", "µs of CPU", "KiB"
    );
    // Each label is polled once a second.
    for (labels, changed) in [(50, 100), (500, 100), (50, 0)] {
        mock.behave(Behavior::changed(changed)).await;
        let bare = bare::polls_each_second(&mock, labels, changed, time / 2).await;
        let bare_counted = mock.counted().await;
        print(changed, "bare", &bare, &bare_counted);

        let site = Site::new(&mock, &Settings::new(&mock, labels, "1s"));
        mock.behave(Behavior::changed(0)).await;
        let mut daemon = site.start();
        daemon.polled(&mock, labels * 3 / 2).await;
        mock.behave(Behavior::changed(changed)).await;
        let polls = daemon.polls(&mock, time).await;
        let counted = mock.counted().await;
        print(changed, "trackpost", &polls, &counted);
        let ratio = |share| counted.latency(share) / bare_counted.latency(share);
        let cpu = polls.cpu_micros() / bare.cpu_micros();
        if changed > 0 {
            println!(
                "          {:.1} times the p50, {:.1} the p99, {cpu:.1} the CPU",
                ratio(0.5),
                ratio(0.99)
            );
        } else {
            println!("          {cpu:.1} times the CPU");
        }
        daemon.stop().await;
    }
}

fn print(changed: u64, client: &str, figures: &Figures, counted: &Counted) {
    let latency = |share| match counted.latencies.as_slice() {
        [] => "-".to_owned(),
        _ => format!("{:.1}", counted.latency(share)),
    };
    println!(
        "{:>8.0} {changed:>6} % {client:<10} {:>8} {:>8} {:>10.0} {:>8.1}",
        figures.rate(),
        latency(0.5),
        latency(0.99),
        figures.cpu_micros(),
        figures.written_kib()
    );
}
