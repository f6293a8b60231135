//! What the daemon answers about itself, and the feed of its messages.
//!
//! `/healthz` is 200 while the store answers and every trade gets something done, else 503 and why; `/readyz` is 200
//! between the end of the start and the beginning of the stop. Neither tells anything about parcels or people, nor do
//! the public keys at `/jwks`, so they are open. The feed does, and asks for the token where one is configured.

mod feed;
mod guard;
mod keys;

use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::SignedDuration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::domain::secret::Hidden;
use crate::notices::Notices;
use crate::pulse::Pulses;
use crate::store::Store;

/// How long answers under way may take when the daemon stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A trade that has not moved for so long is not well.
pub const STILL: SignedDuration = SignedDuration::from_secs(60);

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    pub store: Store,
    pub pulses: Pulses,
    pub ready: Arc<AtomicBool>,
    /// What readers of anything but health must know (`http.token`).
    pub token: Option<Hidden<String>>,
    /// What is degraded and no reason to restart.
    pub notices: Notices,
    /// The key set that is published; it changes with a reload.
    pub jwks: watch::Receiver<Arc<str>>,
}

impl Sources {
    /// What is wrong; nothing if all is well.
    pub async fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .pulses
            .silent(clock::now(), STILL)
            .into_iter()
            .map(|trade| format!("{trade} has not moved for {} s", STILL.as_secs()))
            .collect();
        match tokio::time::timeout(Duration::from_secs(5), self.store.ping()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => faults.push(error.to_string()),
            Err(_) => faults.push("the database did not answer within 5 s".to_owned()),
        }
        faults
    }
}

/// Listens at `listen`. The port is taken when this returns.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(listen).await
}

/// Answers until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    sources: Sources,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let guarded = Router::new()
        .route("/messages", get(feed::messages))
        .route_layer(middleware::from_fn_with_state(sources.clone(), guard::let_in));
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/jwks", get(keys::jwks))
        .merge(guarded)
        .with_state(sources);
    let (tell, told) = oneshot::channel::<()>();
    let stop = async move {
        // Nothing is ever sent: it closes.
        let _ = told.await;
    };
    let mut served = pin!(axum::serve(listener, routes).with_graceful_shutdown(stop).into_future());
    tokio::select! {
        served = &mut served => return served,
        () = shutdown => drop(tell),
    }
    // A request of which only half ever comes must not hold up the stop.
    tokio::time::timeout(LAST_ANSWERS, served).await.unwrap_or(Ok(()))
}

async fn healthz(State(sources): State<Sources>) -> impl IntoResponse {
    let faults = sources.faults().await;
    let well = faults.is_empty();
    answer(well, &serde_json::json!({ "status": if well { "ok" } else { "failing" }, "faults": faults }))
}

async fn readyz(State(sources): State<Sources>) -> impl IntoResponse {
    let ready = sources.ready.load(Ordering::Relaxed);
    answer(ready, &serde_json::json!({ "ready": ready }))
}

fn answer(well: bool, body: &serde_json::Value) -> Response {
    json(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body.to_string())
}

fn json(status: StatusCode, body: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}
