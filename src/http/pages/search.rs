//! `/?find=` and `/?state=`: labels by id, tracking number or metadata.

use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use maud::{Markup, html};

use super::super::HttpState;
use super::layout::{badge, encoded, label_link, metadata, search_page, table, time_or};
use crate::explanation::outlooks::Outlooks;
use crate::store::StoreError;
use crate::store::views::labels::{LabelFilter, LabelView};

/// Maximum number of labels shown.
const MAX_LABELS: usize = 100;
/// Maximum number of characters of a search text; the rest is ignored.
const MAX_FIND: usize = 200;

pub(super) async fn found(
    state: &HttpState,
    find: Option<&str>,
    label_state: Option<&str>,
    now: Timestamp,
) -> Result<Response, StoreError> {
    let find = find.map(|find| find.char_indices().nth(MAX_FIND).map_or(find, |(end, _)| &find[..end]));
    let wanted = LabelFilter { find, state: label_state, account: None };
    let labels = state.store.find_labels(wanted, MAX_LABELS as u32 + 1).await?;
    let mut labels = state.store.label_views(&labels).await?;
    if let ([label], Some(_)) = (&labels[..], find) {
        let to = format!("/labels/{}?account={}", encoded(&label.label_id), encoded(&label.account));
        return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response());
    }
    let configured = Arc::clone(&state.configured.borrow());
    Outlooks::read(&state.store, &configured.accounts, now).await?.set_expected_polls(&mut labels);
    let title = match (find, label_state) {
        (Some(find), Some(state)) => format!("Labels with {find} that are {state}"),
        (Some(find), None) => format!("Labels with {find}"),
        (None, state) => format!("Labels that are {}", state.unwrap_or("registered")),
    };
    let rows: Vec<Markup> = labels.iter().take(MAX_LABELS).map(|label| row(label, now)).collect();
    let heads =
        ["Label", "Account", "State", "Status", "Tracking number", "Last change", "Next poll", "Metadata"];
    let main = html! {
        h1 { (title) }
        section {
            @if rows.is_empty() {
                p { "No label matches. The search covers id, tracking number and metadata, and ignores case." }
                p { "To register a label: " code { "trackpost labels add se-…" } "." }
            } @else {
                @if labels.len() > MAX_LABELS { p { "The first " (MAX_LABELS) " are shown; search for a longer text." } }
                (table("Labels", &heads, &rows))
            }
        }
    };
    Ok(search_page(&title, find.unwrap_or_default(), &main))
}

fn row(label: &LabelView, now: Timestamp) -> Markup {
    html! {
        td.id { (label_link(&label.label_id, Some(&label.account))) }
        td { (label.account) }
        td { (badge(&label.state)) }
        td { (label.status_code.as_deref().unwrap_or("none")) }
        td { (label.tracking_number.as_deref().unwrap_or("none")) }
        td { (time_or(label.last_changed_at, now, "none yet")) }
        td { (time_or(label.next_poll_at, now, "none")) }
        td { (metadata(&label.metadata)) }
    }
}
