//! `trackpost status`: one screen, problems first.
//!
//! Reads the database and its lock, so it works with and without a running daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::args::JsonFlag;
use super::output::{self, instant_text};
use super::{Failure, accounts, open_store_to_read, subscribers};
use crate::clock;
use crate::domain::degraded::{DegradationKind, Degraded};
use crate::domain::time::serialize_instant_or_null;
use crate::explanation::kind_in_words;
use crate::store::lock::{self, DaemonRecord};
use crate::store::views::accounts::AccountView;
use crate::store::views::degraded::{self, Configured};
use crate::store::views::subscribers::SubscriberView;

/// Status as printed by `--json`.
#[derive(Debug, Serialize)]
struct StatusReport {
    daemon: DaemonStatus,
    database: String,
    /// Problems, the most urgent first.
    attention: Vec<Degraded>,
    accounts: Vec<AccountView>,
    /// Number of labels in each state.
    labels: BTreeMap<String, u64>,
    subscribers: Vec<SubscriberView>,
    label_files_left_out: Vec<LeftOutFile>,
}

#[derive(Debug, Serialize)]
struct DaemonStatus {
    runs: bool,
    pid: Option<u32>,
}

#[derive(Debug, Serialize)]
struct LeftOutFile {
    path: String,
    problem: String,
    hint: Option<String>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    since: Option<Timestamp>,
}

pub async fn run(path: &Path, args: &JsonFlag) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store_to_read(path).await?;
    let configured = Configured::of(&loaded.config);
    let record = lock::daemon_record(store.path());
    let now = clock::now();
    let accounts = store.account_views(&configured.accounts, now).await?;
    let subscribers = store.subscriber_views(&configured.subscribers).await?;
    let mut attention = degraded::degraded_of(&store, &accounts, &subscribers, now).await?;
    attention.extend(daemon_problems(record.as_ref()));
    attention.sort_by_key(|degraded| degraded.what);
    let left_out = store.label_files_left_out().await?.into_iter().map(|file| LeftOutFile {
        path: file.path,
        problem: file.problem.unwrap_or_default(),
        hint: file.hint,
        since: file.since.and_then(|since| Timestamp::from_millisecond(since).ok()),
    });
    let mut labels = BTreeMap::new();
    for count in store.label_counts().await? {
        *labels.entry(count.state).or_default() += count.labels;
    }
    let status = StatusReport {
        daemon: DaemonStatus {
            runs: record.is_some(),
            pid: record.map(|record| record.pid).filter(|pid| *pid != 0),
        },
        database: store.path().display().to_string(),
        attention,
        accounts,
        labels,
        subscribers,
        label_files_left_out: left_out.collect(),
    };
    if args.json {
        output::json_lines(&[status])?;
    } else {
        print(&status);
    }
    Ok(ExitCode::SUCCESS)
}

/// Reports from the lock whether a daemon runs, and the problems that only its process knows.
fn daemon_problems(record: Option<&DaemonRecord>) -> Vec<Degraded> {
    let none =
        "no daemon runs on this database, so nothing is polled or delivered; start it with trackpost run";
    let none = || vec![Degraded::new(DegradationKind::Daemon, None, None, none)];
    record.map_or_else(none, |record| record.degraded.clone())
}

fn print(status: &StatusReport) {
    if status.attention.is_empty() {
        output::line("nothing needs attention");
    } else {
        output::line("NEEDS ATTENTION");
        status.attention.iter().for_each(|degraded| output::line(output::plain(&attention_line(degraded))));
    }
    let labels: Vec<String> = status.labels.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let daemon = match (status.daemon.runs, status.daemon.pid) {
        (true, Some(pid)) => format!("runs (pid {pid})"),
        (true, None) => "runs".to_owned(),
        (false, _) => "does not run".to_owned(),
    };
    output::line("");
    output::block(&[
        ("daemon", Some(daemon)),
        ("database", Some(status.database.clone())),
        ("labels", Some(if labels.is_empty() { "none".to_owned() } else { labels.join(", ") })),
    ]);
    if !status.accounts.is_empty() {
        output::line("");
        accounts::print(&status.accounts);
    }
    if !status.subscribers.is_empty() {
        output::line("");
        subscribers::print(&status.subscribers);
    }
}

fn attention_line(degraded: &Degraded) -> String {
    let kind = kind_in_words(degraded.what);
    let name = degraded.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    let since = degraded.since.map(|at| format!(" (since {})", instant_text(at))).unwrap_or_default();
    format!("- {kind}{name}: {}{since}", degraded.detail.as_deref().unwrap_or_default())
}
