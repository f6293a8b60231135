//! One callback as the receiver got it, and what its signature is worth.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::Timestamp;

use crate::domain::messages::signature::{SignedHeaders, SigningSecret, VerifyError, verify};

/// What the signature of a delivery is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    Good,
    Bad(VerifyError),
    /// There was no secret to check it with.
    Unchecked,
}

/// One callback, as it came in.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// When its body was there.
    pub at: Timestamp,
    /// Path and query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub verified: Verified,
    pub message_id: Option<String>,
    pub label_id: Option<String>,
    pub seq: Option<u64>,
    pub kind: Option<String>,
    pub attempt: Option<u32>,
    /// None while it is waiting for its answer, and for ever if the sender went away.
    pub answered: Option<u16>,
}

impl Delivery {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Reads and verifies a request whose body is there.
    pub(super) fn read(parts: Parts, body: Bytes, secrets: &[SigningSecret], now: Timestamp) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let signed = SignedHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        Self {
            at: now,
            path: parts.uri.path_and_query().map_or(parts.uri.path(), |target| target.as_str()).to_owned(),
            verified: verify_with_any(secrets, signed, &body, now.as_second()),
            message_id: header("webhook-id").map(str::to_owned),
            label_id: header("trackpost-label-id").map(str::to_owned),
            seq: header("trackpost-seq").and_then(|seq| seq.parse().ok()),
            kind: header("trackpost-type").map(str::to_owned),
            attempt: header("trackpost-attempt").and_then(|attempt| attempt.parse().ok()),
            answered: None,
            headers: parts.headers,
            body,
        }
    }
}

fn verify_with_any(secrets: &[SigningSecret], headers: SignedHeaders<'_>, body: &[u8], now: i64) -> Verified {
    let mut verified = Verified::Unchecked;
    for secret in secrets {
        match verify(secret, headers, body, now) {
            Ok(()) => return Verified::Good,
            Err(error) => verified = Verified::Bad(error),
        }
    }
    verified
}
