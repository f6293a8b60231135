//! Deliveries a second from a backlog to one receiver, beside bare POSTs in the same run.
//!
//! `cargo bench --bench drain -- [messages]`. A daemon polls labels of 20 events each while the subscriber is paused.
//! After a restart the subscriber is resumed.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::path::Path;
use std::time::Duration;

use common::daemon::{Settings, Site};
use common::mock::{Behavior, Mock};
use common::{Figures, bare};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

/// Messages of each label.
const EACH: usize = 20;

fn main() {
    common::run(bench);
}

async fn bench(arguments: Vec<u64>) {
    let messages = arguments.first().map_or(20_000, |messages| *messages as usize / EACH * EACH);
    let labels = messages / EACH;
    let mock = Mock::start(labels);
    mock.behave(Behavior::changed(0)).await;
    let bare = bare::posts(&mock, messages, 64).await;

    let settings = Settings {
        accounts: 4,
        max_in_flight: 16,
        first_poll: "deliver",
        ..Settings::new(&mock, labels, "24h")
    };
    let site = Site::new(&mock, &Settings { labels: 0, ..settings.clone() });
    mock.behave(Behavior { first_events: EACH, ..Behavior::changed(0) }).await;
    let mut daemon = site.start();
    // The start creates the database, which a pause needs.
    daemon.until("the database is there", async || pending(&site.database()).await.is_ok()).await;
    site.run_command(&["subscribers", "pause", "orders"]);
    site.register(&settings);
    daemon
        .until("all messages are pending", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            pending(&site.database()).await.unwrap() >= messages as i64
        })
        .await;
    daemon.stop().await;

    let mut daemon = site.start();
    // The start is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let process = daemon.process();
    let (cpu, written) = (process.cpu(), process.written());
    process.forget_peak();
    site.run_command(&["subscribers", "resume", "orders"]);
    daemon.until("all are delivered", async || mock.counts().await.posts >= messages as u64).await;
    let delivered = Figures {
        count: messages as u64,
        time: mock.counts().await.posting,
        cpu: process.cpu() - cpu,
        written: process.written() - written,
    };
    println!("{:<12} {:>8} {:>10} {:>8} {:>9}", "", "a second", "µs of CPU", "KiB", "MiB peak");
    println!("{:<12} {:>8.0} {:>10.0}", "bare POSTs", bare.rate(), bare.cpu_micros());
    println!(
        "{:<12} {:>8.0} {:>10.0} {:>8.1} {:>9.0}   {}",
        "deliveries",
        delivered.rate(),
        delivered.cpu_micros(),
        delivered.written_kib(),
        process.peak_mib(),
        delivered.relative_to(&bare)
    );
    daemon.stop().await;
}

async fn pending(database: &Path) -> sqlx::Result<i64> {
    let mut connection = SqliteConnectOptions::new().filename(database).connect().await?;
    let count = "SELECT count(*) FROM deliveries WHERE state = 'pending'";
    sqlx::query_scalar(count).fetch_one(&mut connection).await
}
