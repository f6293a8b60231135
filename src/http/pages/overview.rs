//! `/`: first the problems, then accounts, labels, freshness and deliveries. `/?find=` searches labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use tokio::sync::Mutex;

use super::super::{HttpState, MAX_HEARTBEAT_GAP};
use super::figures;
use super::layout::{badge, live_page, number, subscriber_link, table, time, time_or};
use super::{search, unreadable};
use crate::clock;
use crate::config::duration;
use crate::domain::degraded::{DegradationKind, Degraded, first_polls_in_words};
use crate::domain::delivery::outcome::outcome_in_words;
use crate::domain::label::AccountName;
use crate::domain::polling::cadence::Cadence;
use crate::domain::polling::freshness::{FreshnessFigures, Histogram};
use crate::domain::time::earlier;
use crate::explanation::{kind_in_words, roughly, stretch_text};
use crate::metrics::metrics;
use crate::simulation::forecast::{Forecast, LabelForecast, Load, forecast};
use crate::store::StoreError;
use crate::store::views::accounts::AccountView;
use crate::store::views::degraded::{self, Configured};
use crate::store::views::labels::LabelCount;
use crate::store::views::subscribers::SubscriberView;
use crate::workers::blocking;

/// Period of the freshness figures.
const FRESHNESS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Query parameters of the overview.
#[derive(serde::Deserialize)]
pub(in crate::http) struct OverviewQuery {
    find: Option<String>,
    state: Option<String>,
}

/// The forecast for a label, simulated once for each cadence.
#[derive(Debug, Default)]
pub(in crate::http) struct Forecasts(Mutex<Option<(Cadence, LabelForecast)>>);

pub(in crate::http) async fn overview(
    State((state, forecasts)): State<(HttpState, Arc<Forecasts>)>,
    Query(query): Query<OverviewQuery>,
) -> Response {
    let now = clock::now();
    let find = query.find.as_deref().map(str::trim).filter(|find| !find.is_empty());
    let label_state = query.state.as_deref().filter(|label_state| !label_state.is_empty());
    if find.is_some() || label_state.is_some() {
        return search::found(&state, find, label_state, now)
            .await
            .unwrap_or_else(|error| unreadable(&error));
    }
    match Overview::read(&state, &forecasts, now).await {
        Ok(overview) => live_page("Overview", &overview.markup(now)),
        Err(error) => unreadable(&error),
    }
}

struct Overview {
    silent: Vec<String>,
    attention: Vec<Degraded>,
    accounts: Vec<AccountView>,
    labels: Vec<LabelCount>,
    forecast: Option<Forecast>,
    freshness: BTreeMap<AccountName, FreshnessFigures>,
    subscribers: Vec<SubscriberView>,
    database: String,
}

impl Overview {
    async fn read(state: &HttpState, forecasts: &Forecasts, now: Timestamp) -> Result<Self, StoreError> {
        let (store, configured) = (&state.store, Arc::clone(&state.configured.borrow()));
        // In parallel, because each pages' connection reads one after the other.
        let (accounts, subscribers, labels, freshness) = tokio::try_join!(
            store.account_views(&configured.accounts, now),
            store.subscriber_views(&configured.subscribers),
            store.label_counts(),
            store.freshness_figures(earlier(now, FRESHNESS)),
        )?;
        let degraded = degraded::degraded_of(store, &accounts, &subscribers, now).await?;
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        let database = format!(
            "{}, {}, and {} of write-ahead log",
            store.path().display(),
            mebibytes(store.database_bytes()),
            mebibytes(store.wal_bytes())
        );
        Ok(Self {
            silent: state.heartbeats.silent(now, MAX_HEARTBEAT_GAP),
            attention: state.with_notices(degraded),
            accounts,
            forecast: forecast_of(&configured, &labels, forecasts).await,
            labels,
            freshness,
            subscribers,
            database,
        })
    }

    fn markup(&self, now: Timestamp) -> Markup {
        let uptime = SignedDuration::try_from(metrics().uptime()).unwrap_or_default();
        html! {
            h1 { "Overview" }
            (self.attention(now))
            section aria-labelledby="accounts" { h2 #accounts { "Accounts" } (self.accounts(now)) }
            div.two {
                section aria-labelledby="labels" { h2 #labels { "Labels" } (self.labels()) }
                section aria-labelledby="fresh" { h2 #fresh { "How soon changes are noticed" } (self.freshness()) }
            }
            section aria-labelledby="deliveries" { h2 #deliveries { "Deliveries" } (self.deliveries(now)) }
            div.two {
                section aria-labelledby="polls" { h2 #polls { "Polls and changes" } (activity(now)) }
                section aria-labelledby="latency" { h2 #latency { "Delivery latency" } (latency(None)) }
            }
            p { small {
                "The daemon has run for " (roughly(uptime)) ". Database: " (self.database) ". Figures as of " (time(now)) "."
            } }
        }
    }

    fn attention(&self, now: Timestamp) -> Markup {
        if self.attention.is_empty() && self.silent.is_empty() {
            return html! { section.calm-all { h2 { "Nothing needs attention" } } };
        }
        html! {
            section.attention aria-labelledby="attention" {
                h2 #attention { "Needs attention" }
                ul {
                    @for worker in &self.silent {
                        li { b { (worker) } ": made no progress for " (MAX_HEARTBEAT_GAP.as_secs()) " s: see the log, or restart the daemon" }
                    }
                    @for degraded in &self.attention {
                        li {
                            b {
                                (kind_in_words(degraded.what)) " "
                                @match (&degraded.name, degraded.what) {
                                    (Some(name), DegradationKind::Subscriber) => (subscriber_link(name)),
                                    (Some(name), _) => (name),
                                    (None, _) => {}
                                }
                            }
                            @if let Some(detail) = &degraded.detail { ": " (detail) }
                            @if let Some(since) = degraded.since { " (since " (time_or(Some(since), now, "")) ")" }
                        }
                    }
                }
            }
        }
    }

    fn accounts(&self, now: Timestamp) -> Markup {
        if self.accounts.is_empty() {
            return html! { p { "The configuration has no accounts: add " code { "[accounts.main]" } " with an API key to the \
            configuration, then " code { "trackpost reload" } "." } };
        }
        let rows: Vec<Markup> = self
            .accounts
            .iter()
            .map(|account| {
                let first = (account.first_polls_waiting > 0)
                    .then(|| first_polls_in_words(account.first_polls_waiting, account.first_polls_take));
                html! {
                    td.id { b { (account.name) } }
                    td {
                        (badge(account.status.as_str()))
                        @if let Some(detail) = &account.detail { " " small { (detail) } }
                        @if let Some(at) = account.next_probe_at { br; small { "next probe " (time(at)) } }
                        @if let Some(until) = account.throttled_until { br; small { "throttled until " (time(until)) } }
                    }
                    td { (number(account.requests_last_minute)) " of " (number(u64::from(account.requests_per_minute))) }
                    td {
                        (number(account.requests_this_month))
                        @if account.requests_per_month > 0 { " of " (number(account.requests_per_month)) }
                    }
                    td { (stretch_text(account.stretch)) }
                    td { (number(account.due)) @if let Some(first) = first { br; small { (first) } } }
                    td { (time_or(account.last_success_at, now, "none yet")) }
                }
            })
            .collect();
        let heads = [
            "Account",
            "Status",
            "Requests in 60 s",
            "Requests this month",
            "Stretch",
            "Due",
            "Last good answer",
        ];
        table("Accounts", &heads, &rows)
    }

    fn labels(&self) -> Markup {
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        self.labels.iter().for_each(|count| *states.entry(&count.state).or_default() += count.labels);
        if states.is_empty() {
            return html! { p { "No labels registered yet. " code { "trackpost labels add se-…" } " registers one; \
            label files (" code { "registration.files" } ") and discovery register many." } };
        }
        html! {
            div.counts {
                @for (state, count) in &states {
                    span { b { (number(*count)) } a href={ "/?state=" (state) } { (state) } }
                }
            }
            @if let Some(forecast) = self.forecast {
                h3 { "Forecast" }
                p {
                    "If all active labels are in transit: " (number(forecast.polls_per_day.round() as u64))
                    " polls a day, " (format!("{:.0} %", forecast.share_of_limit * 100.0))
                    " of the limit; half of all delivery scans are noticed within "
                    (duration::format(Duration::from_secs(forecast.delivered_delay.as_secs()))) "."
                }
            }
        }
    }

    fn freshness(&self) -> Markup {
        let mut all = Histogram::default();
        for figures in self.freshness.values() {
            all.add(&figures.deliveries);
            all.add(&figures.others);
        }
        if all.total() == 0 {
            return html! { p { "No new event was noticed in the last 7 days. Events of the first answer about a label do \
            not count, because the time before it is unknown." } };
        }
        let half = |histogram: &Histogram| match (histogram.quantile(0.5), histogram.quantile(0.95)) {
            (Some(half), Some(most)) => format!("half {half}, 95 in 100 {most}"),
            _ => "none".to_owned(),
        };
        html! {
            @for (account, figures) in &self.freshness {
                p {
                    @if self.freshness.len() > 1 { b { (account) } ": " }
                    "deliveries " (half(&figures.deliveries)) "; other events " (half(&figures.others)) "; "
                    (number(figures.late_polls.total())) " polls were more than 5 minutes late."
                }
            }
            (figures::noticed(&all))
            p { small { "Time from the last good answer without an event to the first answer with it, which is the maximum delay due to \
                polling. Last 7 days." } }
        }
    }

    fn deliveries(&self, now: Timestamp) -> Markup {
        if self.subscribers.is_empty() {
            return html! { p { "The configuration has no subscribers: add " code { "[subscribers.NAME]" } " with a url and a secret. "
            code { "trackpost listen" } " is a receiver for a first test." } };
        }
        let rows: Vec<Markup> = self
            .subscribers
            .iter()
            .map(|subscriber| {
                html! {
                    td.id { b { (subscriber_link(&subscriber.name)) } }
                    td { (badge(subscriber.state.as_str())) }
                    td { (number(subscriber.pending)) }
                    td { (time_or(subscriber.oldest_pending_at, now, "none")) }
                    td { (time_or(subscriber.last_success_at, now, "none yet")) }
                    td {
                        @match &subscriber.last_failure {
                            Some(failure) => { (time_or(subscriber.last_failure_at, now, "")) br; small { (outcome_in_words(failure)) } },
                            None => span.muted { "none" },
                        }
                    }
                }
            })
            .collect();
        let heads = ["Subscriber", "Health", "Pending", "Oldest pending", "Last accepted", "Last failure"];
        table("Subscribers", &heads, &rows)
    }
}

fn activity(now: Timestamp) -> Markup {
    let minutes = metrics().minutes();
    let polls: Vec<u32> = minutes.iter().map(|minute| minute.polls).collect();
    let changes: Vec<u32> = minutes.iter().map(|minute| minute.changes).collect();
    html! {
        (figures::series("Polls", &polls, false, now))
        (figures::series("Polls with a change", &changes, true, now))
    }
}

/// Latency of deliveries since the start: of all subscribers, or of one.
pub(super) fn latency(subscriber: Option<&str>) -> Markup {
    let latencies = metrics().latencies(subscriber);
    let (Some(half), Some(most)) = (figures::quantile(&latencies, 0.5), figures::quantile(&latencies, 0.99))
    else {
        return html! { p { "Nothing was delivered since the daemon started." } };
    };
    html! {
        p { "From the creation or replay of a message to its acceptance, since the daemon started: half " (half) ", 99 in 100 " (most) "." }
        (figures::latency(&latencies))
    }
}

/// Expected cost and freshness of the active labels; `None` without active labels.
async fn forecast_of(
    configured: &Configured,
    labels: &[LabelCount],
    forecasts: &Forecasts,
) -> Option<Forecast> {
    let active = |account: &str| {
        let active = labels.iter().filter(|count| count.account == account && count.state == "active");
        active.map(|count| count.labels as usize).sum()
    };
    let loads: Vec<Load> = configured
        .accounts
        .iter()
        .map(|(name, limits)| Load {
            labels: active(name.as_str()),
            requests_per_day: limits.requests_per_day(),
        })
        .filter(|load| load.labels > 0)
        .collect();
    let cadence = configured.cadence.as_ref().filter(|_| !loads.is_empty())?;
    let mut last = forecasts.0.lock().await;
    let each = match &*last {
        Some((of, each)) if of == cadence => *each,
        _ => {
            let of = cadence.clone();
            let each = blocking(move || forecast(&of)).await.ok()?;
            last.insert((cadence.clone(), each)).1
        }
    };
    Some(each.of(&loads))
}
