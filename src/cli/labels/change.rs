//! `labels remove` and `labels poll`: one id after the other; what is wrong with one stops no other.

use std::process::ExitCode;

use super::Failure;
use crate::cli::{output, resolve, say_if_no_daemon_runs};
use crate::clock;
use crate::config::Config;
use crate::store::Store;
use crate::store::labels::Removal;

pub async fn remove(
    store: &Store,
    config: &Config,
    ids: &[String],
    account: Option<&str>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        tell(remove_one(store, config, id, account).await, &mut code);
    }
    Ok(code)
}

async fn remove_one(
    store: &Store,
    config: &Config,
    id: &str,
    account: Option<&str>,
) -> Result<String, Failure> {
    let (_, key) = resolve::label(store, config, id, account).await?;
    match store.remove_by_hand(&key).await? {
        Removal::Removed => Ok(format!("{id}: removed; its history stays")),
        Removal::StillConfigured => {
            Err(Failure::new(format!("{id} is in the configuration or in a label file, and goes on"))
                .hint("remove it there; a running daemon notices a changed label file by itself"))
        }
        Removal::Unknown => Err(Failure::new(format!("{id} is removed already"))),
    }
}

pub async fn poll(
    store: &Store,
    config: &Config,
    ids: &[String],
    account: Option<&str>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        tell(poll_one(store, config, id, account).await, &mut code);
    }
    say_if_no_daemon_runs(store);
    Ok(code)
}

async fn poll_one(
    store: &Store,
    config: &Config,
    id: &str,
    account: Option<&str>,
) -> Result<String, Failure> {
    let (_, key) = resolve::label(store, config, id, account).await?;
    if store.poll_now(&key, clock::now()).await? {
        Ok(format!("{id}: due now"))
    } else {
        Err(Failure::new(format!("{id} is removed and not polled"))
            .hint(format!("trackpost labels add {id} registers it again")))
    }
}

fn tell(done: Result<String, Failure>, code: &mut ExitCode) {
    match done {
        Ok(text) => output::line(text),
        Err(failure) => {
            output::complain(failure);
            *code = ExitCode::FAILURE;
        }
    }
}
