//! `trackpost deliveries`: the outbox and its attempts.

mod list;
mod show;

use std::path::Path;
use std::process::ExitCode;

use super::args::Deliveries;
use super::{Failure, note_if_no_daemon_runs, open_store, open_store_to_read, print_result, resolve};
use crate::clock;
use crate::config::Config;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::explanation::detail::held_back;
use crate::store::Store;
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::{DeliveryView, ID_PREFIX};

pub async fn run(path: &Path, args: Deliveries) -> Result<ExitCode, Failure> {
    let (loaded, store) = match args {
        Deliveries::List(_) | Deliveries::Show { .. } => open_store_to_read(path).await?,
        Deliveries::Retry { .. } => open_store(path).await?,
    };
    match args {
        Deliveries::List(args) => list::run(&store, &loaded.config, args).await?,
        Deliveries::Show { id, format } => {
            let found = find(&store, &id).await?;
            show::run(&store, &loaded.config, found, format.json).await?;
        }
        Deliveries::Retry { ids } => return retry(&store, &loaded.config, &ids).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the delivery with this id, or all deliveries of the message with this id; at least one.
async fn find(store: &Store, id: &str) -> Result<Vec<DeliveryView>, Failure> {
    let row = id.strip_prefix(ID_PREFIX).unwrap_or(id).parse::<i64>().ok();
    let found = store.deliveries_named(row.as_slice(), row.is_none().then_some(id)).await?;
    if found.is_empty() {
        return Err(Failure::new(format!("unknown delivery or message {}", id.escape_debug())).hint(
            "delivery ids read like dlv_5, message ids like msg_…; trackpost deliveries list shows them",
        ));
    }
    Ok(found)
}

/// Retries one id after the other; a wrong one does not stop the others.
async fn retry(store: &Store, config: &Config, ids: &[String]) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match find(store, id).await {
            Ok(found) => {
                for delivery in found {
                    print_result(retry_one(store, config, &delivery).await, &mut code);
                }
            }
            Err(failure) => print_result(Err(failure), &mut code),
        }
    }
    note_if_no_daemon_runs(store);
    Ok(code)
}

async fn retry_one(store: &Store, config: &Config, delivery: &DeliveryView) -> Result<String, Failure> {
    let subscriber = resolve::enabled_subscriber(config, &delivery.subscriber)?;
    let id = &delivery.delivery_id;
    let to = format!("{id}: {} to {}", delivery.message_id, subscriber.name);
    let at = clock::now();
    if store.retry(delivery.row, at).await? == 0 {
        return Err(Failure::new(format!("{id} changed before it could be queued")).hint(format!(
            "check with trackpost deliveries show {id} whether it was delivered; if not, retry it again"
        )));
    }
    let Some(queued) = store.deliveries_named(&[delivery.row], None).await?.pop() else { return Ok(to) };
    let done = match (queued.behind, delivery.state) {
        (true, DeliveryState::Pending) => format!("{to} waits for earlier messages of its label"),
        (true, _) => format!("{to} is queued again, behind earlier messages of its label"),
        (false, DeliveryState::Pending) => format!("{to} is due now"),
        (false, _) => format!("{to} is queued again"),
    };
    let held = held_back(store, &Configured::of(config), queued, at).await?;
    Ok(held.map_or(done.clone(), |held| format!("{done}; {held}")))
}
