//! `/labels/{id}`: a parcel's timeline, its polls, the time of the next poll and its reason, its messages and their
//! deliveries.
//!
//! The only page with personal data: places and signers, as received from the carrier.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::super::HttpState;
use super::layout::{
    badge, encoded, fields, label_link, message_link, metadata, number, page, subscriber_link, table, time,
    time_from,
};
use super::message::attempt;
use super::{not_found, unreadable};
use crate::clock;
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::domain::polling::poll::PollSummary;
use crate::domain::tracking::matching::instant_of;
use crate::domain::words::counted;
use crate::explanation::event::{self, EventText};
use crate::explanation::next::{self, Subscribers};
use crate::explanation::poll::{Recorded, reasons};
use crate::store::StoreError;
use crate::store::views::deliveries::{AttemptView, DeliveryView};
use crate::store::views::events::{ChangeView, EventView};
use crate::store::views::messages::MessageView;

/// Maximum number of entries shown, newest first.
const MAX_EVENTS: u32 = 200;
const MAX_MESSAGES: u32 = 50;
const MAX_ATTEMPTS: u32 = 300;
/// Maximum length of a value in a revision.
const MAX_VALUE_CHARS: usize = 200;

#[derive(serde::Deserialize)]
pub(in crate::http) struct LabelQuery {
    account: Option<String>,
}

pub(in crate::http) async fn label(
    State(state): State<HttpState>,
    Path(id): Path<String>,
    Query(query): Query<LabelQuery>,
) -> Response {
    read(&state, &id, query.account.as_deref()).await.unwrap_or_else(|error| unreadable(&error))
}

async fn read(state: &HttpState, id: &str, account: Option<&str>) -> Result<Response, StoreError> {
    let (store, now) = (&state.store, clock::now());
    let named = store.labels_named(id).await?;
    let fitting: Vec<_> =
        named.iter().filter(|label| account.is_none_or(|account| label.account == account)).collect();
    let label = match &fitting[..] {
        [label] => *label,
        [] => {
            return Ok(no_such_label(
                id,
                &named.iter().map(|label| label.account.as_str()).collect::<Vec<_>>(),
            ));
        }
        several => {
            return Ok(page(
                StatusCode::MULTIPLE_CHOICES,
                id,
                html! {
                    h1 { (id) }
                    p { "Several accounts have a label with this id:" }
                    ul { @for label in several { li { a href={ "/labels/" (encoded(id)) "?account=" (encoded(&label.account)) } { (label.account) } } } }
                },
            ));
        }
    };
    let configured = Arc::clone(&state.configured.borrow());
    let limits = |account: &str| {
        configured.accounts.iter().find(|(name, _)| name.as_str() == account).map(|(_, limits)| *limits)
    };
    let Some(recorded) = Recorded::read(store, label.row, limits, now).await? else {
        return Ok(no_such_label(id, &[]));
    };
    let events = store.label_events(label.row, MAX_EVENTS + 1).await?;
    let messages = store.messages_of_label(label.row, MAX_MESSAGES).await?;
    let from_seq = messages.last().and_then(|message| message.seq).unwrap_or(0);
    let mut deliveries: HashMap<String, Vec<DeliveryView>> = HashMap::new();
    for delivery in store.deliveries_of_label(label.row, from_seq).await? {
        deliveries.entry(delivery.message_id.clone()).or_default().push(delivery);
    }
    let subscribers = Subscribers::of(store, &configured, deliveries.values().flatten(), now).await?;
    let attempts = store.attempts_of_label(label.row, from_seq, MAX_ATTEMPTS).await?;
    let view = &recorded.label;
    Ok(page(
        StatusCode::OK,
        &format!("Label {id}"),
        html! {
            h1 { "Label " (view.label_id) " " (badge(&view.state)) }
            (about(&recorded, now))
            section aria-labelledby="next" { h2 #next { "Next poll" } (next_poll(&recorded, now)) }
            section aria-labelledby="timeline" { h2 #timeline { "Timeline" } (timeline(&events, now)) }
            section aria-labelledby="messages" {
                h2 #messages { "Messages" } (message_list(&messages, &deliveries, &subscribers, &attempts, recorded.detail.poll_state.last_seq, now))
            }
        },
    ))
}

fn no_such_label(id: &str, accounts: &[&str]) -> Response {
    not_found(
        "No such label",
        html! {
            @if accounts.is_empty() {
                p { "No label " b { (id) } " is registered. To find it under another id, search by tracking number or metadata." }
                p { code { "trackpost labels add " (id) } " registers it." }
            } @else {
                p { "The account has no label " b { (id) } ". Accounts that have one: "
                    @for account in accounts { (label_link(id, Some(account))) " (" (account) ") " } }
            }
        },
    )
}

fn about(recorded: &Recorded, now: Timestamp) -> Markup {
    let (view, detail) = (&recorded.label, &recorded.detail);
    let text = |text: &Option<String>| text.as_ref().map(|text| html! { (text) });
    let status = view.status_code.as_ref().map(|code| {
        html! {
            (code) @if let Some(words) = &detail.poll_state.status_description { ", " (words) }
            @if detail.poll_state.out_for_delivery { ", out for delivery" }
        }
    });
    html! {
        section {
            (fields(&[
                ("Status", status),
                ("Carrier", text(&detail.poll_state.carrier_code)),
                ("Tracking number", text(&view.tracking_number)),
                ("Estimated delivery", text(&detail.poll_state.estimate)),
                ("Last change", view.last_changed_at.map(|at| time_from(at, now))),
                ("Finished", detail.poll_state.finished_at.map(|at| time_from(at, now))),
                ("Account", Some(html! { (view.account) })),
                ("Registered", Some(html! { (time_from(view.registered_at, now)) " (" (view.source) ")" })),
                ("Metadata", Some(metadata(&view.metadata)).filter(|_| view.metadata.get() != "{}")),
            ]))
        }
    }
}

fn next_poll(recorded: &Recorded, now: Timestamp) -> Markup {
    let polls = &recorded.detail.recent_polls;
    html! {
        p {
            @match recorded.expected {
                Some(at) => b { (time_from(at, now)) },
                None => b { "not planned" },
            }
        }
        ul { @for reason in reasons(recorded, now) { li { (reason) } } }
        h3 { "Last polls" }
        @if polls.is_empty() {
            p { "No poll has found a change or failed yet" @if recorded.label.last_polled_at.is_none() { ": it was never polled" } "." }
        } @else {
            (table("Last polls", &["Polled", "Outcome", "Status", "Messages", "Detail"],
                &polls.iter().rev().map(|poll| poll_row(poll, now)).collect::<Vec<_>>()))
            p { small { "Unchanged polls are not listed: " (number(recorded.label.unchanged)) " in a row"
                @if let Some(at) = recorded.label.last_polled_at { ", the last " (time_from(at, now)) } "." } }
        }
    }
}

fn poll_row(poll: &PollSummary, now: Timestamp) -> Markup {
    html! {
        td { @if let Ok(at) = Timestamp::from_millisecond(poll.at) { (time_from(at, now)) } }
        td { (poll.outcome.replace('_', " ")) }
        td { @if let Some(status) = poll.status { (status) } }
        td { (poll.messages) }
        td { (poll.detail.as_deref().unwrap_or_default()) }
    }
}

fn timeline(events: &[EventView], now: Timestamp) -> Markup {
    if events.is_empty() {
        return html! { p { "The carrier has reported no scan yet. Scans appear here after the next poll that finds one." } };
    }
    html! {
        @if events.len() > MAX_EVENTS as usize {
            p { "These are the last " (MAX_EVENTS) " events; " code { "trackpost history" } " prints all." }
        }
        ol.timeline reversed { @for event in events.iter().rev().take(MAX_EVENTS as usize) { (timeline_item(event, now)) } }
    }
}

fn timeline_item(view: &EventView, now: Timestamp) -> Markup {
    let event = event::parse(view.event.get());
    let text = EventText::of(&event);
    html! {
        li.gone[view.retracted_at.is_some()] {
            div {
                b.what { (text.description.as_deref().map_or_else(|| "an event without a description".to_owned(), cut)) } " "
                @if let Some(code) = event::text(&event, "status_code") { span.badge.calm { (cut(&code)) } " " }
                @if view.revision > 1 { span.badge.warn { "revision " (view.revision) } " " }
                @if view.late { span.badge.off { "late" } " " }
                @if view.retracted_at.is_some() { span.badge.bad { "retracted" } }
            }
            div {
                @match (instant_of(view.event.get()), &text.time) {
                    (Some(at), _) => (time_from(at, now)),
                    (None, Some(written)) => { (cut(written)) " " small { "(as written by the carrier)" } },
                    (None, None) => span.muted { "no time" },
                }
                @if let Some(place) = &text.place { " · " (cut(place)) }
                @if let Some(signer) = &text.signer { " · signed by " (cut(signer)) }
            }
            div { small { "first seen " (time(view.first_seen_at)) " · " (view.event_id) } }
            @for change in &view.changes { (changed(change, &event)) }
        }
    }
}

/// The changes of an event; a revision shows the previous values.
fn changed(change: &ChangeView, event: &Value) -> Markup {
    let fields: Vec<String> = serde_json::from_str(change.fields.get()).unwrap_or_default();
    let before = change.before.as_ref().map(|before| event::parse(before.get())).unwrap_or_default();
    html! {
        div {
            (badge(&change.kind)) " " small { (time(change.at)) }
            @if !fields.is_empty() {
                details {
                    summary { (fields.join(", ")) }
                    ul { @for field in &fields {
                        li { (field) ": " (value(&before, field)) " → " (value(event, field)) " (now)" }
                    } }
                }
            }
        }
    }
}

fn value(event: &Value, field: &str) -> String {
    event::text(event, field).map_or_else(|| "nothing".to_owned(), |text| cut(&text))
}

/// Returns a text with at most [`MAX_VALUE_CHARS`] characters.
fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn message_list(
    messages: &[MessageView],
    deliveries: &HashMap<String, Vec<DeliveryView>>,
    subscribers: &Subscribers,
    attempts: &HashMap<i64, Vec<AttemptView>>,
    last_seq: i64,
    now: Timestamp,
) -> Markup {
    if messages.is_empty() {
        return html! { p {
            @if last_seq > 0 { "Its messages were pruned." } @else { "No message yet." }
        } };
    }
    html! {
        @if messages.len() >= MAX_MESSAGES as usize { p { "These are the last " (MAX_MESSAGES) " messages; " code { "trackpost history" } " prints all." } }
        @for message in messages {
            h3 { (message_link(&message.message_id, &message.r#type)) " " small { (time_from(message.created_at, now)) } }
            @match deliveries.get(&message.message_id) {
                None => p.muted { "No subscriber selects it." },
                Some(deliveries) => ul { @for delivery in deliveries {
                    li {
                        (subscriber_link(&delivery.subscriber)) " " (badge(delivery.state.as_str())) " "
                        @if let Some(at) = delivery.delivered_at { (time_from(at, now)) }
                        @if delivery.state == DeliveryState::Pending { "next attempt: " (next::cell(&subscribers.next_attempt(delivery, now), now)) }
                        @if let Some(attempts) = attempts.get(&delivery.row) {
                            details {
                                summary { (counted(delivery.attempts, "attempt")) }
                                ol { @for of in attempts { li value=(of.attempt) { (attempt(of)) } } }
                            }
                        }
                    }
                } },
            }
        }
    }
}
