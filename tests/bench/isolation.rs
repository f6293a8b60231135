//! Time from an answer served to its callback received by a healthy subscriber: alone, and in the same run beside a
//! subscriber that hangs and a subscriber that refuses connections.
//!
//! `cargo bench --bench isolation -- [changed polls a second] [seconds of each part]`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::daemon::{Settings, Site};
use common::mock::{Behavior, Mock};

fn main() {
    common::run(bench);
}

async fn bench(arguments: Vec<u64>) {
    // Each label is polled once a second.
    let labels = arguments.first().map_or(100, |rate| *rate as usize);
    let time = Duration::from_secs(arguments.get(1).copied().unwrap_or(12));
    let mock = Mock::start(labels);
    // The port is closed now.
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alone = Settings::new(&mock, labels, "1s");
    let mut with_failing = alone.clone();
    with_failing.subscribers.push(("hanging", format!("{}/hang", mock.url)));
    with_failing.subscribers.push(("refusing", format!("http://{refusing}/")));
    for (name, settings) in [("alone", alone), ("with a hanging and a refusing subscriber", with_failing)] {
        let site = Site::new(&mock, &settings);
        mock.behave(Behavior::changed(0)).await;
        let mut daemon = site.start();
        daemon.polled(&mock, labels * 3 / 2).await;
        mock.behave(Behavior::changed(100)).await;
        let polls = daemon.polls(&mock, time).await;
        let counted = mock.counted().await;
        println!(
            "{name}: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, at most {:.1} ms ({} callbacks, {:.0} µs of CPU a poll)",
            counted.latency(0.5),
            counted.latency(0.95),
            counted.latency(0.99),
            counted.latency(1.0),
            counted.posts,
            polls.cpu_micros()
        );
        // A clean stop would wait for the hanging subscriber.
        drop(daemon);
    }
}
