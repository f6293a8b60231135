//! A callback as received, and the result of checking its signature.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use jiff::Timestamp;

use crate::domain::messages::signature::{SignedHeaders, SigningSecret, VerifyError, verify};

/// Result of checking a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    Good,
    Bad(VerifyError),
    /// Not checked, because the configuration has no secret.
    Unchecked,
}

/// A received callback.
#[derive(Clone, Debug)]
pub struct ReceivedCallback {
    /// Time at which its body was complete.
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
    /// None while it is being answered, and if the sender disconnected.
    pub answered: Option<u16>,
}

impl ReceivedCallback {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns its subscriber, by its path.
    pub fn subscriber(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// Reads and verifies a request whose body was complete at `at`. Its timestamp is compared with `now`, if given.
    pub(super) fn read(
        parts: Parts,
        body: Bytes,
        secrets: &[SigningSecret],
        at: Timestamp,
        now: Option<Timestamp>,
    ) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let signed = SignedHeaders {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
        };
        let own = signed.timestamp.and_then(|timestamp| timestamp.parse().ok()).unwrap_or_default();
        let now = now.map_or(own, Timestamp::as_second);
        Self {
            at,
            path: parts.uri.path_and_query().map_or(parts.uri.path(), |target| target.as_str()).to_owned(),
            verified: verify_with_any(secrets, signed, &body, now),
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
