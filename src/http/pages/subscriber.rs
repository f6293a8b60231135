//! `/subscribers/{name}`: health, latency, failures by kind, waiting deliveries, and the last failures.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::super::HttpState;
use super::layout::{
    badge, fields, label_link, message_link, number, page, subscriber_link, table, time_from, time_or,
};
use super::overview::latency;
use super::{not_found, unreadable};
use crate::clock;
use crate::domain::degraded::SubscriberStatus;
use crate::domain::delivery::health::HealthState;
use crate::domain::delivery::outcome::{Outcome, outcome_in_words};
use crate::explanation::measured;
use crate::explanation::next::{self, Subscribers};
use crate::metrics::metrics;
use crate::store::StoreError;
use crate::store::views::attempts::{Failure, NEWEST, WAITING};
use crate::store::views::deliveries::DeliveryView;
use crate::store::views::subscribers::SubscriberView;

const MAX_FAILURES: u32 = 20;
const MAX_WAITING: u32 = 20;

pub(in crate::http) async fn subscriber(
    State(state): State<HttpState>,
    Path(name): Path<String>,
) -> Response {
    read(&state, &name).await.unwrap_or_else(|error| unreadable(&error))
}

async fn read(state: &HttpState, name: &str) -> Result<Response, StoreError> {
    let (store, now) = (&state.store, clock::now());
    let configured = Arc::clone(&state.configured.borrow());
    let views = store.subscriber_views(&configured.subscribers).await?;
    let Some(view) = views.iter().find(|view| view.name == name) else {
        return Ok(not_found(
            "No such subscriber",
            html! {
                p { "The subscriber " b { (name) } " is not configured and has no deliveries." }
                @if views.is_empty() {
                    p { "The configuration has none: add " code { "[subscribers.NAME]" } " with a url and a secret." }
                } @else {
                    p { "Known subscribers: " @for (at, view) in views.iter().enumerate() { @if at > 0 { ", " } (subscriber_link(&view.name)) } }
                }
            },
        ));
    };
    let failures = store.recent_failures(name, MAX_FAILURES).await?;
    let waiting = store.first_pending(name, MAX_WAITING).await?;
    let subscribers = Subscribers::of(store, &configured, &waiting, now).await?;
    Ok(page(
        StatusCode::OK,
        &format!("Subscriber {name}"),
        html! {
            h1 { "Subscriber " (name) " " (badge(view.state.as_str())) }
            (health(view, now))
            div.two {
                section aria-labelledby="latency" { h2 #latency { "Delivery latency" } (latency(Some(name))) }
                section aria-labelledby="kinds" { h2 #kinds { "Attempts by outcome" } (by_outcome(name)) }
            }
            section aria-labelledby="waiting" { h2 #waiting { "Pending deliveries" } (waits(view, &waiting, &subscribers, now)) }
            section aria-labelledby="failures" { h2 #failures { "Last failures" } (failures_table(&failures, now)) }
        },
    ))
}

fn health(view: &SubscriberView, now: Timestamp) -> Markup {
    let note = match view.state {
        SubscriberStatus::Configured(HealthState::Failing) => Some("One probe at a time is sent. Nothing is dropped; the pending deliveries are sent in order after a probe is accepted.".to_owned()),
        SubscriberStatus::Configured(HealthState::Paused) => Some(format!("Nothing is sent until you run trackpost subscribers resume {}.", view.name)),
        SubscriberStatus::Disabled => Some("It is disabled in the configuration (enabled = false), so nothing is sent.".to_owned()),
        SubscriberStatus::Removed => Some("It was removed from the configuration. Pending deliveries are sent if it is added again within 14 days.".to_owned()),
        SubscriberStatus::Configured(HealthState::Ok) => None,
    };
    html! {
        section {
            @if let Some(note) = note { p { (note) } }
            (fields(&[
                ("Since", view.since.map(|at| time_from(at, now))),
                ("Reason", view.reason.map(|reason| html! { (reason.replace('_', " ")) })),
                ("Next probe", view.next_probe_at.map(|at| time_from(at, now))),
                ("Retry-After until", view.held_until.filter(|at| *at > now).map(|at| time_from(at, now))),
                ("Last accepted", Some(time_or(view.last_success_at, now, "none yet"))),
                ("Last failure", Some(time_or(view.last_failure_at, now, "none"))),
                ("Failure detail", view.last_failure.as_ref().map(|failure| html! { (outcome_in_words(failure)) })),
            ]))
        }
    }
}

/// Counters of the process since its start.
fn by_outcome(name: &str) -> Markup {
    let mut counts: Vec<(&str, u64)> = Outcome::ALL
        .iter()
        .map(|outcome| (outcome.as_str(), metrics().attempts_of(name, outcome.as_str())))
        .filter(|(_, count)| *count > 0)
        .collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if counts.is_empty() {
        return html! { p { "No attempt since the daemon started." } };
    }
    let rows: Vec<Markup> = counts
        .iter()
        .map(|(recorded, count)| html! { td { (outcome_in_words(recorded)) } td { (number(*count)) } })
        .collect();
    html! { (table("Attempts by outcome", &["Outcome", "Attempts"], &rows)) p { small { "Since the daemon started." } } }
}

fn waits(
    view: &SubscriberView,
    waiting: &[DeliveryView],
    subscribers: &Subscribers,
    now: Timestamp,
) -> Markup {
    if waiting.is_empty() {
        return html! { p { "No pending deliveries." } };
    }
    let rows: Vec<Markup> = waiting
        .iter()
        .map(|delivery| {
            html! {
                td { (message_link(&delivery.message_id, &delivery.r#type)) }
                td.id { @if let Some(id) = &delivery.label_id { (label_link(id, None)) } }
                td { (time_from(delivery.created_at, now)) }
                td { (delivery.attempts) }
                td { (next::cell(&subscribers.next_attempt(delivery, now), now)) }
                td { (delivery.last_outcome.as_deref().map_or_else(|| "not attempted yet".to_owned(), outcome_in_words)) }
            }
        })
        .collect();
    let heads = ["Message", "Label", "Created", "Attempts", "Next attempt", "Last outcome"];
    html! {
        p {
            (number(view.pending)) " pending"
            @if view.pending > waiting.len() as u64 { ", of which " (waiting.len()) " are shown" }
            "; the oldest since " (time_or(view.oldest_pending_at, now, "now")) "."
        }
        (table("Pending deliveries", &heads, &rows))
    }
}

fn failures_table(failures: &[Failure], now: Timestamp) -> Markup {
    if failures.is_empty() {
        let (waiting, newest) = (number(WAITING.unsigned_abs()), number(NEWEST.unsigned_abs()));
        return html! {
            p {
                "No recent failure was found. Up to " (waiting) " pending deliveries and the last " (newest)
                " deliveries of all subscribers were searched."
            }
        };
    }
    let rows: Vec<Markup> = failures
        .iter()
        .map(|failure| {
            let attempt = &failure.attempt;
            html! {
                td { (time_from(attempt.started_at, now)) }
                td {
                    (message_link(&failure.message_id, &failure.r#type)) " "
                    @if let Some(id) = &failure.label_id { br; small { (label_link(id, None)) } }
                }
                td {
                    (outcome_in_words(&attempt.outcome))
                    @if let Some(status) = attempt.status { " (" (status) ")" }
                    br; small { "attempt " (attempt.attempt) ", took " (measured(Duration::from_millis(attempt.duration_ms))) }
                }
                td { (failure_detail(attempt.detail.as_deref(), attempt.answer.as_deref())) }
            }
        })
        .collect();
    table("Last failures", &["When", "Message", "Outcome", "Detail"], &rows)
}

/// The detail of a failed attempt, and the beginning of the receiver's answer.
pub(super) fn failure_detail(detail: Option<&str>, answer: Option<&str>) -> Markup {
    html! {
        @if let Some(detail) = detail { (detail) }
        @if let Some(answer) = answer.filter(|answer| !answer.trim().is_empty()) {
            details { summary { "The answer" } pre { (answer) } }
        }
    }
}
