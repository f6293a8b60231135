//! `/messages/{id}`: the subject of a message and its deliveries. The body may contain personal data and is not shown.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::super::HttpState;
use super::layout::{badge, encoded, fields, label_link, number, page, subscriber_link, time, time_from};
use super::subscriber::failure_detail;
use super::{not_found, unreadable};
use crate::clock;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::domain::delivery::outcome::outcome_in_words;
use crate::explanation::detail::{AttemptDetail, DeliveryDetail, delivery_detail};
use crate::explanation::measured;
use crate::store::StoreError;
use crate::store::views::deliveries::AttemptView;

pub(in crate::http) async fn message(State(state): State<HttpState>, Path(id): Path<String>) -> Response {
    read(&state, &id).await.unwrap_or_else(|error| unreadable(&error))
}

async fn read(state: &HttpState, id: &str) -> Result<Response, StoreError> {
    let (store, now) = (&state.store, clock::now());
    let Some(message) = store.message_view(id).await? else {
        return Ok(not_found(
            "No such message",
            html! {
                p { "The message " b { (id) } " does not exist. Messages are pruned with their labels (" code { "store.keep_finished" } ")." }
                p { "Search for its label by id, tracking number or metadata." }
            },
        ));
    };
    let configured = Arc::clone(&state.configured.borrow());
    let mut details = Vec::new();
    for delivery in store.deliveries_named(&[], Some(id)).await? {
        details.push(delivery_detail(store, &configured, delivery, now).await?);
    }
    Ok(page(
        StatusCode::OK,
        &message.r#type,
        html! {
            h1 { (message.r#type) }
            section {
                (fields(&[
                    ("Message", Some(html! { code { (message.message_id) } })),
                    ("Label", message.label_id.as_ref().map(|label| label_link(label, message.account.as_deref()))),
                    ("Account", message.account.as_ref().map(|account| html! { (account) })),
                    ("Sequence number", message.seq.map(|seq| html! { (seq) })),
                    ("Created", Some(time_from(message.created_at, now))),
                    ("Body", Some(html! { (number(message.bytes.unsigned_abs())) " bytes" })),
                ]))
            }
            @if details.is_empty() {
                section { p { "No subscriber selects this message. It is in the feed ("
                    a href={ "/messages?limit=1" } { "/messages" } ") and is not delivered." } }
            }
            @for detail in &details { (delivery(detail, now)) }
            p { small { "The body is not shown here, because it may contain personal data. It is in the feed; " code { "trackpost history" } " \
                prints the events of the label." } }
        },
    ))
}

fn delivery(detail: &DeliveryDetail, now: Timestamp) -> Markup {
    let of = &detail.delivery;
    let heading = format!("delivery-{}", encoded(&of.subscriber));
    html! {
        section aria-labelledby=(heading) {
            h2 id=(heading) { "To " (subscriber_link(&of.subscriber)) " " (badge(of.state.as_str())) }
            (fields(&[
                ("Delivery", Some(html! { (of.delivery_id) })),
                ("Attempts", Some(html! { (of.attempts) })),
                ("Delivered", of.delivered_at.map(|at| time_from(at, now))),
                ("Next attempt", detail.next.at.map(|at| time_from(at, now))),
            ]))
            @if of.state != DeliveryState::Delivered { ul { @for reason in &detail.next.reasons { li { (reason) } } } }
            @if of.attempts > detail.log.len() as u64 {
                p.muted { "Older attempts were pruned." }
            }
            @if !detail.log.is_empty() { h3 { "Attempts" } ol { @for attempt in &detail.log { (attempt_detail(attempt)) } } }
        }
    }
}

fn attempt_detail(detail: &AttemptDetail) -> Markup {
    html! {
        li {
            (attempt(&detail.attempt))
            @if let Some(ended) = detail.ended { ", " (ended) }
            @if let Some(then) = &detail.then { br; small { "then: " (then) } }
        }
    }
}

/// An attempt in one line, with its detail.
pub(super) fn attempt(attempt: &AttemptView) -> Markup {
    html! {
        @if attempt.is_accepted() { (badge("accepted")) } @else { span.badge.bad { (outcome_in_words(&attempt.outcome)) } }
        @if let Some(status) = attempt.status { " " (status) }
        " " (time(attempt.started_at)) ", took " (measured(Duration::from_millis(attempt.duration_ms)))
        @if !attempt.is_accepted() {
            @if attempt.detail.is_some() { ": " }
            (failure_detail(attempt.detail.as_deref(), attempt.answer.as_deref()))
        }
    }
}
