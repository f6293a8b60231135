//! The status page: made on the server, read-only, in one piece, without a resource from elsewhere.
//!
//! All text goes through maud, which escapes it. Scripts and styles are allowed by their hashes only; without scripts the
//! pages say the same, with times in UTC. Personal data (places, signers) is on the label page alone.

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

use super::json;
use crate::store::StoreError;
use layout::page;

/// Whether the client is a browser that asks for a page.
pub(super) fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accepted| accepted.to_str().ok());
    accepted.any(|accepted| accepted.contains("text/html"))
}

/// The form that asks for the token; `to` is where it leads.
pub(super) fn login(to: &str, wrong: bool) -> Response {
    page(
        StatusCode::UNAUTHORIZED,
        "Log in",
        html! {
            h1 { "Log in" }
            @if wrong {
                p.bad role="alert" { "This is not the token." }
            }
            p { "The pages need the token that " code { "http.token" } " of the configuration names." }
            form.login method="post" action="/login" {
                input type="hidden" name="to" value=(to);
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="current-password";
                button { "Log in" }
            }
        },
    )
}

/// For paths that lead nowhere.
pub(super) async fn no_such_page(headers: HeaderMap) -> Response {
    if !wants_html(&headers) {
        let paths = "/ /labels/{id} /subscribers/{name} /messages/{id} /messages?after= /metrics /healthz /readyz /jwks";
        let body = serde_json::json!({ "error": format!("there is no such path; there are: {paths}") });
        return json(StatusCode::NOT_FOUND, body.to_string());
    }
    not_found(
        "No such page",
        html! {
            p { "There is no page at this address. " a href="/" { "The overview" } " leads to all others." }
        },
    )
}

fn not_found(title: &str, help: maud::Markup) -> Response {
    page(StatusCode::NOT_FOUND, title, html! { h1 { (title) } (help) })
}

/// The page that says why there is none.
fn unreadable(error: &StoreError) -> Response {
    page(
        StatusCode::SERVICE_UNAVAILABLE,
        "The database does not answer",
        html! {
            h1 { "The database does not answer" }
            p.bad { (error) }
            @if let Some(hint) = error.hint() { p { (hint) } }
            p { a href="/healthz" { "/healthz" } " and the log say more." }
        },
    )
}
