//! HTTP port of the daemon: health, metrics, status pages, keys, and the feed of messages.
//!
//! `/healthz` is 200 while the store answers and every worker makes progress, else 503 with the reasons. It also lists
//! problems that need no restart, with details for requests with the token. `/readyz` is 200 from the end of the start
//! to the beginning of the stop. These and the public keys at `/jwks` contain no data about parcels or people, so they
//! need no token. Pages, metrics and the feed need the token if one is configured.
//!
//! Load on this port must not stop polls and deliveries: `server` limits connections in number and time, and
//! `page_limiter` limits the work of pages, which have their own database connections. Health and metrics are computed at
//! most once a second.

mod cached;
mod feed;
mod guard;
mod host;
mod metrics;
mod page_limiter;
mod pages;
mod server;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock;
use crate::domain::degraded::Degraded;
use crate::domain::secret::Hidden;
use crate::notices::Notices;
use crate::store::Store;
use crate::store::views::degraded::{self, Configured};
use crate::workers::heartbeat::Heartbeats;
use cached::Cached;

/// Time within which the database of a healthy process answers.
pub const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without progress after which a worker is unhealthy.
pub const MAX_HEARTBEAT_GAP: SignedDuration = SignedDuration::from_secs(60);

/// State of the HTTP server: everything that the responses are computed from.
#[derive(Clone, Debug)]
pub struct HttpState {
    pub store: Store,
    pub heartbeats: Heartbeats,
    pub ready: Arc<AtomicBool>,
    /// The token (`http.token`), needed for pages, metrics and the feed.
    pub token: Option<Hidden<String>>,
    /// Problems that need no restart.
    pub notices: Notices,
    /// The listen address, and further names of the server.
    pub listen: SocketAddr,
    pub hosts: Vec<String>,
    /// The configuration; changes with a reload.
    pub configured: watch::Receiver<Arc<Configured>>,
    /// The published key set; changes with a reload.
    pub jwks: watch::Receiver<Arc<str>>,
}

/// Returns the faults that a restart may fix; empty if healthy.
pub async fn faults(store: &Store, heartbeats: &Heartbeats) -> Vec<String> {
    let silent = heartbeats.silent(clock::now(), MAX_HEARTBEAT_GAP).into_iter();
    let mut faults: Vec<String> = silent
        .map(|worker| format!("{worker} made no progress for {} s", MAX_HEARTBEAT_GAP.as_secs()))
        .collect();
    match tokio::time::timeout(DATABASE_TIMEOUT, store.check_alive()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => faults.push(error.to_string()),
        Err(_) => faults.push(format!("the database did not answer within {} s", DATABASE_TIMEOUT.as_secs())),
    }
    faults
}

impl HttpState {
    /// Returns the problems that need no restart, most urgent first. If the database does not answer,
    /// [`faults`] reports it.
    pub async fn degraded(&self) -> Vec<Degraded> {
        let configured = Arc::clone(&self.configured.borrow());
        let query = degraded::degraded(&self.store, &configured, clock::now());
        let found = tokio::time::timeout(DATABASE_TIMEOUT, query).await.ok().and_then(Result::ok);
        self.with_notices(found.unwrap_or_default())
    }

    /// Adds the problems that are not in the database.
    fn with_notices(&self, mut found: Vec<Degraded>) -> Vec<Degraded> {
        found.extend(self.notices.degraded(clock::now()));
        found.sort_by_key(|degraded| degraded.what);
        found
    }
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    server::serve(listener, routes(state), shutdown).await;
}

fn routes(state: HttpState) -> Router {
    let page_state = HttpState { store: state.store.for_pages(), ..state.clone() };
    let limiter = Arc::new(page_limiter::PageLimiter::default());
    let pages = Router::new()
        .route("/labels/{id}", get(pages::label))
        .route("/subscribers/{name}", get(pages::subscriber))
        .route("/messages/{id}", get(pages::message))
        .route("/messages", get(feed::messages))
        .with_state(page_state.clone())
        .merge(
            Router::new().route("/", get(pages::overview)).with_state((page_state.clone(), Arc::default())),
        )
        .route_layer(from_fn_with_state(limiter, page_limiter::limit));
    let guarded = Router::new()
        .route("/metrics", get(metrics::metrics))
        .with_state((page_state, Arc::default()))
        .merge(pages)
        .route_layer(from_fn_with_state(state.clone(), guard::require_token));
    Router::new()
        .route("/healthz", get(healthz))
        .with_state((state.clone(), Arc::default()))
        .route("/readyz", get(readyz))
        .route("/jwks", get(jwks))
        .route("/login", post(guard::login))
        .merge(guarded)
        .fallback(pages::no_such_page)
        .layer(DefaultBodyLimit::max(4 << 10))
        .layer(from_fn_with_state(state.clone(), host::check))
        .with_state(state)
}

/// Faults, and problems that need no restart.
type HealthResponse = (Vec<String>, Vec<Degraded>);

async fn healthz(
    State((state, cached)): State<(HttpState, Arc<Cached<HealthResponse>>)>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let (faults, mut degraded) =
        cached.get(async || (faults(&state.store, &state.heartbeats).await, state.degraded().await)).await;
    if !guard::may_read(&state, &headers) {
        degraded.iter_mut().for_each(|degraded| degraded.detail = None);
    }
    let healthy = faults.is_empty();
    let status = if healthy { "ok" } else { "failing" };
    health_response(healthy, &serde_json::json!({ "status": status, "faults": faults, "degraded": degraded }))
}

async fn readyz(State(state): State<HttpState>) -> impl IntoResponse {
    let ready = state.ready.load(Ordering::Relaxed);
    health_response(ready, &serde_json::json!({ "ready": ready }))
}

/// `GET /jwks`: public keys of the signatures of callbacks, in the vendor's format.
///
/// Receivers may cache the keys for five minutes. To change keys, publish the new key for longer than that before
/// signing with it.
async fn jwks(State(state): State<HttpState>) -> impl IntoResponse {
    let keys = state.jwks.borrow().to_string();
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, keys)
}

fn health_response(healthy: bool, body: &serde_json::Value) -> Response {
    json(if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body.to_string())
}

fn json_error(status: StatusCode, error: &str) -> Response {
    json(status, serde_json::json!({ "error": error }).to_string())
}

fn json(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
