//! Idle connections to one server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Connection;
use crate::clock;
use crate::transport::descriptors;

/// Limits on the use of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Maximum age at the start of a request.
    pub age: Duration,
    /// Maximum idle time. The next sweep closes the connection at the latest.
    pub idle: Duration,
    pub sweep_every: Duration,
}

impl Default for ConnectionLimits {
    /// Each name is resolved again at least once a minute, and a connection is idle for at most 30 s.
    fn default() -> Self {
        Self {
            age: Duration::from_secs(50),
            idle: Duration::from_secs(25),
            sweep_every: Duration::from_secs(5),
        }
    }
}

/// Idle connections, the latest used last. Cheap to clone.
#[derive(Clone)]
pub(in crate::transport) struct Pool {
    idle: Arc<Mutex<Idle>>,
    max_idle: usize,
    limits: ConnectionLimits,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Whether a task that closes old connections runs.
    swept: bool,
}

impl Pool {
    pub(in crate::transport) fn new(max_idle: usize, limits: ConnectionLimits) -> Self {
        Self { idle: Arc::default(), max_idle, limits }
    }

    /// Returns the latest used connection that seems to be open.
    pub(in crate::transport) async fn take(&self) -> Option<Connection> {
        loop {
            let mut connection = self.lock().connections.pop()?;
            if connection.is_fit(&self.limits) && connection.is_open().await {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection that is ready for another request.
    pub(in crate::transport) fn put(&self, connection: Connection) {
        let mut idle = self.lock();
        if idle.connections.len() >= self.max_idle || descriptors::are_scarce() {
            return;
        }
        idle.connections.push(connection);
        if !idle.swept {
            idle.swept = true;
            self.sweep();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "it ends with the pool, or when there is nothing to close")]
    fn sweep(&self) {
        tokio::spawn(sweep(Arc::downgrade(&self.idle), self.limits));
    }

    pub(in crate::transport) fn clear(&self) {
        self.lock().connections.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(idle: Weak<Mutex<Idle>>, limits: ConnectionLimits) {
    loop {
        clock::sleep(limits.sweep_every).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.connections.retain(|connection| connection.is_fit(&limits));
        idle.swept = !idle.connections.is_empty();
        if !idle.swept {
            return;
        }
    }
}
