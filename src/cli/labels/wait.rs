//! `labels poll --wait`: makes labels due, waits until the daemon has polled them, and prints the result.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::Failure;
use super::change::removed;
use super::list::status_in_words;
use crate::cli::args::LabelIds;
use crate::cli::{output, print_result, resolve};
use crate::clock::{self, Stopwatch};
use crate::config::Config;
use crate::domain::label::AccountName;
use crate::domain::words::counted;
use crate::explanation::poll::account_waits;
use crate::store::Store;
use crate::store::lock;
use crate::store::views::labels::{LabelDetail, LabelView};

/// Longest wait for a poll.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which the label is read.
const READ_INTERVAL: Duration = Duration::from_millis(100);

/// A label that was made due.
struct DueLabel<'a> {
    id: &'a str,
    row: i64,
    account: AccountName,
    before: Option<Timestamp>,
}

pub async fn poll(store: &Store, config: &Config, labels: &LabelIds) -> Result<ExitCode, Failure> {
    if lock::daemon_record(store.path()).is_none() {
        return Err(Failure::new("no daemon runs on this database, so nothing is polled").hint(
            "start the daemon with trackpost run, or omit --wait: the label is polled when a daemon starts",
        ));
    }
    let mut code = ExitCode::SUCCESS;
    let mut due = Vec::new();
    // All of them are made due before the first wait.
    for id in &labels.ids {
        match make_due(store, config, id, labels.account.as_deref()).await {
            Ok(label) => due.push(label),
            Err(failure) => print_result(Err(failure), &mut code),
        }
    }
    let watch = Stopwatch::start();
    for label in due {
        let found = poll_result(store, &label, watch).await;
        print_result(found.map(|found| format!("{}: {}", label.id, output::plain(&found))), &mut code);
    }
    Ok(code)
}

async fn make_due<'a>(
    store: &Store,
    config: &Config,
    id: &'a str,
    account: Option<&str>,
) -> Result<DueLabel<'a>, Failure> {
    let (label, key) = resolve::label(store, config, id, account).await?;
    let before = store.label_detail(label.row).await?.and_then(|(view, _)| view.last_polled_at);
    if store.poll_now(&key, clock::now()).await? {
        return Ok(DueLabel { id, row: label.row, account: key.account, before });
    }
    Err(removed(id))
}

async fn poll_result(store: &Store, label: &DueLabel<'_>, watch: Stopwatch) -> Result<String, Failure> {
    let id = label.id;
    loop {
        let Some((view, detail)) = store.label_detail(label.row).await? else {
            return Err(Failure::new(format!("{id} was removed meanwhile")));
        };
        if view.last_polled_at != label.before {
            return Ok(last_poll(&view, &detail));
        }
        if watch.elapsed() >= TIMEOUT {
            let now = clock::now();
            let account = store.account_state(&label.account, now).await?;
            let waits = account_waits(label.account.as_str(), &account, now).join("; ");
            let waits = if waits.is_empty() { waits } else { format!(": {waits}") };
            return Err(Failure::new(format!("{id} was not polled within a minute{waits}"))
                .hint(format!("it stays due; trackpost explain {id} gives the reason")));
        }
        clock::sleep(READ_INTERVAL).await;
    }
}

/// Describes the last poll. Only polls that found changes or failed are recorded one by one.
fn last_poll(view: &LabelView, detail: &LabelDetail) -> String {
    let status = status_in_words(view, detail).unwrap_or_else(|| "none".to_owned());
    let polled_at = view.last_polled_at.map(Timestamp::as_millisecond);
    let poll = detail.recent_polls.last().filter(|poll| Some(poll.at) == polled_at);
    let outcome = match poll {
        None => "unchanged".to_owned(),
        Some(poll) => {
            let answer = poll.status.map(|status| format!(" {status}")).unwrap_or_default();
            let words = poll.detail.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
            let messages = match poll.messages {
                0 => String::new(),
                count => format!(", {}", counted(count as u64, "message")),
            };
            format!("{}{answer}{words}{messages}", poll.outcome)
        }
    };
    format!("{outcome}; status {status}, {}", view.state)
}
