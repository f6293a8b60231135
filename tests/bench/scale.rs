//! Time to the first poll, resident memory, and a reload with one line more, for 10,000 and 100,000 labels, beside only
//! reading the label file in the same run.
//!
//! `cargo bench --bench scale -- [labels …]`, as `-- 1000000`. The account has 200 requests a minute, and 400 after the
//! second start, so nearly all labels wait for their first poll.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

#[allow(dead_code, reason = "each bench uses a part")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::daemon::{Settings, Site};
use common::mock::{Behavior, Mock};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

/// Pause for background work after the measured event.
const IDLE_TIME: Duration = Duration::from_secs(3);

fn main() {
    common::run(bench);
}

async fn bench(mut sizes: Vec<u64>) {
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000];
    }
    for labels in sizes {
        measure(labels as usize).await;
    }
}

async fn measure(labels: usize) {
    let mock = Mock::start(labels);
    let mut settings = Settings { requests_per_minute: 200, ..Settings::new(&mock, labels, "3h") };
    let site = Site::new(&mock, &settings);
    let read = read(&site.label_file(), labels);
    let cpu_seconds =
        |cpu: Duration| format!("{:.2} s ({:.0} × reading)", cpu.as_secs_f64(), cpu.div_duration_f64(read));
    println!("{labels} labels; only reading their file: {:.3} s", read.as_secs_f64());

    for start in ["first start", "second start"] {
        if start == "second start" {
            // Otherwise it would wait until the requests of the first start are a minute old.
            settings.requests_per_minute *= 2;
            site.configure(&mock, &settings);
        }
        mock.behave(Behavior::changed(0)).await;
        let mut daemon = site.start();
        let first_poll = daemon.polled(&mock, 1).await;
        tokio::time::sleep(IDLE_TIME).await;
        let process = daemon.process();
        println!(
            "  {start}: first poll after {:.2} s, CPU {}, resident {:.0} MiB, peak {:.0} MiB",
            first_poll.as_secs_f64(),
            cpu_seconds(process.cpu()),
            process.resident_mib(),
            process.peak_mib()
        );
        if start == "second start" {
            let (cpu, resident) = (process.cpu(), process.resident_mib());
            process.forget_peak();
            let took = reload(&site, &mut daemon, labels).await;
            tokio::time::sleep(IDLE_TIME).await;
            println!(
                "  reload with one line more: registered after {:.2} s, CPU {}, peak + {:.0} MiB, afterwards + {:.0} MiB",
                took.as_secs_f64(),
                cpu_seconds(process.cpu() - cpu),
                process.peak_mib() - resident,
                process.resident_mib() - resident
            );
        }
        daemon.stop().await;
    }
}

/// Cost of only reading the file.
fn read(file: &Path, labels: usize) -> Duration {
    let began = Instant::now();
    let text = std::fs::read_to_string(file).unwrap();
    let rows: Vec<(&str, &str)> = text.lines().skip(1).filter_map(|row| row.split_once(',')).collect();
    assert_eq!(rows.len(), labels);
    began.elapsed()
}

/// Adds a label to the file and waits until it is registered.
async fn reload(site: &Site, daemon: &mut common::daemon::Daemon, labels: usize) -> Duration {
    let mut database = SqliteConnectOptions::new().filename(site.database()).connect().await.unwrap();
    site.add_label(&format!("se-{labels},a0"));
    let query = "SELECT EXISTS (SELECT 1 FROM labels WHERE account = 'a0' AND label_id = ?1)";
    daemon
        .until("the new label is registered", async || {
            let registered = sqlx::query_scalar(query).bind(format!("se-{labels}"));
            registered.fetch_one(&mut database).await.unwrap_or(false)
        })
        .await
}
