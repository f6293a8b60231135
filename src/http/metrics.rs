//! `GET /metrics`: counters of this process since its start and gauges from the database, in Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::Sources;
use super::cached::Cached;
use crate::clock;
use crate::domain::degraded::SubscriberStatus;
use crate::domain::polling::account_status::AccountStatus;
use crate::domain::time::earlier;
use crate::metrics::{self, SubscriberLabelSet, metrics as process_metrics};
use crate::store::StoreError;
use crate::store::views::accounts::AccountView;
use crate::store::views::attention;
use crate::store::views::subscribers::SubscriberView;

type Number = Gauge<f64, AtomicU64>;
type CachedText = Result<String, String>;

pub(super) async fn metrics(State((sources, cached)): State<(Sources, Arc<Cached<CachedText>>)>) -> Response {
    let text =
        cached.get(async || text(&sources, clock::now()).await.map_err(|error| error.to_string())).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountLabelSet {
    account: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccountStateLabelSet {
    account: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubscriberStateLabelSet {
    subscriber: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LabelStateLabelSet {
    account: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttentionLabelSet {
    what: String,
}

/// Gauges of one scrape.
struct Gauges<L>(Family<L, Number>);

impl<L: Clone + Debug + Send + Sync + std::hash::Hash + Eq + EncodeLabelSet + 'static> Gauges<L> {
    fn new(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>) -> Self {
        let family = Family::<L, Number>::default();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family.clone()),
            None => registry.register(name, help, family.clone()),
        }
        Self(family)
    }

    fn set(&self, of: L, value: f64) {
        self.0.get_or_create(&of).set(value);
    }
}

/// All metrics, as of `now`.
async fn text(sources: &Sources, now: Timestamp) -> Result<String, StoreError> {
    let mut registry = Registry::with_prefix("trackpost");
    register_counters(&mut registry, now);
    let configured = Arc::clone(&sources.configured.borrow());
    let accounts = sources.store.account_views(&configured.accounts, now).await?;
    let subscribers = sources.store.subscriber_views(&configured.subscribers).await?;
    of_accounts(&mut registry, &accounts);
    of_subscribers(&mut registry, &subscribers, now);
    of_store(&mut registry, sources).await?;
    let attention = Gauges::new(&mut registry, "attention", "Problems that need attention, by kind", None);
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    let degraded = attention::degraded_of(&sources.store, &accounts, &subscribers).await?;
    for degraded in sources.with_notices(degraded) {
        let what = serde_json::to_value(degraded.what).ok();
        let what = what.as_ref().and_then(|what| what.as_str()).unwrap_or_default();
        *kinds.entry(what.to_owned()).or_default() += 1.0;
    }
    kinds.into_iter().for_each(|(what, count)| attention.set(AttentionLabelSet { what }, count));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a text takes everything");
    Ok(text)
}

/// Registers the counters of the process.
fn register_counters(registry: &mut Registry, now: Timestamp) {
    let counts = metrics::metrics();
    let build = Info::new([("version", env!("TRACKPOST_VERSION"))]);
    registry.register("build", "Version of trackpost", build);
    let started = earlier(now, SignedDuration::try_from(counts.uptime()).unwrap_or_default());
    let start = Number::default();
    start.set(started.as_millisecond() as f64 / 1000.0);
    registry.register_with_unit("start_time", "Start of the process, since 1970", Unit::Seconds, start);
    registry.register("polls", "Ended polls, by outcome", counts.polls.clone());
    registry.register_with_unit(
        "time_to_notice",
        "Time from the last good answer without a new event to the first with it",
        Unit::Seconds,
        counts.noticed.clone(),
    );
    registry.register("delivery_attempts", "Attempts of deliveries, by outcome", counts.attempts.clone());
    registry.register("deliveries_dead", "Deliveries that are dead", counts.dead.clone());
    registry.register_with_unit(
        "delivery_latency",
        "Time from the creation or replay of a message to its acceptance",
        Unit::Seconds,
        counts.latency.clone(),
    );
    registry.register("writer_batch_rows", "Rows in a transaction of the writer", counts.batch_rows.clone());
    registry.register_with_unit(
        "writer_batch_duration",
        "Duration of a transaction of the writer",
        Unit::Seconds,
        counts.batch_seconds.clone(),
    );
}

fn of_accounts(registry: &mut Registry, views: &[AccountView]) {
    let gauge =
        |registry: &mut Registry, name, help| Gauges::<AccountLabelSet>::new(registry, name, help, None);
    let last_minute = gauge(registry, "requests_last_minute", "Requests to the API in the last 60 s");
    let per_minute = gauge(registry, "requests_per_minute_limit", "requests_per_minute of the configuration");
    let month = gauge(registry, "requests_this_month", "Requests to the API in this month");
    let per_month =
        gauge(registry, "requests_per_month_limit", "requests_per_month of the configuration; 0: no budget");
    let stretch = Gauges::<AccountLabelSet>::new(
        registry,
        "stretch",
        "Factor by which all waits are longer than planned; +Inf: no requests allowed",
        Some(Unit::Other("ratio".to_owned())),
    );
    let due = gauge(registry, "labels_due", "Labels that are due");
    let first = gauge(registry, "first_polls_waiting", "Labels that wait for their first poll");
    let states = Gauges::<AccountStateLabelSet>::new(
        registry,
        "account_state",
        "1 for the current state of the account",
        None,
    );
    for view in views {
        let of = || AccountLabelSet { account: view.name.clone() };
        last_minute.set(of(), view.requests_last_minute as f64);
        per_minute.set(of(), f64::from(view.requests_per_minute));
        month.set(of(), view.requests_this_month as f64);
        per_month.set(of(), view.requests_per_month as f64);
        stretch.set(of(), view.stretch.unwrap_or(f64::INFINITY));
        due.set(of(), view.due as f64);
        first.set(of(), view.first_polls_waiting as f64);
        for status in AccountStatus::ALL {
            let of = AccountStateLabelSet { account: view.name.clone(), state: status.as_str() };
            states.set(of, f64::from(u8::from(view.status == status)));
        }
    }
}

fn of_subscribers(registry: &mut Registry, views: &[SubscriberView], now: Timestamp) {
    let pending =
        Gauges::<SubscriberLabelSet>::new(registry, "deliveries_pending", "Pending deliveries", None);
    let oldest = Gauges::<SubscriberLabelSet>::new(
        registry,
        "deliveries_oldest_pending_age",
        "Age of the oldest pending delivery; 0: none",
        Some(Unit::Seconds),
    );
    let states = Gauges::<SubscriberStateLabelSet>::new(
        registry,
        "subscriber_state",
        "1 for the current state of the subscriber",
        None,
    );
    for view in views {
        let of = || SubscriberLabelSet { subscriber: view.name.clone() };
        process_metrics().create_dead_series(&view.name);
        pending.set(of(), view.pending as f64);
        let age = view.oldest_pending_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        oldest.set(of(), age);
        for state in SubscriberStatus::ALL {
            let of = SubscriberStateLabelSet { subscriber: view.name.clone(), state: state.as_str() };
            states.set(of, f64::from(u8::from(view.state == state)));
        }
    }
}

async fn of_store(registry: &mut Registry, sources: &Sources) -> Result<(), StoreError> {
    let labels = Gauges::<LabelStateLabelSet>::new(registry, "labels", "Labels by account and state", None);
    for count in sources.store.label_counts().await? {
        labels.set(LabelStateLabelSet { account: count.account, state: count.state }, count.labels as f64);
    }
    let mut number = |name: &str, help: &str, unit: Option<Unit>, value: f64| {
        let gauge = Number::default();
        gauge.set(value);
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauge),
            None => registry.register(name, help, gauge),
        }
    };
    let left_out = sources.store.label_files_left_out().await?.len();
    number("label_files_left_out", "Label files that cannot be read", None, left_out as f64);
    let (database, wal) = (sources.store.database_bytes(), sources.store.wal_bytes());
    number("database_size", "Size of the database file", Some(Unit::Bytes), database as f64);
    number("database_wal_size", "Size of the write-ahead log", Some(Unit::Bytes), wal as f64);
    Ok(())
}
