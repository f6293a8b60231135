//! `labels remove` and `labels poll`: one id after the other; a wrong one does not stop the others.

use std::process::ExitCode;

use jiff::Timestamp;

use super::Failure;
use crate::cli::args::LabelIds;
use crate::cli::output::shown;
use crate::cli::{note_if_no_daemon_runs, print_result, resolve};
use crate::clock;
use crate::config::Config;
use crate::domain::label::LabelKey;
use crate::domain::polling::account_status::{AccountState, AccountStatus};
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
    let waits = waits_for(&store.account_state(&key.account, now).await?, &key, now);
    Ok(waits.map_or_else(|| format!("{id}: due now"), |waits| format!("{id}: queued: {waits}")))
}

pub(super) fn removed(id: &str) -> Failure {
    Failure::new(format!("{id} was removed, so it is not polled"))
        .hint(format!("trackpost labels add {id} registers it again"))
}

/// The reason for the wait of a due label, if the API has suspended its account or limits it.
pub(super) fn waits_for(account: &AccountState, key: &LabelKey, now: Timestamp) -> Option<String> {
    let name = &key.account;
    if account.status != AccountStatus::Ok {
        let probe = shown(account.probe_at);
        return Some(format!("account {name} is {}, next probe {probe}", account.status.as_str()));
    }
    let until = account.throttled_until.filter(|until| *until > now)?;
    Some(format!("the API answered 429 for account {name}, which waits until {}", shown(Some(until))))
}
