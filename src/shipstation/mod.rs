//! The ear: asks ShipStation about one label, or for the list of them, and says what came back.
//!
//! Whatever the network does is a value ([`Reading`]), never an error. Redirects are not followed: the API key goes
//! where it was configured to go, and nowhere else.

mod list;
mod wire;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy, Response, StatusCode};

use crate::agent::USER_AGENT;
use crate::config::Account;
use crate::domain::digest;
use crate::domain::label::LabelId;
use crate::domain::proxies::Proxies;
use crate::domain::reading::Reading;
use crate::domain::retry_after;
use crate::domain::schedule::prefix;
use crate::domain::tracking::Tracking;
use wire::Limit;

/// Bodies over this are refused while they are read.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the body of a 429 may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// TLS can't be set up on this machine.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no HTTP client can be made: {0}")]
pub struct NoClient(String);

/// One pool of connections for all accounts but those behind a proxy, which have their own. Cheap to clone.
#[derive(Clone)]
pub struct Client(reqwest::Client);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It would show its proxies, credentials and all.
        f.write_str("Client")
    }
}

impl Client {
    /// Fails only if TLS can't be set up on this machine.
    pub fn new() -> Result<Self, NoClient> {
        Self::by_way_of(&Proxies::default())
    }

    /// The client that asks for `account`: by way of its proxies, if it has some.
    pub fn for_account(&self, account: &Account) -> Result<Self, NoClient> {
        if account.proxies == Proxies::default() {
            return Ok(self.clone());
        }
        Self::by_way_of(&account.proxies)
    }

    fn by_way_of(proxies: &Proxies) -> Result<Self, NoClient> {
        crate::tls::install();
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            // Else the client takes the environment's by itself.
            .no_proxy();
        let except = NoProxy::from_string(&proxies.except);
        // An error would show the URL.
        let no_url = |_| NoClient("the proxy's URL is none".to_owned());
        if let Some(url) = &proxies.http {
            builder = builder.proxy(Proxy::http(url.expose()).map_err(no_url)?.no_proxy(except.clone()));
        }
        if let Some(url) = &proxies.https {
            builder = builder.proxy(Proxy::https(url.expose()).map_err(no_url)?.no_proxy(except));
        }
        builder.build().map(Self).map_err(|error| NoClient(error.to_string()))
    }

    /// Asks for the tracking of a label. `last` is the beginning of the digest of the answer
    /// that would be unchanged. `now` dates a `Retry-After`.
    pub async fn read(
        &self,
        account: &Account,
        label: &LabelId,
        last: Option<u64>,
        now: Timestamp,
    ) -> Reading {
        in_time(account, self.exchange(account, label, last, now)).await.unwrap_or_else(|failure| failure)
    }

    async fn exchange(
        &self,
        account: &Account,
        label: &LabelId,
        last: Option<u64>,
        now: Timestamp,
    ) -> Result<Reading, reqwest::Error> {
        let url = account.tracking_url(label);
        Ok(match self.get(account, &url, now).await? {
            Ok((status, body)) => understand(status, &body, last, url, account.api_key.expose()),
            Err(reading) => reading,
        })
    }

    /// A status and the whole body; or what is plain without one.
    async fn get(
        &self,
        account: &Account,
        url: &str,
        now: Timestamp,
    ) -> Result<Result<(StatusCode, Vec<u8>), Reading>, reqwest::Error> {
        let mut key = match HeaderValue::from_str(account.api_key.expose()) {
            Ok(key) => key,
            Err(_) => {
                let detail = "the API key holds characters that no header can carry".to_owned();
                return Ok(Err(Reading::Unauthorized { status: 401, detail }));
            }
        };
        key.set_sensitive(true);
        let response = self
            .0
            .get(url)
            .header(HeaderName::from_static("api-key"), key)
            .header(CACHE_CONTROL, HeaderValue::from_static("no-cache"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .send()
            .await?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = asked_to_wait(response.headers(), now);
            // Whatever becomes of its body, it is a 429.
            let body = tokio::time::timeout(LAST_WORDS, whole_body(response)).await;
            let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
            return Ok(Err(match wire::limit_of(&body) {
                Limit::Account => Reading::Throttled { retry_after },
                Limit::Carrier(carrier) => Reading::CarrierThrottled { carrier, retry_after },
            }));
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Ok(Err(Reading::ServerError { status: status.as_u16() }));
        }
        Ok(match whole_body(response).await? {
            Some(body) => Ok((status, body)),
            None => {
                let detail = format!("the answer is larger than {LARGEST_BODY} bytes");
                Err(Reading::Garbled { status: status.as_u16(), detail })
            }
        })
    }
}

/// What an exchange brought, or how it failed.
async fn in_time<T>(
    account: &Account,
    exchange: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, Reading> {
    match tokio::time::timeout(account.timeout, exchange).await {
        Ok(Ok(brought)) => Ok(brought),
        Ok(Err(error)) if error.is_timeout() => Err(Reading::TimedOut),
        Ok(Err(error)) => Err(Reading::NoConnection { detail: in_words(&error) }),
        Err(_) => Err(Reading::TimedOut),
    }
}

fn understand(status: StatusCode, body: &[u8], last: Option<u64>, url: String, key: &str) -> Reading {
    let code = status.as_u16();
    match status {
        StatusCode::OK => answer(body, last),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Reading::Unauthorized { status: code, detail: wire::said(body, key) }
        }
        StatusCode::NOT_FOUND if wire::speaks_of_endpoint(body) => {
            Reading::WrongEndpoint { url, detail: wire::said(body, key) }
        }
        _ if status.is_client_error() => Reading::Refused {
            status: code,
            detail: format!("the server answered {code}: {}", wire::said(body, key)),
        },
        _ => Reading::Garbled {
            status: code,
            detail: format!("the server answered {code}, which is no tracking"),
        },
    }
}

fn answer(body: &[u8], last: Option<u64>) -> Reading {
    let digest = digest::of_bytes(body);
    if last == Some(prefix(&digest)) {
        return Reading::SameBytes;
    }
    match Tracking::parse(body) {
        Ok(tracking) => Reading::Answer { tracking: Box::new(tracking), digest },
        Err(error) => Reading::Garbled { status: 200, detail: error.to_string() },
    }
}

fn asked_to_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    retry_after::parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// `None` if it is too large; no more than the limit is ever held.
async fn whole_body(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > LARGEST_BODY) {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(announced.unwrap_or(0));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// An error and its causes, without the URL.
fn in_words(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    if words.is_empty() { "the exchange failed".to_owned() } else { words.join(": ") }
}
