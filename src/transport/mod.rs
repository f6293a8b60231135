//! HTTP/1.1 to one server: a pool of connections, and one exchange after the other on each.
//!
//! The API client and the webhook client use it. Both need facts that a general client hides:
//! - whether a connection was used before, and whether one byte of the answer arrived. If a used connection closes
//!   without an answer, the server closed it while it was idle: the request is sent again once on a new connection,
//!   within the same exchange;
//! - the age of a connection. [`ConnectionLimits`] bounds it, so that a changed address of a name takes effect;
//! - the cause of a failure: the machine, the name, the connection, TLS or the answer ([`ExchangeFailure`]).
//!
//! The task that waits for an answer drives its connection; connections have no tasks of their own.

mod connection;
mod descriptors;
mod failure;
mod origin;
mod resolver;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use rustls::ClientConfig;
use url::Url;

use crate::domain::delivery::address::AddressPolicy;
use crate::domain::delivery::attempt::Stage;
use crate::domain::proxies::Proxies;
use connection::Connection;
use connection::pool::Pool;
use origin::Route;

pub use connection::AnswerBody;
pub use connection::pool::ConnectionLimits;
pub use descriptors::{MIN_DESCRIPTORS, http_connections, limit as descriptor_limit, max_connections};
pub use failure::{ExchangeFailure, FailureCause};
pub use origin::shown_location;
pub use resolver::check_literal;

/// The value of `User-Agent` (contract 3 and 6).
const USER_AGENT: &str = concat!("trackpost/", env!("CARGO_PKG_VERSION"));

/// A client cannot be created: TLS cannot be set up on this machine, or a URL or the key is not valid.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the HTTP client cannot be created: {0}")]
pub struct NoClient(pub String);

/// Settings of the connections to one server.
#[derive(Clone, Debug)]
pub struct Settings {
    pub tls: Arc<ClientConfig>,
    pub proxies: Proxies,
    /// The rule for addresses, if any.
    pub address_policy: Option<AddressPolicy>,
    /// Maximum number of idle connections.
    pub max_idle: usize,
    pub limits: ConnectionLimits,
    /// Timeout for connecting; `None`: the timeout of the whole exchange.
    pub connect_timeout: Option<Duration>,
}

/// The connections to one server. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    route: Arc<Route>,
    pool: Pool,
    /// Headers of every request: `Host`, `User-Agent`, `Accept-Encoding`, the URL's credentials, the proxy's.
    headers: HeaderMap,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // URLs of proxies hold credentials.
        f.write_str("Transport")
    }
}

/// An answer after its status and headers.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

/// Progress of an exchange; readable after a cancellation.
#[derive(Debug)]
pub struct ExchangeProgress(AtomicU8);

impl Default for ExchangeProgress {
    /// An open connection skips all earlier stages.
    fn default() -> Self {
        Self(AtomicU8::new(Stage::Waiting as u8))
    }
}

impl ExchangeProgress {
    pub fn reached(&self) -> Stage {
        let reached = self.0.load(Ordering::Relaxed);
        Stage::ALL.into_iter().find(|stage| *stage as u8 == reached).unwrap_or(Stage::Waiting)
    }

    fn enter(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }
}

impl Transport {
    /// The connections to the server of `url`.
    ///
    /// # Errors
    /// `url` or a proxy's URL is not valid.
    pub fn new(url: &Url, settings: Settings) -> Result<Self, &'static str> {
        let pool = Pool::new(settings.max_idle, settings.limits);
        let route = Route::new(url, settings)?;
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(header::HOST, route.origin.host_header.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(credentials) = origin::basic_auth(url) {
            headers.insert(header::AUTHORIZATION, credentials);
        }
        if let Some(credentials) = route.credentials_of_forwarding() {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        Ok(Self { route: Arc::new(route), pool, headers })
    }

    /// Headers of every request; the caller adds its own.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends one request and waits for status and headers. `target` is path and query. The caller sets a timeout;
    /// `progress` shows the current stage.
    ///
    /// # Errors
    /// Any failure of the network.
    pub async fn send(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        body: &Bytes,
        progress: &ExchangeProgress,
    ) -> Result<HttpAnswer, ExchangeFailure> {
        let uri = self.uri(target)?;
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        if let Some(used) = self.pool.take().await {
            match used.send(request(), &self.pool).await {
                // A 408 on a used connection means that the server closes it; it is not the answer to this request.
                Ok(answer) if answer.status != StatusCode::REQUEST_TIMEOUT => return Ok(answer),
                Err(broken) if !broken.unanswered => return Err(broken.failure),
                // The server has probably closed the other idle connections too.
                Ok(_) | Err(_) => self.pool.clear(),
            }
        }
        let fresh = Connection::open(&self.route, progress).await?;
        progress.enter(Stage::Waiting);
        fresh.send(request(), &self.pool).await.map_err(|broken| broken.failure)
    }

    fn uri(&self, target: &str) -> Result<Uri, ExchangeFailure> {
        let uri = match self.route.forwards_to() {
            None => Bytes::copy_from_slice(target.as_bytes()),
            Some(origin) => Bytes::from(format!("{origin}{target}")),
        };
        Uri::from_maybe_shared(uri).map_err(|error| {
            ExchangeFailure::new(
                FailureCause::Address,
                format!("the URL is not valid for a request: {error}"),
            )
        })
    }
}
