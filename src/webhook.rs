//! The mouth: one signed POST, and what became of it.
//!
//! The same bytes at every attempt; timestamp, signature and attempt number are fresh. A status decides as soon as it is
//! there; redirects are not followed and count as failure. It decides nothing about what comes next.

mod connections;
mod failure;
mod phase;
mod redaction;
mod resolver;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, Url};

use crate::clock::Stopwatch;
use crate::domain::address::Manner;
use crate::domain::delivery::{Attempt, Outcome};
use crate::domain::retry_after;
use crate::domain::signature::{rsa, sign};
use crate::domain::subscriber::Subscriber;
use phase::Progress;
use redaction::Redaction;

/// Of an answer's body no more is read.
const READ: usize = 16 * 1024;
/// Of what was read, so much is kept.
const KEPT: usize = 1024;

/// A callback, ready but for its signature.
#[derive(Clone, Copy, Debug)]
pub struct Callback<'a> {
    pub message_id: &'a str,
    pub kind: &'a str,
    pub label_id: Option<&'a str>,
    pub seq: Option<i64>,
    /// 1 …
    pub attempt: u32,
    pub body: &'a str,
}

/// TLS can't be set up on this machine.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no HTTP client can be made: {0}")]
pub struct NoTls(String);

/// The connections to one subscriber.
#[derive(Clone)]
pub struct Mouth {
    client: reqwest::Client,
    manner: Manner,
    redaction: Redaction,
}

impl fmt::Debug for Mouth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client would show its proxies, credentials and all.
        f.debug_struct("Mouth").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl Mouth {
    pub fn new(subscriber: &Subscriber) -> Result<Self, NoTls> {
        crate::tls::install();
        let encrypted = Url::parse(subscriber.url.expose()).is_ok_and(|url| url.scheme() == "https");
        let manner = Manner { encrypted, allow_insecure: subscriber.allow_insecure };
        let client = connections::client(subscriber, manner)?;
        Ok(Self { client, manner, redaction: Redaction::of(subscriber) })
    }

    /// Makes one attempt at `now`.
    pub async fn post(&self, subscriber: &Subscriber, callback: &Callback<'_>, now: Timestamp) -> Attempt {
        let watch = Stopwatch::start();
        let mut attempt = match Url::parse(subscriber.url.expose()) {
            Ok(url) => self.exchange(subscriber, url, callback, now).await,
            Err(error) => failed(now, Outcome::AddressRefused, error.to_string()),
        };
        attempt.duration = watch.elapsed();
        attempt
    }

    async fn exchange(
        &self,
        subscriber: &Subscriber,
        url: Url,
        callback: &Callback<'_>,
        now: Timestamp,
    ) -> Attempt {
        // The resolver sees names only.
        if let Err(refusal) = resolver::check_literal(self.manner, &url) {
            return failed(now, Outcome::AddressRefused, refusal.to_string());
        }
        let (watch, progress) = (Stopwatch::start(), Progress::new());
        let request =
            self.client.post(url).headers(headers(subscriber, callback, now)).body(callback.body.to_owned());
        let response = match tokio::time::timeout(subscriber.timeout, progress.of(request.send())).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let (outcome, detail) = failure::of(&error);
                return failed(now, outcome, self.redaction.apply(detail));
            }
            Err(_) => {
                let reached = progress.reached();
                let detail = format!("{} within {:?}", reached.missed(), subscriber.timeout);
                return failed(now, Outcome::TimedOut { connected: reached.is_connected() }, detail);
            }
        };
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).cloned();
        let left = subscriber.timeout.saturating_sub(watch.elapsed());
        let answer = beginning(response, left).await;
        let answer = answer.map(|text| shortened(self.redaction.apply(text)));
        // It is waited for from the end of the attempt, so a date is measured from there.
        let ended_at = now + SignedDuration::try_from(watch.elapsed()).unwrap_or_default();
        let retry_after = retry_after.as_ref().and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| retry_after::parse(text, ended_at));
        let code = status.as_u16();
        let accepted = status.is_success();
        Attempt {
            started_at: now,
            duration: Duration::ZERO,
            outcome: if accepted {
                Outcome::Accepted { status: code }
            } else {
                Outcome::Refused { status: code }
            },
            detail: status.is_redirection().then(|| "redirects are not followed".to_owned()),
            answer,
            retry_after: retry_after.filter(|_| !accepted),
        }
    }
}

fn failed(now: Timestamp, outcome: Outcome, detail: String) -> Attempt {
    Attempt {
        started_at: now,
        duration: Duration::ZERO,
        outcome,
        detail: Some(detail),
        answer: None,
        retry_after: None,
    }
}

fn headers(subscriber: &Subscriber, callback: &Callback<'_>, now: Timestamp) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &subscriber.headers {
        // Both were validated with the configuration.
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()))
        {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    let timestamp = now.as_second();
    let signature = sign(&subscriber.secrets, callback.message_id, timestamp, callback.body.as_bytes());
    let mut ours = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    ours("webhook-id", callback.message_id);
    ours("webhook-timestamp", &timestamp.to_string());
    ours("webhook-signature", &signature);
    ours("trackpost-type", callback.kind);
    ours("trackpost-attempt", &callback.attempt.to_string());
    if let Some(label_id) = callback.label_id {
        ours("trackpost-label-id", label_id);
    }
    if let Some(seq) = callback.seq {
        ours("trackpost-seq", &seq.to_string());
    }
    if let Some(key) = &subscriber.rsa_key {
        let signed = key.sign(now, callback.body.as_bytes());
        ours(rsa::SIGNATURE, &signed.signature);
        ours(rsa::KEY_ID, &signed.key_id);
        ours(rsa::TIMESTAMP, &signed.timestamp);
    }
    if let Some(hmac) = &subscriber.hmac_header
        && let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(hmac.name.as_bytes()),
            HeaderValue::from_str(&hmac.value(callback.body.as_bytes())),
        )
    {
        headers.insert(name, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// The first KiB; a secret must be taken out before, as half a one would not be known.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(KEPT));
    text
}

/// The beginning of an answer, as text; whatever goes wrong now changes nothing.
async fn beginning(mut response: Response, limit: Duration) -> Option<String> {
    let mut read = Vec::new();
    let reading = async {
        while read.len() < READ
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = READ - read.len();
            read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    };
    let _ = tokio::time::timeout(limit, reading).await;
    let text: String =
        String::from_utf8_lossy(&read).chars().filter(|c| !c.is_control() || *c == '\n').collect();
    (!text.is_empty()).then_some(text)
}
