//! Parts of all pages: the frame, the headers, and the format of times, states and durations.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::digest;
use crate::domain::time::instant;
use crate::explanation::roughly;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// Reload interval of the overview in seconds.
const REFRESH: u32 = 30;

/// Content security policy: only this style and this script, and no framing.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest::of_bytes(text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("hashes are ASCII")
});

/// A page.
pub(super) fn page(status: StatusCode, title: &str, main: Markup) -> Response {
    respond(status, title, "", false, &main)
}

/// A page that reloads itself.
pub(super) fn live_page(title: &str, main: &Markup) -> Response {
    respond(StatusCode::OK, title, "", true, main)
}

/// A page with the results of a search.
pub(super) fn search_page(title: &str, find: &str, main: &Markup) -> Response {
    respond(StatusCode::OK, title, find, false, main)
}

fn respond(status: StatusCode, title: &str, find: &str, live: bool, main: &Markup) -> Response {
    let text = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · trackpost" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
                @if live {
                    noscript { meta http-equiv="refresh" content=(REFRESH); }
                }
            }
            body data-refresh=[live.then_some(REFRESH)] {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.home href="/" { "trackpost" }
                    form role="search" action="/" {
                        label.hidden for="find" { "Search labels" }
                        input #find type="search" name="find" value=(find) maxlength="200"
                            placeholder="Label id, tracking number, metadata";
                        button { "Search" }
                    }
                }
                main #main { (main) }
                footer { "trackpost " (env!("TRACKPOST_VERSION")) " · read-only" }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    let mut response = (status, text.into_string()).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// An instant in UTC, which the script converts to the reader's time zone.
pub(super) fn time(at: Timestamp) -> Markup {
    let utc = at.strftime("%Y-%m-%d %H:%M:%S").to_string();
    html! { time datetime=(instant(at)) title={ (utc) " UTC" } { (utc) " +00:00" } }
}

/// An instant and its distance from now.
pub(super) fn time_from(at: Timestamp, now: Timestamp) -> Markup {
    let off = at.duration_since(now);
    html! {
        (time(at)) " "
        small.off-by {
            @if off.as_secs() > 0 { "in " (roughly(off)) } @else { (roughly(off)) " ago" }
        }
    }
}

pub(super) fn time_or(at: Option<Timestamp>, now: Timestamp, none: &str) -> Markup {
    at.map_or_else(|| html! { span.muted { (none) } }, |at| time_from(at, now))
}

/// A state with its colour.
pub(super) fn badge(state: &str) -> Markup {
    let class = match state {
        "ok" | "delivered" | "finished" | "changed" | "accepted" => "ok",
        "active" | "unchanged" | "pending" => "calm",
        "removed" | "disabled" | "superseded" | "late" => "off",
        "expired" | "paused" | "returned" | "revised" => "warn",
        _ => "bad",
    };
    html! { span class={ "badge " (class) } { (state.replace('_', " ")) } }
}

/// A table that scrolls by itself on a narrow screen.
pub(super) fn table(name: &str, heads: &[&str], rows: &[Markup]) -> Markup {
    html! {
        div.scroll role="group" aria-label=(name) tabindex="0" {
            table {
                thead { tr { @for head in heads { th scope="col" { (head) } } } }
                tbody { @for row in rows { tr { (row) } } }
            }
        }
    }
}

/// A list of names and values, without the names that have no value.
pub(super) fn fields(fields: &[(&str, Option<Markup>)]) -> Markup {
    html! {
        dl {
            @for (name, value) in fields {
                @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
            }
        }
    }
}

const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Encodes a part of a path or of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PART).to_string()
}

pub(super) fn label_link(id: &str, account: Option<&str>) -> Markup {
    let account = account.map(|account| format!("?account={}", encoded(account))).unwrap_or_default();
    html! { a href={ "/labels/" (encoded(id)) (account) } { (id) } }
}

pub(super) fn message_link(id: &str, text: &str) -> Markup {
    html! { a href={ "/messages/" (encoded(id)) } { (text) } }
}

pub(super) fn subscriber_link(name: &str) -> Markup {
    html! { a href={ "/subscribers/" (encoded(name)) } { (name) } }
}

/// Metadata in one line.
pub(super) fn metadata(metadata: &RawValue) -> Markup {
    let metadata: BTreeMap<String, Value> = serde_json::from_str(metadata.get()).unwrap_or_default();
    html! {
        @for (at, (name, value)) in metadata.iter().enumerate() {
            @if at > 0 { ", " }
            (name) ": " @match value { Value::String(text) => (text), other => (other) }
        }
    }
}

/// A number with separated thousands.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| str::from_utf8(part).ok()).collect();
    parts.join("\u{202f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            [7, 999, 1_000, 1_234_567].map(number),
            ["7", "999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]
        );
    }

    #[test]
    fn no_part_of_a_path_changes_the_path() {
        assert_eq!(encoded("../a?b#\"<"), "%2E%2E%2Fa%3Fb%23%22%3C");
    }
}
