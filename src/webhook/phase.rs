//! How far an attempt has come: when its time runs out, this tells what it waited for.
//!
//! Resolver, connector and TLS serve a pool and know of no attempt. But they run within the task that waits for them, so
//! each marks its stage there and the attempt reads it. A connection that the pool goes on with in a task of its own,
//! because another became free first, marks nothing any more.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use tower_layer::Layer;
use tower_service::Service;

use crate::domain::attempt::Stage;

tokio::task_local! {
    static REACHED: Arc<AtomicU8>;
}

/// Marks that the attempt of this task is so far; nothing outside of one.
pub(super) fn enter(stage: Stage) {
    let _ = REACHED.try_with(|reached| reached.store(stage as u8, Ordering::Relaxed));
}

/// How far one attempt is.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// A connection that is open already needs no other stage.
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(Stage::Waiting as u8)))
    }

    pub(super) fn reached(&self) -> Stage {
        let reached = self.0.load(Ordering::Relaxed);
        Stage::ALL.into_iter().find(|stage| *stage as u8 == reached).unwrap_or(Stage::Waiting)
    }

    /// Runs `exchange` as what this tells about.
    pub(super) async fn of<F: Future>(&self, exchange: F) -> F::Output {
        REACHED.scope(Arc::clone(&self.0), exchange).await
    }
}

/// Marks where connecting begins and ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched;

impl<S> Layer<S> for Watched {
    type Service = WatchedConnector<S>;

    fn layer(&self, connector: S) -> WatchedConnector<S> {
        WatchedConnector(connector)
    }
}

#[derive(Clone, Debug)]
pub(super) struct WatchedConnector<S>(S);

type Connecting<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, R> Service<R> for WatchedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Connecting<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        enter(Stage::Connecting);
        let own = REACHED.try_with(Arc::clone).ok();
        let mut connecting = Box::pin(self.0.call(destination));
        Box::pin(poll_fn(move |cx| {
            if let (Some(own), Err(_)) = (&own, REACHED.try_with(|_| ())) {
                // The pool has moved it into the background: the attempt goes over another connection.
                own.store(Stage::Waiting as u8, Ordering::Relaxed);
            }
            let polled = connecting.as_mut().poll(cx);
            if let Poll::Ready(Ok(_)) = polled {
                enter(Stage::Waiting);
            }
            polled
        }))
    }
}

/// The sessions to resume. It is asked first thing in every handshake, and so marks where that begins.
#[derive(Debug)]
pub(super) struct Sessions(ClientSessionMemoryCache);

impl Sessions {
    pub(super) fn new(size: usize) -> Self {
        Self(ClientSessionMemoryCache::new(size))
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        enter(Stage::Handshaking);
        self.0.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server_name, value);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.0.remove_tls12_session(server_name);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server_name)
    }
}
