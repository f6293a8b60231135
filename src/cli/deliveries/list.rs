//! `trackpost deliveries list`, and `--watch`, which keeps printing changes.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::args::DeliveryList;
use crate::cli::output::{self, or_dash};
use crate::cli::table::{Table, instant};
use crate::cli::{Failure, resolve};
use crate::clock;
use crate::config::Config;
use crate::domain::delivery::health::HealthState;
use crate::store::Store;
use crate::store::views::attention::Configured;
use crate::store::views::deliveries::{DeliveryFilter, DeliveryView};
use crate::store::views::subscribers::SubscriberView;

/// Poll interval of `--watch`.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Pending deliveries that `--watch` follows; the newest ones.
const FOLLOWED: usize = 500;

const HEADING: [&str; 9] =
    ["DELIVERY", "LABEL", "SEQ", "TYPE", "SUBSCRIBER", "STATE", "NEXT ATTEMPT", "CREATED", "LAST OUTCOME"];
const LEAST: &[&str] = &["SEQ", "CREATED", "LAST OUTCOME"];

pub(super) async fn run(store: &Store, config: &Config, what: DeliveryList) -> Result<(), Failure> {
    let since = what.since.map(|since| since.before(clock::now()));
    let wanted =
        DeliveryFilter { subscriber: what.subscriber, state: what.state, since, r#type: what.r#type };
    let labels = match &what.label {
        Some(id) => Some(resolve::labels(store, id).await?.into_iter().map(|label| label.row).collect()),
        None => None,
    };
    let limit = what.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let source = Source { store, wanted, labels };
    let mut printer = Printer::new(store, config, what.listing.json).await?;
    let mut last = 0;
    if source.labels.is_none()
        && let Some(limit) = what.limit
    {
        last = store.delivery_before_last(&source.wanted, limit).await?;
    }
    let mut any = false;
    let mut followed = BTreeMap::new();
    loop {
        let page = source.after(last).await?;
        let Some(newest) = page.last() else { break };
        last = newest.row;
        any = true;
        let skipped = if source.labels.is_some() { page.len().saturating_sub(limit) } else { 0 };
        printer.page(&page[skipped..])?;
        follow(&mut followed, &page);
    }
    if !any && !what.watch {
        // A removed subscriber may still have deliveries; an unknown one has none.
        let name = source.wanted.subscriber.as_deref();
        name.map_or(Ok(()), |name| resolve::subscriber(config, name).map(drop))?;
        if !what.listing.json {
            output::line("no delivery matches");
        }
    }
    if what.watch { watch(&source, config, printer, last, followed).await } else { Ok(()) }
}

/// The requested deliveries.
struct Source<'a> {
    store: &'a Store,
    wanted: DeliveryFilter,
    /// Rows of the labels with the requested id.
    labels: Option<Vec<i64>>,
}

impl Source<'_> {
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
type Followed = BTreeMap<i64, (String, u64)>;

/// Follows the pending deliveries of `page`, up to the limit.
fn follow(followed: &mut Followed, page: &[DeliveryView]) {
    for delivery in page {
        match delivery.state.as_str() {
            "pending" => drop(followed.insert(delivery.row, (delivery.state.clone(), delivery.attempts))),
            _ => drop(followed.remove(&delivery.row)),
        }
    }
    while followed.len() > FOLLOWED {
        followed.pop_first();
    }
}

/// Prints new and changed deliveries until a signal ends it.
async fn watch(
    source: &Source<'_>,
    config: &Config,
    mut printer: Printer,
    mut last: i64,
    mut followed: Followed,
) -> Result<(), Failure> {
    let mut stopped = pin!(crate::daemon::stop_signal()?);
    loop {
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = clock::sleep(POLL_INTERVAL) => {}
        }
        let mut changed = Vec::new();
        for (row, before) in &followed {
            let now = source.store.deliveries_named(Some(*row), None).await?.pop();
            changed.extend(now.filter(|now| (&now.state, &now.attempts) != (&before.0, &before.1)));
        }
        follow(&mut followed, &changed);
        changed.retain(|delivery| source.wanted.fits(delivery));
        let new = source.after(last).await?;
        last = new.last().map_or(last, |newest| newest.row);
        follow(&mut followed, &new);
        changed.extend(new);
        if !changed.is_empty() {
            printer.subscribers = subscribers(source.store, config).await?;
            printer.page(&changed)?;
        }
    }
}

struct Printer {
    json: bool,
    table: Table<9>,
    subscribers: HashMap<String, SubscriberView>,
}

async fn subscribers(store: &Store, config: &Config) -> Result<HashMap<String, SubscriberView>, Failure> {
    let views = store.subscriber_views(&Configured::of(config).subscribers).await?;
    Ok(views.into_iter().map(|view| (view.name.clone(), view)).collect())
}

impl Printer {
    async fn new(store: &Store, config: &Config, json: bool) -> Result<Self, Failure> {
        let subscribers = if json { HashMap::new() } else { subscribers(store, config).await? };
        Ok(Self { json, table: Table::new(HEADING, LEAST), subscribers })
    }

    fn page(&mut self, deliveries: &[DeliveryView]) -> Result<(), Failure> {
        if self.json {
            return output::json_lines(deliveries);
        }
        let now = clock::now();
        self.table.page(&deliveries.iter().map(|delivery| self.row(delivery, now)).collect::<Vec<_>>());
        Ok(())
    }

    fn row(&self, delivery: &DeliveryView, now: Timestamp) -> [String; 9] {
        let attempts = match delivery.attempts {
            0 => String::new(),
            count => format!(", {}", output::counted(count, "attempt")),
        };
        [
            delivery.delivery_id.clone(),
            or_dash(delivery.label_id.as_deref()),
            delivery.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
            delivery.r#type.clone(),
            delivery.subscriber.clone(),
            format!("{}{attempts}", delivery.state),
            next_attempt(delivery, self.subscribers.get(&delivery.subscriber), now),
            instant(Some(delivery.created_at)),
            delivery.last_outcome.as_deref().map_or_else(|| "-".to_owned(), output::outcome),
        ]
    }
}

/// The cell of a delivery's next attempt: an instant, or the reason for the wait.
fn next_attempt(delivery: &DeliveryView, subscriber: Option<&SubscriberView>, now: Timestamp) -> String {
    if delivery.state != "pending" {
        return "-".to_owned();
    }
    let held = subscriber.and_then(|subscriber| subscriber.held_until).filter(|until| *until > now);
    match subscriber.map(|subscriber| (subscriber.state, subscriber.next_probe_at)) {
        None => "no subscriber".to_owned(),
        Some((state, Some(at))) if state == HealthState::Failing.as_str() => {
            format!("probe {}", instant(Some(at)))
        }
        Some((state, _)) if state != HealthState::Ok.as_str() && state != HealthState::Failing.as_str() => {
            state.to_owned()
        }
        Some(_) => match delivery.next_attempt_at.map(|at| at.max(held.unwrap_or(at))) {
            None => "after earlier".to_owned(),
            Some(at) if at <= now => "due".to_owned(),
            at => instant(at),
        },
    }
}
