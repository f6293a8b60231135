//! `trackpost deliveries`: the outbox and its attempts.

mod show;

use std::path::Path;
use std::process::ExitCode;

use super::args::Deliveries;
use super::output::{self, Table, or_dash, shown};
use super::{Failure, open_store, open_store_to_read, resolve, say_if_no_daemon_runs};
use crate::clock;
use crate::config::Config;
use crate::explanation::story::held_back;
use crate::store::Store;
use crate::store::views::attention::Configured;
use crate::store::views::deliveries::{DeliveryView, ID_PREFIX, Wanted};

pub async fn run(path: &Path, what: Deliveries) -> Result<ExitCode, Failure> {
    let (loaded, store) = match what {
        Deliveries::List { .. } | Deliveries::Show { .. } => open_store_to_read(path).await?,
        Deliveries::Retry { .. } => open_store(path).await?,
    };
    match what {
        Deliveries::List { subscriber, label, state, r#type, limit, since, listing } => {
            let since = since.map(|since| since.before(clock::now()));
            let wanted = Wanted { subscriber, state, since, r#type };
            let mut printed = Printed { json: listing.json, table: Table::new(HEADING), any: false };
            match label {
                Some(id) => {
                    let mut deliveries = Vec::new();
                    for label in resolve::labels(&store, &id).await? {
                        deliveries.extend(store.deliveries_of_label(label.row, 0).await?);
                    }
                    deliveries.retain(|delivery| wanted.fits(delivery));
                    let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
                    printed.page(&deliveries[deliveries.len().saturating_sub(most)..])?;
                }
                None => all(&store, &wanted, limit, &mut printed).await?,
            }
            if !printed.any {
                // One that is gone from the configuration may still be owed something; of an unknown one there is nothing.
                wanted
                    .subscriber
                    .as_deref()
                    .map_or(Ok(()), |name| resolve::subscriber(&loaded.config, name).map(drop))?;
                if !printed.json {
                    output::line("no such delivery");
                }
            }
        }
        Deliveries::Show { id, listing } => {
            let found = named(&store, &id).await?;
            show::run(&store, &loaded.config, found, listing.json).await?;
        }
        Deliveries::Retry { ids } => return retry(&store, &loaded.config, &ids).await,
    }
    Ok(ExitCode::SUCCESS)
}

const HEADING: [&str; 8] =
    ["DELIVERY", "LABEL", "SEQ", "TYPE", "SUBSCRIBER", "STATE", "ATTEMPTS", "CREATED / LAST OUTCOME"];

struct Printed {
    json: bool,
    table: Table<8>,
    any: bool,
}

impl Printed {
    fn page(&mut self, deliveries: &[DeliveryView]) -> Result<(), Failure> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.any = true;
        if self.json {
            return output::json_lines(deliveries);
        }
        self.table.page(&deliveries.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }
}

async fn all(
    store: &Store,
    wanted: &Wanted,
    limit: Option<u32>,
    printed: &mut Printed,
) -> Result<(), Failure> {
    let mut after = match limit {
        Some(limit) => store.delivery_before_last(wanted, limit).await?,
        None => 0,
    };
    loop {
        let page = store.delivery_page(wanted, after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.row;
        printed.page(&page)?;
    }
}

fn row(delivery: &DeliveryView) -> [String; 8] {
    [
        delivery.delivery_id.clone(),
        or_dash(delivery.label_id.as_deref()),
        delivery.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
        delivery.r#type.clone(),
        delivery.subscriber.clone(),
        delivery.state.clone(),
        delivery.attempts.to_string(),
        format!(
            "{} {}",
            shown(Some(delivery.created_at)),
            delivery.last_outcome.as_deref().unwrap_or_default()
        ),
    ]
}

/// The delivery with this id, or all of the message with it; at least one.
async fn named(store: &Store, id: &str) -> Result<Vec<DeliveryView>, Failure> {
    let row = id.strip_prefix(ID_PREFIX).unwrap_or(id).parse::<i64>().ok();
    let found = store.deliveries_named(row, row.is_none().then_some(id)).await?;
    if found.is_empty() {
        return Err(Failure::new(format!("there is no delivery or message {}", id.escape_debug()))
            .hint("deliveries are called dlv_1, messages msg_…; trackpost deliveries list shows them"));
    }
    Ok(found)
}

/// One id after the other; what is wrong with one stops no other.
async fn retry(store: &Store, config: &Config, ids: &[String]) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        let found = match named(store, id).await {
            Ok(found) => found,
            Err(failure) => {
                output::complain(failure);
                code = ExitCode::FAILURE;
                continue;
            }
        };
        for delivery in found {
            match retry_one(store, config, &delivery).await {
                Ok(done) => output::line(format!("{}: {done}", delivery.delivery_id)),
                Err(failure) => {
                    output::complain(failure);
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    say_if_no_daemon_runs(store);
    Ok(code)
}

async fn retry_one(store: &Store, config: &Config, delivery: &DeliveryView) -> Result<String, Failure> {
    let subscriber = resolve::enabled_subscriber(config, &delivery.subscriber)?;
    let to = format!("{} to {}", delivery.message_id, subscriber.name);
    let at = clock::now();
    if store.retry(delivery.row, at).await? == 0 {
        return Err(Failure::new(format!("{} changed in this moment", delivery.delivery_id)).hint(
            "it may have been delivered; trackpost deliveries show tells, and retry can be asked again",
        ));
    }
    let Some(queued) = store.deliveries_named(Some(delivery.row), None).await?.pop() else { return Ok(to) };
    let waits = queued.state == "pending" && queued.next_attempt_at.is_none();
    let done = match (waits, delivery.state.as_str()) {
        (true, "pending") => format!("{to} waits until those of the label before it are settled"),
        (true, _) => format!("{to} is queued again, behind those of the label before it"),
        (false, "pending") => format!("{to} is due now"),
        (false, _) => format!("{to} is queued again"),
    };
    let held = held_back(store, &Configured::of(config), queued, at).await?;
    Ok(held.map_or(done.clone(), |held| format!("{done}; {held}")))
}
