//! `trackpost labels`: the registered labels.

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
        Labels::List(_) | Labels::Show(_) => open_store_to_read(path).await?,
        Labels::Add { .. } | Labels::Remove(_) | Labels::Poll { .. } => open_store(path).await?,
    };
    let config = &loaded.config;
    match what {
        Labels::List(what) => list::list(&store, config, &what).await,
        Labels::Show(what) => list::show(&store, config, &what).await,
        Labels::Add { ids, account, listing } => {
            add::run(&store, config, &ids, account.as_deref(), listing.json).await
        }
        Labels::Remove(labels) => change::remove(&store, config, &labels).await,
        Labels::Poll { labels, wait: false } => change::poll(&store, config, &labels).await,
        Labels::Poll { labels, wait: true } => wait::poll(&store, config, &labels).await,
    }
}
