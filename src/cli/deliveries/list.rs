//! `trackpost deliveries list`, and `--watch`, which keeps printing changes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::args::DeliveryList;
use crate::cli::output::{self, or_dash};
use crate::cli::table::{Table, instant_cell};
use crate::cli::{Failure, resolve};
use crate::clock;
use crate::config::Config;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::domain::words::counted;
use crate::explanation::next::{self, Subscribers};
use crate::store::Store;
use crate::store::views::degraded::Configured;
use crate::store::views::deliveries::{DeliveryFilter, DeliveryView};

/// Interval at which `--watch` reads the database.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// Pending deliveries that `--watch` follows; the newest ones.
const MAX_FOLLOWED: usize = 500;

const HEADING: [&str; 9] =
    ["DELIVERY", "LABEL", "SEQ", "TYPE", "SUBSCRIBER", "STATE", "NEXT ATTEMPT", "CREATED", "LAST OUTCOME"];
const LEAST: &[&str] = &["SEQ", "CREATED", "LAST OUTCOME"];

pub(super) async fn run(store: &Store, config: &Config, args: DeliveryList) -> Result<(), Failure> {
    let since = args.since.map(|since| since.before(clock::now()));
    let wanted =
        DeliveryFilter { subscriber: args.subscriber, state: args.state, since, r#type: args.r#type };
    let labels = match &args.label {
        Some(id) => Some(resolve::labels(store, id).await?.into_iter().map(|label| label.row).collect()),
        None => None,
    };
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let source = RequestedDeliveries { store, wanted, labels };
    let mut printer = Printer::new(store, config, args.format.json);
    let mut last = 0;
    if source.labels.is_none()
        && let Some(limit) = args.limit
    {
        last = store.delivery_before_last(&source.wanted, limit).await?;
    }
    let mut any = false;
    loop {
        let page = source.after(last).await?;
        let Some(newest) = page.last() else { break };
        last = newest.row;
        any = true;
        let skipped = if source.labels.is_some() { page.len().saturating_sub(limit) } else { 0 };
        printer.page(&page[skipped..]).await?;
    }
    if !any && !args.watch {
        // A removed subscriber may still have deliveries; an unknown one has none.
        let name = source.wanted.subscriber.as_deref();
        name.map_or(Ok(()), |name| resolve::subscriber(config, name).map(drop))?;
        if !args.format.json {
            output::line("no delivery matches");
        }
    }
    if args.watch { watch(source, printer).await } else { Ok(()) }
}

/// The requested deliveries.
struct RequestedDeliveries<'a> {
    store: &'a Store,
    wanted: DeliveryFilter,
    /// Rows of the labels with the requested id.
    labels: Option<Vec<i64>>,
}

impl RequestedDeliveries<'_> {
    /// Returns the next page of deliveries after the row `last`, the newest last.
    async fn after(&self, last: i64) -> Result<Vec<DeliveryView>, Failure> {
        let Some(labels) = &self.labels else {
            return Ok(self.store.delivery_page(&self.wanted, last).await?);
        };
        let mut found = Vec::new();
        for label in labels {
            found.extend(self.store.deliveries_of_label(*label, 0).await?);
        }
        found.retain(|delivery| delivery.row > last && self.wanted.fits(delivery));
        found.sort_by_key(|delivery| delivery.row);
        Ok(found)
    }
}

/// State and attempts of the deliveries that are followed, by row.
type Followed = BTreeMap<i64, (DeliveryState, u64)>;

/// Follows the pending deliveries of `page`, up to the limit.
fn follow(followed: &mut Followed, page: &[DeliveryView]) {
    for delivery in page {
        match delivery.state {
            DeliveryState::Pending => {
                followed.insert(delivery.row, (delivery.state, delivery.attempts));
            }
            _ => drop(followed.remove(&delivery.row)),
        }
    }
    while followed.len() > MAX_FOLLOWED {
        followed.pop_first();
    }
}

/// Prints new deliveries, and followed ones that change, until a signal ends it.
async fn watch(mut source: RequestedDeliveries<'_>, mut printer: Printer<'_>) -> Result<(), Failure> {
    // Deliveries reach the wanted state in any order, so the state is compared when they are printed.
    let wanted = source.wanted.clone();
    source.wanted.state = Some("pending".to_owned());
    let store = source.store;
    let mut last = store.delivery_before_last(&source.wanted, MAX_FOLLOWED as u32).await?;
    let mut followed = BTreeMap::new();
    loop {
        let page = source.after(last).await?;
        let Some(newest) = page.last() else { break };
        last = newest.row;
        follow(&mut followed, &page);
    }
    source.wanted.state = None;
    last = store.delivery_before_last(&source.wanted, 0).await?;
    let mut stopped = pin!(crate::daemon::stop_signal()?);
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = clock::sleep(READ_INTERVAL) => {}
        }
        let rows: Vec<i64> = followed.keys().copied().collect();
        let mut changed = store.deliveries_named(&rows, None).await?;
        changed.retain(|now| followed.get(&now.row) != Some(&(now.state, now.attempts)));
        let new = source.after(last).await?;
        last = new.last().map_or(last, |newest| newest.row);
        changed.extend(new);
        follow(&mut followed, &changed);
        changed.retain(|delivery| wanted.fits(delivery));
        if !changed.is_empty() {
            printer.page(&changed).await?;
        }
    }
}

struct Printer<'a> {
    store: &'a Store,
    configured: Configured,
    json: bool,
    table: Table<9>,
}

impl<'a> Printer<'a> {
    fn new(store: &'a Store, config: &Config, json: bool) -> Self {
        Self { store, configured: Configured::of(config), json, table: Table::new(HEADING, LEAST) }
    }

    async fn page(&mut self, deliveries: &[DeliveryView]) -> Result<(), Failure> {
        if self.json {
            return output::json_lines(deliveries);
        }
        let now = clock::now();
        let subscribers = Subscribers::of(self.store, &self.configured, deliveries, now).await?;
        let rows: Vec<_> = deliveries.iter().map(|delivery| Self::row(delivery, &subscribers, now)).collect();
        self.table.page(&rows);
        Ok(())
    }

    fn row(delivery: &DeliveryView, subscribers: &Subscribers, now: Timestamp) -> [String; 9] {
        let attempts = match delivery.attempts {
            0 => String::new(),
            count => format!(", {}", counted(count, "attempt")),
        };
        [
            delivery.delivery_id.clone(),
            or_dash(delivery.label_id.as_deref()),
            or_dash(delivery.seq),
            delivery.r#type.clone(),
            delivery.subscriber.clone(),
            format!("{}{attempts}", delivery.state.as_str()),
            next::cell(&subscribers.next_attempt(delivery, now), now),
            instant_cell(delivery.created_at),
            or_dash(delivery.last_outcome.as_deref().map(output::outcome)),
        ]
    }
}
