//! What the daemon answers about itself.
//!
//! `/healthz` is 200 while the store answers and every trade gets something done, else 503 and why; `/readyz` is 200
//! between the end of the start and the beginning of the stop. Neither tells anything about parcels or people.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::SignedDuration;
use tokio::net::TcpListener;

use crate::clock;
use crate::pulse::Pulses;
use crate::store::Store;

/// A trade that has not moved for so long is not well.
pub const STILL: SignedDuration = SignedDuration::from_secs(60);

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Health {
    pub store: Store,
    pub pulses: Pulses,
    pub ready: Arc<AtomicBool>,
}

impl Health {
    /// What is wrong; nothing if all is well.
    pub async fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self
            .pulses
            .silent(clock::now(), STILL)
            .into_iter()
            .map(|trade| format!("{trade} has not moved for {} s", STILL.as_secs()))
            .collect();
        match tokio::time::timeout(std::time::Duration::from_secs(5), self.store.ping()).await {
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
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes =
        Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
}

async fn healthz(State(health): State<Health>) -> impl IntoResponse {
    let faults = health.faults().await;
    let well = faults.is_empty();
    answer(well, &serde_json::json!({ "status": if well { "ok" } else { "failing" }, "faults": faults }))
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let ready = health.ready.load(Ordering::Relaxed);
    answer(ready, &serde_json::json!({ "ready": ready }))
}

fn answer(well: bool, body: &serde_json::Value) -> impl IntoResponse + use<> {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_string())
}
