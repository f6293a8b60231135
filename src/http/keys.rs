//! `GET /jwks`: the public keys with which callbacks are signed as the vendor signs its own.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::Sources;

/// Receivers may keep them for five minutes. Who changes keys publishes the new one for longer than that, then signs
/// with it.
const KEPT: &str = "public, max-age=300";

pub(super) async fn jwks(State(sources): State<Sources>) -> Response {
    let keys = sources.jwks.borrow().to_string();
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, KEPT)], keys).into_response()
}
