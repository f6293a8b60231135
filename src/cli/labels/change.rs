//! `labels remove` and `labels poll`: one id after the other; a wrong one does not stop the others.

use std::process::ExitCode;

use super::Failure;
use crate::cli::args::LabelIds;
use crate::cli::{note_if_no_daemon_runs, print_result, resolve};
use crate::clock;
use crate::config::Config;
use crate::explanation::poll::account_waits;
use crate::store::Store;
use crate::store::labels::Removal;

pub async fn remove(store: &Store, config: &Config, labels: &LabelIds) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in &labels.ids {
        print_result(remove_one(store, config, labels, id).await, &mut code);
    }
    Ok(code)
}

async fn remove_one(store: &Store, config: &Config, labels: &LabelIds, id: &str) -> Result<String, Failure> {
    let (_, key) = resolve::label(store, config, id, labels.account.as_deref()).await?;
    match store.remove_by_hand(&key, clock::now()).await? {
        Removal::Removed => Ok(format!("{id}: removed; its history stays")),
        Removal::StillConfigured => Err(Failure::new(format!(
            "{id} is in the configuration or in a label file, so it stays registered"
        ))
        .hint("remove it there; a running daemon reads changed label files by itself, and the configuration after trackpost reload")),
        Removal::Unknown => Err(Failure::new(format!("{id} is already removed"))),
    }
}

pub async fn poll(store: &Store, config: &Config, labels: &LabelIds) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in &labels.ids {
        print_result(poll_one(store, config, labels, id).await, &mut code);
    }
    note_if_no_daemon_runs(store);
    Ok(code)
}

async fn poll_one(store: &Store, config: &Config, labels: &LabelIds, id: &str) -> Result<String, Failure> {
    let (_, key) = resolve::label(store, config, id, labels.account.as_deref()).await?;
    let now = clock::now();
    if !store.poll_now(&key, now).await? {
        return Err(removed(id));
    }
    let account = store.account_state(&key.account, now).await?;
    let waits = account_waits(key.account.as_str(), &account, now);
    Ok(if waits.is_empty() {
        format!("{id}: due now")
    } else {
        format!("{id}: queued: {}", waits.join("; "))
    })
}

pub(super) fn removed(id: &str) -> Failure {
    Failure::new(format!("{id} was removed, so it is not polled"))
        .hint(format!("trackpost labels add {id} registers it again"))
}
