//! The webhook client: one signed POST and its outcome.
//!
//! The body has the same bytes at every attempt; timestamp, signature and attempt number are new. The status decides as
//! soon as it arrives; redirects are not followed and count as failure. The next attempt is not decided here.

mod redaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use url::{Position, Url};

use crate::clock::Stopwatch;
use crate::domain::delivery::address::AddressPolicy;
use crate::domain::delivery::outcome::{Attempt, Outcome};
use crate::domain::messages::signature::{rsa, sign};
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::retry_after;
use crate::shortage;
use crate::transport::{
    AnswerBody, ConnectionLimits, ExchangeFailure, ExchangeProgress, FailureCause, HttpAnswer, Settings,
    Transport, check_literal, shown_location,
};
use redaction::Redaction;

pub use crate::transport::NoClient;

/// Maximum number of bytes read of an answer's body.
const READ_BYTES: usize = 16 * 1024;
/// Maximum number of bytes stored of an answer.
const KEPT_BYTES: usize = 1024;
/// Timeout for the body of a 2xx, and of any other answer. The body does not affect the outcome.
const SUCCESS_BODY_TIMEOUT: Duration = Duration::from_millis(250);
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// A callback without its signature.
#[derive(Clone, Copy, Debug)]
pub struct Callback<'a> {
    pub message_id: &'a str,
    pub kind: &'a str,
    pub label_id: Option<&'a str>,
    pub seq: Option<i64>,
    /// Number of the attempt, from 1 on.
    pub attempt: u32,
    pub body: &'a str,
}

/// The connections to one subscriber.
pub struct WebhookClient {
    transport: Transport,
    url: Url,
    address_policy: AddressPolicy,
    redaction: Redaction,
}

impl WebhookClient {
    pub fn new(subscriber: &Subscriber) -> Result<Self, NoClient> {
        // The configuration has validated it.
        let url = Url::parse(subscriber.url.expose()).map_err(|error| NoClient(error.to_string()))?;
        let encrypted = url.scheme() == "https";
        let address_policy = AddressPolicy { encrypted, allow_insecure: subscriber.allow_insecure };
        let tls = crate::tls::client_config(&subscriber.roots, subscriber.identity.as_ref())
            .map_err(|error| NoClient(error.to_string()))?;
        let settings = Settings {
            tls: Arc::new(tls),
            proxies: subscriber.proxies.clone(),
            address_policy: Some(address_policy),
            // Kept so that most callbacks need no new connection.
            max_idle: subscriber.max_in_flight as usize,
            limits: ConnectionLimits::default(),
            connect_timeout: None,
        };
        let transport = Transport::new(&url, settings).map_err(|what| NoClient(what.to_owned()))?;
        Ok(Self { transport, url, address_policy, redaction: Redaction::of(subscriber) })
    }

    /// Makes one attempt at `now`.
    pub async fn post(&self, subscriber: &Subscriber, callback: &Callback<'_>, now: Timestamp) -> Attempt {
        let watch = Stopwatch::start();
        let mut attempt = self.exchange(subscriber, callback, watch, now).await;
        attempt.duration = watch.elapsed();
        attempt
    }

    async fn exchange(
        &self,
        subscriber: &Subscriber,
        callback: &Callback<'_>,
        watch: Stopwatch,
        now: Timestamp,
    ) -> Attempt {
        // Behind a proxy the resolver does not see the host, so an address in the URL is checked here.
        if let Err(refusal) = check_literal(self.address_policy, &self.url) {
            return failed_attempt(now, Outcome::AddressRefused, refusal.to_string());
        }
        let progress = ExchangeProgress::default();
        let headers = headers(self.transport.headers().clone(), subscriber, callback, now);
        let target = &self.url[Position::BeforePath..Position::AfterQuery];
        let body = Bytes::copy_from_slice(callback.body.as_bytes());
        let sent = self.transport.send(&Method::POST, target, &headers, &body, &progress);
        match tokio::time::timeout(subscriber.timeout, sent).await {
            Ok(Ok(answer)) => self.attempt_of_answer(answer, subscriber.timeout, watch, now).await,
            Ok(Err(failure)) => self.attempt_of_failure(failure, now),
            Err(_) => {
                let stage = progress.reached();
                let detail = format!("{} within {:?}", stage.missed(), subscriber.timeout);
                failed_attempt(now, Outcome::TimedOut { stage }, detail)
            }
        }
    }

    /// Returns the outcome of an answer, which its status decides.
    async fn attempt_of_answer(
        &self,
        answer: HttpAnswer,
        timeout: Duration,
        watch: Stopwatch,
        now: Timestamp,
    ) -> Attempt {
        let HttpAnswer { status, headers, body } = answer;
        let left = timeout.saturating_sub(watch.elapsed());
        let body_timeout = if status.is_success() { SUCCESS_BODY_TIMEOUT } else { ERROR_BODY_TIMEOUT };
        let text = beginning(body, left.min(body_timeout)).await;
        let text = text.map(|text| shortened(self.redaction.apply(text)));
        // The wait begins at the end of the attempt, so a date is relative to it.
        let ended_at = now + SignedDuration::try_from(watch.elapsed()).unwrap_or_default();
        let asked = headers.get(RETRY_AFTER).filter(|_| !status.is_success());
        let asked = asked.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let retry_after = asked.as_deref().and_then(|text| retry_after::parse(text, ended_at));
        let detail = if status.is_redirection() {
            Some(redirect(&headers))
        } else {
            asked.filter(|_| retry_after.is_none()).map(|text| {
                let text: String = text.chars().filter(|c| !c.is_control()).take(64).collect();
                format!("its Retry-After header is not valid: \"{text}\"")
            })
        };
        let detail = detail.map(|detail| self.redaction.apply(detail));
        Attempt {
            started_at: now,
            duration: Duration::ZERO,
            outcome: outcome_of(status.as_u16()),
            detail,
            answer: text,
            retry_after,
        }
    }

    fn attempt_of_failure(&self, failure: ExchangeFailure, now: Timestamp) -> Attempt {
        let ExchangeFailure { cause, detail } = failure;
        let outcome = match cause {
            FailureCause::Shortage => {
                shortage::note(&detail, now);
                Outcome::Shortage
            }
            FailureCause::Name => Outcome::NameUnknown,
            FailureCause::Address => Outcome::AddressRefused,
            FailureCause::Connect => Outcome::ConnectionRefused,
            FailureCause::Tls => Outcome::Tls,
            FailureCause::Reset => Outcome::Reset,
            // The status of the first line decides.
            FailureCause::Unreadable { status: Some(status) } => outcome_of(status),
            FailureCause::Unreadable { status: None } => Outcome::Unreadable,
        };
        failed_attempt(now, outcome, self.redaction.apply(detail))
    }
}

fn outcome_of(status: u16) -> Outcome {
    let accepted = StatusCode::from_u16(status).is_ok_and(|status| status.is_success());
    if accepted { Outcome::Accepted { status } } else { Outcome::ErrorStatus { status } }
}

/// Returns the target of a redirect, for the text of the failure.
fn redirect(headers: &HeaderMap) -> String {
    match headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
        Some(location) => format!("redirects are not followed; the target is {}", shown_location(location)),
        None => "redirects are not followed".to_owned(),
    }
}

/// Returns an attempt without an answer.
pub fn failed_attempt(now: Timestamp, outcome: Outcome, detail: String) -> Attempt {
    Attempt {
        started_at: now,
        duration: Duration::ZERO,
        outcome,
        detail: Some(detail),
        answer: None,
        retry_after: None,
    }
}

/// Returns the headers of a callback: those of the transport (`headers`), the subscriber's, and trackpost's own.
fn headers(
    mut headers: HeaderMap,
    subscriber: &Subscriber,
    callback: &Callback<'_>,
    now: Timestamp,
) -> HeaderMap {
    // The subscriber's own headers override the URL's credentials.
    for (name, _) in &subscriber.headers {
        headers.remove(name.as_str());
    }
    for (name, value) in &subscriber.headers {
        // The configuration has validated both.
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

/// Cuts a text to its first KiB. Secrets must be removed before, because a part of one would not be recognised.
fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(KEPT_BYTES));
    text
}

/// Returns the beginning of an answer as text. A failure to read it changes nothing.
async fn beginning(mut body: AnswerBody, limit: Duration) -> Option<String> {
    let mut read = Vec::new();
    let reading = async {
        // A connection can be reused after the body was read to its end.
        while read.len() <= READ_BYTES
            && let Ok(Some(chunk)) = body.chunk().await
        {
            read.extend_from_slice(&chunk);
        }
    };
    let _ = tokio::time::timeout(limit, reading).await;
    let read = &read[..read.len().min(READ_BYTES)];
    let text: String =
        String::from_utf8_lossy(read).chars().filter(|c| !c.is_control() || *c == '\n').collect();
    (!text.is_empty()).then_some(text)
}
