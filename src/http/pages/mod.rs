//! The status pages: rendered on the server, read-only, without external resources.
//!
//! maud escapes all text. Scripts and styles are allowed only by their hashes. Without scripts the pages show the same,
//! with times in UTC. Only the label page contains personal data (places, signers).

mod figures;
mod label;
mod layout;
mod message;
mod overview;
mod search;
mod subscriber;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use maud::html;

pub(super) use label::label;
pub(super) use message::message;
pub(super) use overview::overview;
pub(super) use subscriber::subscriber;

use super::json_error;
use crate::store::StoreError;
use layout::page;

/// Whether the client is a browser that requests a page.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    accepted.any(|accepted| accepted.contains("text/html"))
}

/// The login form; `to` is the page to open afterwards.
pub(super) fn login(to: &str, wrong: bool) -> Response {
    page(
        StatusCode::UNAUTHORIZED,
        "Log in",
        html! {
            h1 { "Log in" }
            @if wrong {
                p.bad role="alert" { "The token is wrong." }
            }
            p { "Log in with the token " code { "http.token" } " of the configuration." }
            form.login method="post" action="/login" {
                input type="hidden" name="to" value=(to);
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="current-password";
                button { "Log in" }
            }
        },
    )
}

/// The page for unknown paths.
pub(super) async fn no_such_page(headers: HeaderMap) -> Response {
    if !wants_html(&headers) {
        let paths = "/ /labels/{id} /subscribers/{name} /messages/{id} /messages?after= /metrics /healthz /readyz /jwks";
        return json_error(StatusCode::NOT_FOUND, &format!("unknown path; valid are: {paths}"));
    }
    not_found(
        "No such page",
        html! {
            p { "This page does not exist. " a href="/" { "The overview" } " links to all other pages." }
        },
    )
}

fn not_found(title: &str, help: maud::Markup) -> Response {
    page(StatusCode::NOT_FOUND, title, html! { h1 { (title) } (help) })
}

/// An error page.
fn unreadable(error: &StoreError) -> Response {
    page(
        StatusCode::SERVICE_UNAVAILABLE,
        "The database does not answer",
        html! {
            h1 { "The database does not answer" }
            p.bad { (error) }
            @if let Some(hint) = error.hint() { p { (hint) } }
            p { a href="/healthz" { "/healthz" } " and the log have details." }
        },
    )
}
