//! What is put on the wire instead of the usual: a status, headers, a body, and how long it takes.
//!
//! Tests script the fake ShipStation and the receiver with the same value. It says nothing about when it is used.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};

/// One answer, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Waited for before the first byte. Cut short when the server shuts down.
    pub delay: Duration,
}

impl Answer {
    /// An empty answer with this status.
    ///
    /// # Panics
    /// If `status` is not from 100 to 999.
    pub fn status(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("an HTTP status has three digits"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
        }
    }

    /// A JSON body with this status.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::status(status).header(CONTENT_TYPE.as_str(), "application/json; charset=utf-8").body(body)
    }

    /// Sets a header; the last value of a name holds.
    ///
    /// # Panics
    /// If it is no header that HTTP could carry.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
