//! Polls a second and CPU time of a poll while 0, 10 and 100 % of the answers have a new event and so a callback, beside
//! a bare client in the same run.
//!
//! `cargo bench --bench throughput -- [seconds of each measurement]`. Mock, daemon and bare client share the machine:
//! quote the ratio. The bare client gets lists that stay at 3 events; the daemon's grow to 20.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::time::Duration;

use common::bare;
use common::daemon::{Settings, Site};
use common::mock::{Behavior, Mock};

/// The limit is 1,000 requests a second and account, so 32 accounts exceed the capacity of the machine.
const ACCOUNTS: usize = 32;
const LABELS: usize = 2_880;
/// All accounts together have as many polls in flight as the bare client.
const IN_FLIGHT: usize = 64;

fn main() {
    common::run(bench);
}

async fn bench(arguments: Vec<u64>) {
    let time = Duration::from_secs(arguments.first().copied().unwrap_or(6));
    let mock = Mock::start(LABELS);
    println!("{:>8} {:<10} {:>8} {:>12} {:>10}", "changed", "client", "polls/s", "callbacks/s", "µs of CPU");
    for changed in [0, 10, 100] {
        mock.behave(Behavior { most_events: 3, ..Behavior::changed(changed) }).await;
        let bare = bare::polls(&mock, LABELS, changed, IN_FLIGHT, time).await;
        let callbacks = mock.counts().await.posts as f64 / bare.time.as_secs_f64();
        println!(
            "{changed:>6} % {:<10} {:>8.0} {callbacks:>12.0} {:>10.0}",
            "bare",
            bare.rate(),
            bare.cpu_micros()
        );

        let site = Site::new(&mock, &settings(&mock));
        mock.behave(Behavior::changed(0)).await;
        let mut daemon = site.start();
        daemon.polled(&mock, LABELS * 6 / 5).await;
        mock.behave(Behavior::changed(changed)).await;
        let polls = daemon.polls(&mock, time).await;
        let callbacks = mock.counts().await.posts as f64 / polls.time.as_secs_f64();
        println!(
            "{changed:>6} % {:<10} {:>8.0} {callbacks:>12.0} {:>10.0}   {}",
            "trackpost",
            polls.rate(),
            polls.cpu_micros(),
            polls.relative_to(&bare)
        );
        daemon.stop().await;
    }
}

fn settings(mock: &Mock) -> Settings {
    Settings {
        accounts: ACCOUNTS,
        max_in_flight: (IN_FLIGHT / ACCOUNTS) as u32,
        ..Settings::new(mock, LABELS, "100ms")
    }
}
