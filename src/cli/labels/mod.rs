//! `trackpost labels`: the registry.

mod add;
mod change;
mod list;
mod wait;

use std::path::Path;
use std::process::ExitCode;

use super::args::Labels;
use super::{Failure, open_store, open_store_to_read};

pub async fn run(path: &Path, what: Labels) -> Result<ExitCode, Failure> {
    let (loaded, store) = match what {
        Labels::List { .. } | Labels::Show(_) => open_store_to_read(path).await?,
        Labels::Add { .. } | Labels::Remove { .. } | Labels::Poll { .. } => open_store(path).await?,
    };
    let config = &loaded.config;
    match what {
        Labels::List { state, account, find, listing } => {
            let (state, account) = (state.as_deref(), account.as_deref());
            list::list(&store, config, state, account, find.as_deref(), listing.json).await
        }
        Labels::Show(what) => list::show(&store, config, &what).await,
        Labels::Add { ids, account, listing } => {
            add::run(&store, config, &ids, account.as_deref(), listing.json).await
        }
        Labels::Remove { ids, account } => change::remove(&store, config, &ids, account.as_deref()).await,
        Labels::Poll { ids, account, wait: false } => {
            change::poll(&store, config, &ids, account.as_deref()).await
        }
        Labels::Poll { ids, account, wait: true } => {
            wait::poll(&store, config, &ids, account.as_deref()).await
        }
    }
}
