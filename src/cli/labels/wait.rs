//! `labels poll --wait`: makes labels due, waits until the daemon has polled them, and says what was found.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::Failure;
use crate::cli::{output, resolve};
use crate::clock::{self, Stopwatch};
use crate::config::Config;
use crate::store::Store;
use crate::store::lock;
use crate::store::views::labels::{LabelDetail, LabelView};

/// How long a poll is waited for, from when it was asked for.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// A label that was made due.
struct Asked<'a> {
    id: &'a str,
    row: i64,
    before: Option<Timestamp>,
}

pub async fn poll(
    store: &Store,
    config: &Config,
    ids: &[String],
    account: Option<&str>,
) -> Result<ExitCode, Failure> {
    if lock::daemon_runs(store.path()).is_none() {
        return Err(Failure::new("no daemon runs on this database, so nothing would be polled")
            .hint("start it (trackpost run), or leave --wait away: the label is due when it starts"));
    }
    let mut code = ExitCode::SUCCESS;
    let mut asked = Vec::new();
    // All at once, so that none waits for the others.
    for id in ids {
        match ask(store, config, id, account).await {
            Ok(label) => asked.push(label),
            Err(failure) => fail(failure, &mut code),
        }
    }
    let watch = Stopwatch::start();
    for label in asked {
        match answered(store, &label, watch).await {
            Ok(found) => output::line(format!("{}: {}", label.id, output::plain(&found))),
            Err(failure) => fail(failure, &mut code),
        }
    }
    Ok(code)
}

fn fail(failure: Failure, code: &mut ExitCode) {
    output::complain(failure);
    *code = ExitCode::FAILURE;
}

async fn ask<'a>(
    store: &Store,
    config: &Config,
    id: &'a str,
    account: Option<&str>,
) -> Result<Asked<'a>, Failure> {
    let (label, key) = resolve::label(store, config, id, account).await?;
    let before = store.label_detail(label.row).await?.and_then(|(view, _)| view.last_polled_at);
    if store.poll_now(&key, clock::now()).await? {
        return Ok(Asked { id, row: label.row, before });
    }
    Err(Failure::new(format!("{id} is removed and not polled"))
        .hint(format!("trackpost labels add {id} registers it again")))
}

async fn answered(store: &Store, label: &Asked<'_>, watch: Stopwatch) -> Result<String, Failure> {
    let id = label.id;
    loop {
        let Some((view, detail)) = store.label_detail(label.row).await? else {
            return Err(Failure::new(format!("{id} is not registered any more")));
        };
        if view.last_polled_at != label.before {
            return Ok(found(&view, &detail));
        }
        if watch.elapsed() >= PATIENCE {
            return Err(Failure::new(format!("{id} was not polled within a minute"))
                .hint(format!("it stays due; trackpost explain {id} says what it waits for")));
        }
        clock::sleep(LOOK).await;
    }
}

/// What the last poll said. Only polls that changed something or failed are kept one by one.
fn found(view: &LabelView, detail: &LabelDetail) -> String {
    let status = match (&view.status_code, &detail.status_description) {
        (Some(code), Some(words)) => format!("{code} ({words})"),
        (Some(code), None) => code.clone(),
        (None, _) => "none".to_owned(),
    };
    let polled_at = view.last_polled_at.map(Timestamp::as_millisecond);
    let poll = detail.recent_polls.last().filter(|poll| Some(poll.at) == polled_at);
    let said = match poll {
        None => "unchanged".to_owned(),
        Some(poll) => {
            let answer = poll.status.map(|status| format!(" {status}")).unwrap_or_default();
            let words = poll.detail.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
            let messages = match poll.changes {
                0 => String::new(),
                1 => ", one message".to_owned(),
                many => format!(", {many} messages"),
            };
            format!("{}{answer}{words}{messages}", poll.outcome)
        }
    };
    format!("{said}; status {status}, {}", view.state)
}
