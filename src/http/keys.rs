//! `GET /jwks`: public keys of the signatures of callbacks, in the vendor's format.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Sources;

/// Receivers may cache the keys for five minutes. To change keys, publish the new key for longer than that before
/// signing with it.
const CACHE_FOR: &str = "public, max-age=300";

pub(super) async fn jwks(State(sources): State<Sources>) -> Response {
    let keys = sources.jwks.borrow().to_string();
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, CACHE_FOR)], keys).into_response()
}
