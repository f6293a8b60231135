//! `trackpost labels`: the registered labels.

mod add;
mod change;
mod list;
mod wait;

use std::path::Path;
use std::process::ExitCode;

use super::args::Labels;
use super::{Failure, open_store, open_store_to_read};

pub async fn run(path: &Path, args: Labels) -> Result<ExitCode, Failure> {
    let (loaded, store) = match args {
        Labels::List(_) | Labels::Show(_) => open_store_to_read(path).await?,
        Labels::Add { .. } | Labels::Remove(_) | Labels::Poll { .. } => open_store(path).await?,
    };
    let config = &loaded.config;
    match args {
        Labels::List(args) => list::list(&store, config, &args).await,
        Labels::Show(args) => list::show(&store, config, &args).await,
        Labels::Add { ids, account, format } => {
            add::run(&store, config, &ids, account.as_deref(), format.json).await
        }
        Labels::Remove(labels) => change::remove(&store, config, &labels).await,
        Labels::Poll { labels, wait: false } => change::poll(&store, config, &labels).await,
        Labels::Poll { labels, wait: true } => wait::poll(&store, config, &labels).await,
    }
}
