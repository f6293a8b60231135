//! API client of one account, with everything that its requests share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use url::{Position, Url};

use super::Tls;
use super::wire::{self, Limit};
use crate::domain::account::Account;
use crate::domain::delivery::address::AddressPolicy;
use crate::domain::digest;
use crate::domain::label::LabelId;
use crate::domain::polling::schedule::prefix;
use crate::domain::retry_after;
use crate::domain::tracking::Tracking;
use crate::domain::tracking::reading::Reading;
use crate::shortage;
use crate::transport::{
    ConnectionLimits, ExchangeFailure, ExchangeProgress, FailureCause, HttpAnswer, NoClient, Settings,
    Transport, shown_location,
};

/// Maximum size of a body; a larger one is rejected while it is read.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the body of a 429 or a 5xx.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Placeholder for the label id while a URL is parsed.
const PLACEHOLDER: &str = "se-place-of-the-label-id";
/// Maximum number of bytes read of an error body.
const LARGEST_ERROR: usize = 64 * 1024;

/// API client with the connections and the key of one account. Each call gets the account for which it was created.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    headers: HeaderMap,
    /// Path and query before and after the label id.
    path: [String; 2],
}

/// Status and whole body of an answer.
pub(super) struct WholeAnswer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    /// # Errors
    /// The URL, the key or a proxy is not valid.
    pub fn new(tls: &Tls, account: &Account) -> Result<Self, NoClient> {
        let no_client = |problem: &str| NoClient(format!("account {}: {problem}", account.name));
        let url: Url = account.base_url.parse().map_err(|_| no_client("base_url is not a valid URL"))?;
        let settings = Settings {
            tls: Arc::clone(tls),
            proxies: account.proxies.clone(),
            // The key goes with each request.
            address_policy: (url.scheme() == "http" && !account.allow_insecure)
                .then_some(AddressPolicy { encrypted: false, allow_insecure: false }),
            max_idle: account.max_in_flight as usize,
            limits: ConnectionLimits::default(),
            connect_timeout: Some(CONNECT_TIMEOUT),
        };
        let transport = Transport::new(&url, settings).map_err(no_client)?;
        let mut key = HeaderValue::from_str(account.api_key.expose())
            .map_err(|_| no_client("the API key contains characters that are not valid in a header"))?;
        key.set_sensitive(true);
        let mut headers = transport.headers().clone();
        headers.insert("api-key", key);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let whole =
            format!("{}{}", account.base_url, account.tracking_path.replace("{label_id}", PLACEHOLDER));
        let whole: Url =
            whole.parse().map_err(|_| no_client("base_url and tracking_path are not a valid URL"))?;
        let whole = &whole[Position::BeforePath..Position::AfterQuery];
        let (before, after) = whole.split_once(PLACEHOLDER).unwrap_or((whole, ""));
        let path = [before.to_owned(), after.to_owned()];
        Ok(Self { transport, headers, path })
    }

    /// Polls a label. `last` is the beginning of the digest of the last answer, to recognise an unchanged one. `now` is
    /// the base of a relative `Retry-After`.
    pub async fn read(
        &self,
        account: &Account,
        label: &LabelId,
        last: Option<u64>,
        now: Timestamp,
    ) -> Reading {
        let ([before, after], label) = (&self.path, label.as_str());
        let mut target = String::with_capacity(before.len() + label.len() + after.len());
        target.extend([before, label, after]);
        match self.get(account, &target, now).await {
            Ok(whole) => classify(account, &whole, label, last),
            Err(reading) => reading,
        }
    }

    /// Returns status and whole body, or the reading if the status is enough.
    pub(super) async fn get(
        &self,
        account: &Account,
        target: &str,
        now: Timestamp,
    ) -> Result<WholeAnswer, Reading> {
        let progress = ExchangeProgress::default();
        let exchange = async {
            let no_body = Bytes::new();
            let answer = self.transport.send(&Method::GET, target, &self.headers, &no_body, &progress).await;
            match answer {
                Ok(answer) => read_whole(answer, now).await,
                Err(ExchangeFailure { cause: FailureCause::Address, detail }) => {
                    let url = account.base_url.clone();
                    Err(Reading::WrongEndpoint { status: None, url, detail })
                }
                Err(failure) => Err(reading_of_failure(failure, now)),
            }
        };
        let exchanged = tokio::time::timeout(account.timeout, exchange).await;
        exchanged.unwrap_or(Err(Reading::TimedOut))
    }
}

/// Returns the reading of a whole answer.
fn classify(account: &Account, whole: &WholeAnswer, label: &str, last: Option<u64>) -> Reading {
    let WholeAnswer { status, headers, body } = whole;
    let code = status.as_u16();
    let compressed = compressed(headers);
    let error_text = || match &compressed {
        Some(how) => format!("the error body is compressed ({how}) although identity was requested"),
        None => wire::error_text(body, account.api_key.expose()),
    };
    match *status {
        StatusCode::OK => match compressed {
            Some(how) => Reading::Garbled { status: 200, detail: compressed_detail(&how) },
            None => reading_of_body(body, last),
        },
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED => {
            Reading::Unauthorized { status: code, detail: error_text() }
        }
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN if wire::is_about_account(body) => {
            Reading::Unauthorized { status: code, detail: error_text() }
        }
        StatusCode::NOT_FOUND if wire::is_about_endpoint(body) => {
            let path = account.tracking_path.replace("{label_id}", label);
            Reading::WrongEndpoint {
                status: Some(code),
                url: format!("{}{path}", account.base_url),
                detail: error_text(),
            }
        }
        _ if status.is_client_error() => {
            Reading::Refused { status: code, detail: format!("the server answered {code}: {}", error_text()) }
        }
        _ => Reading::Garbled { status: code, detail: not_tracking_detail(*status, headers) },
    }
}

/// Returns the whole answer, or the reading that follows from its status alone.
async fn read_whole(answer: HttpAnswer, now: Timestamp) -> Result<WholeAnswer, Reading> {
    let HttpAnswer { status, headers, body } = answer;
    if status == StatusCode::TOO_MANY_REQUESTS {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| retry_after::parse(text, now));
        // A 429 stays a 429 even if its body cannot be read.
        let body = tokio::time::timeout(ERROR_BODY_TIMEOUT, body.whole(LARGEST_ERROR)).await;
        let body = body.ok().and_then(Result::ok).flatten().unwrap_or_default();
        return Err(match wire::limit_of(&body) {
            Limit::Account => Reading::Throttled { retry_after },
            Limit::Carrier(carrier) => Reading::CarrierThrottled { carrier, retry_after },
        });
    }
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        // Read the body, so that the connection can be reused.
        let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, body.whole(LARGEST_ERROR)).await;
        return Err(Reading::ServerError { status: status.as_u16() });
    }
    match body.whole(LARGEST_BODY).await {
        Ok(Some(body)) => Ok(WholeAnswer { status, headers, body }),
        Ok(None) => {
            let detail = format!("the answer is larger than {LARGEST_BODY} bytes");
            Err(Reading::Garbled { status: status.as_u16(), detail })
        }
        Err(failure) if failure.cause == FailureCause::Shortage => Err(reading_of_failure(failure, now)),
        Err(failure) => Err(Reading::Garbled {
            status: status.as_u16(),
            detail: format!("the answer is incomplete: {}", failure.detail),
        }),
    }
}

/// Returns the reading of an exchange without an answer.
fn reading_of_failure(failure: ExchangeFailure, now: Timestamp) -> Reading {
    let ExchangeFailure { cause, detail } = failure;
    match cause {
        FailureCause::Shortage => {
            shortage::note(&detail, now);
            Reading::Shortage { detail }
        }
        FailureCause::Unreadable { status } => {
            Reading::Garbled { status: status.unwrap_or_default(), detail }
        }
        FailureCause::Name
        | FailureCause::Address
        | FailureCause::Connect
        | FailureCause::Tls
        | FailureCause::Reset => Reading::NoConnection { detail },
    }
}

/// Returns the reading of the body of a 200. `last` is the prefix of the last body's digest.
pub fn reading_of_body(body: &[u8], last: Option<u64>) -> Reading {
    let digest = digest::of_bytes(body);
    if last == Some(prefix(&digest)) {
        return Reading::SameBytes;
    }
    match Tracking::parse(body) {
        Ok(tracking) => Reading::Answer { tracking: Box::new(tracking), digest },
        Err(_) if body.starts_with(&GZIP) => {
            Reading::Garbled { status: 200, detail: compressed_detail("gzip") }
        }
        Err(error) => Reading::Garbled { status: 200, detail: error.to_string() },
    }
}

/// First bytes of gzip data.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn compressed_detail(how: &str) -> String {
    format!("the answer is compressed ({how}) although identity was requested")
}

/// Returns the compression of a body, if any.
fn compressed(headers: &HeaderMap) -> Option<String> {
    let coding = headers.get(CONTENT_ENCODING)?.to_str().unwrap_or("unknown").trim();
    let plain = coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    (!plain).then(|| coding.chars().take(32).collect())
}

/// Returns the detail of a status without a tracking answer. Names the target of a redirect without its query, which
/// may contain a secret.
fn not_tracking_detail(status: StatusCode, headers: &HeaderMap) -> String {
    let code = status.as_u16();
    let location = headers.get(LOCATION).filter(|_| status.is_redirection());
    match location.and_then(|value| value.to_str().ok()) {
        Some(location) => format!(
            "the server answered {code} and redirects to {}; redirects are not followed",
            shown_location(location)
        ),
        None => format!("the server answered {code}, which is not a tracking answer"),
    }
}
