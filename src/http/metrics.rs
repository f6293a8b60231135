//! `GET /metrics`: counters of this process since its start and gauges from the database, in Prometheus text format.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::HttpState;
use super::cached::Cached;
use crate::clock;
use crate::domain::degraded::SubscriberStatus;
use crate::domain::polling::account_status::AccountStatus;
use crate::domain::time::earlier;
use crate::metrics::{LabelValues, metrics as process_metrics, subscriber_label};
use crate::store::StoreError;
use crate::store::views::accounts::AccountView;
use crate::store::views::degraded;
use crate::store::views::subscribers::SubscriberView;

type Number = Gauge<f64, AtomicU64>;
type CachedText = Result<String, String>;

pub(super) async fn metrics(State((state, cached)): State<(HttpState, Arc<Cached<CachedText>>)>) -> Response {
    let text = cached.get(async || text(&state, clock::now()).await.map_err(|error| error.to_string())).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// Registers a gauge with `N` labels.
fn gauges<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
) -> Family<LabelValues<N>, Number> {
    let family = Family::default();
    register(registry, name, help, unit, family.clone());
    family
}

fn register(registry: &mut Registry, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}

/// All metrics, as of `now`.
async fn text(state: &HttpState, now: Timestamp) -> Result<String, StoreError> {
    let mut registry = Registry::with_prefix("trackpost");
    register_counters(&mut registry, now);
    let configured = Arc::clone(&state.configured.borrow());
    let accounts = state.store.account_views(&configured.accounts, now).await?;
    let subscribers = state.store.subscriber_views(&configured.subscribers).await?;
    register_accounts(&mut registry, &accounts);
    register_subscribers(&mut registry, &subscribers, now);
    register_store(&mut registry, state).await?;
    let attention = gauges(&mut registry, "attention", "Problems that need attention, by kind", None);
    let degraded = degraded::degraded_of(&state.store, &accounts, &subscribers, now).await?;
    for degraded in state.with_notices(degraded) {
        attention.get_or_create(&[("what", degraded.what.as_str().to_owned())]).inc();
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("a text takes everything");
    Ok(text)
}

/// Registers the counters of the process.
fn register_counters(registry: &mut Registry, now: Timestamp) {
    let counts = process_metrics();
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

fn register_accounts(registry: &mut Registry, views: &[AccountView]) {
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: fn(&AccountView) -> f64| {
        let gauge = gauges(registry, name, help, unit);
        for view in views {
            gauge.get_or_create(&[("account", view.name.clone())]).set(value(view));
        }
    };
    let help = "Requests to the API in the last 60 s";
    gauge("requests_last_minute", help, None, |view| view.requests_last_minute as f64);
    let help = "requests_per_minute of the configuration";
    gauge("requests_per_minute_limit", help, None, |view| view.requests_per_minute.into());
    let help = "Requests to the API in this month";
    gauge("requests_this_month", help, None, |view| view.requests_this_month as f64);
    let help = "requests_per_month of the configuration; 0: no budget";
    gauge("requests_per_month_limit", help, None, |view| view.requests_per_month as f64);
    let help = "Factor by which all waits are longer than planned; +Inf: no requests allowed";
    let ratio = Unit::Other("ratio".to_owned());
    gauge("stretch", help, Some(ratio), |view| view.stretch.unwrap_or(f64::INFINITY));
    gauge("labels_due", "Labels that are due", None, |view| view.due as f64);
    let help = "Labels that wait for their first poll";
    gauge("first_polls_waiting", help, None, |view| view.first_polls_waiting as f64);
    let states = gauges(registry, "account_state", "1 for the current state of the account", None);
    for view in views {
        for status in AccountStatus::ALL {
            let of = [("account", view.name.clone()), ("state", status.as_str().to_owned())];
            states.get_or_create(&of).set(f64::from(u8::from(view.status == status)));
        }
    }
}

fn register_subscribers(registry: &mut Registry, views: &[SubscriberView], now: Timestamp) {
    let pending = gauges(registry, "deliveries_pending", "Pending deliveries", None);
    let oldest = gauges(
        registry,
        "deliveries_oldest_pending_age",
        "Age of the oldest pending delivery; 0: none",
        Some(Unit::Seconds),
    );
    let states = gauges(registry, "subscriber_state", "1 for the current state of the subscriber", None);
    for view in views {
        process_metrics().create_dead_series(&view.name);
        let of = subscriber_label(&view.name);
        pending.get_or_create(&of).set(view.pending as f64);
        let age = view.oldest_pending_at.map_or(0.0, |at| now.duration_since(at).as_secs_f64().max(0.0));
        oldest.get_or_create(&of).set(age);
        for state in SubscriberStatus::ALL {
            let of = [("subscriber", view.name.clone()), ("state", state.as_str().to_owned())];
            states.get_or_create(&of).set(f64::from(u8::from(view.state == state)));
        }
    }
}

async fn register_store(registry: &mut Registry, state: &HttpState) -> Result<(), StoreError> {
    let labels = gauges(registry, "labels", "Labels by account and state", None);
    for count in state.store.label_counts().await? {
        labels.get_or_create(&[("account", count.account), ("state", count.state)]).set(count.labels as f64);
    }
    let mut number = |name: &str, help: &str, unit: Option<Unit>, value: f64| {
        let gauge = Number::default();
        gauge.set(value);
        register(registry, name, help, unit, gauge);
    };
    let left_out = state.store.label_files_left_out().await?.len();
    number("label_files_left_out", "Label files that cannot be read", None, left_out as f64);
    let (database, wal) = (state.store.database_bytes(), state.store.wal_bytes());
    number("database_size", "Size of the database file", Some(Unit::Bytes), database as f64);
    number("database_wal_size", "Size of the write-ahead log", Some(Unit::Bytes), wal as f64);
    Ok(())
}
