//! Limit on the work of pages, so that any number of requests leaves time for polls and deliveries.
//!
//! At most [`PAGES_AT_ONCE`] pages are computed at a time. After a page its permit rests for [`REST`] times as long as the
//! page took. So all pages together use at most a fifth of a core per permit. A page without a permit within
//! [`TIMEOUT`] gets a 503 with `Retry-After`. A permit is held until the answer is written to the connection, so few
//! answers are in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{self, Stopwatch};

/// Number of pages computed at a time.
pub(super) const PAGES_AT_ONCE: u32 = 2;
const REST: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(1);
/// Value of `Retry-After` in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// Minimum interval between requests: 400 a second.
const MIN_INTERVAL: Duration = Duration::from_micros(2_500);
/// Burst of requests after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The permits of pages.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    /// The end of the rest of each free permit.
    rested: Mutex<Vec<Duration>>,
    watch: Stopwatch,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(PAGES_AT_ONCE as usize)),
            rested: Mutex::new(vec![Duration::ZERO; PAGES_AT_ONCE as usize]),
            watch: Stopwatch::start(),
        }
    }
}

/// The permit of a page. Dropping it releases it.
#[derive(Debug)]
pub(super) struct PagePermit {
    gate: Arc<Gate>,
    /// End of its rest.
    rested: Mutex<Duration>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for PagePermit {
    fn drop(&mut self) {
        let rested = *self.rested.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.gate.rested.lock().unwrap_or_else(PoisonError::into_inner).push(rested);
    }
}

impl Gate {
    /// Waits for a permit; `None` after a timeout.
    async fn enter(self: Arc<Self>) -> Option<PagePermit> {
        let entered = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            let rested = {
                let mut all = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
                let first = (0..all.len()).min_by_key(|index| all[*index])?;
                all.swap_remove(first)
            };
            // From here on dropping releases it, also if this future is cancelled.
            let permit = PagePermit { gate: Arc::clone(&self), rested: Mutex::new(rested), _permit: permit };
            clock::sleep(rested.saturating_sub(self.watch.elapsed())).await;
            Some(permit)
        };
        tokio::time::timeout(TIMEOUT, entered).await.ok().flatten()
    }
}

/// Lets a request pass when it gets a permit.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Some(permit) = Arc::clone(&gate).enter().await else {
        let body =
            "too many requests at once; polls and deliveries take precedence. Try again in a few seconds.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response();
    };
    let began = gate.watch.elapsed();
    let mut answer = next.run(request).await;
    let ended = gate.watch.elapsed();
    *permit.rested.lock().unwrap_or_else(PoisonError::into_inner) = ended + (ended - began) * REST;
    answer.extensions_mut().insert(Arc::new(permit));
    answer
}

/// Spaces all requests in time.
#[derive(Debug)]
pub(super) struct RequestSpacing {
    watch: Stopwatch,
    /// Earliest time of the next answer. Locked while a request waits, so a cancelled request takes no turn.
    next: tokio::sync::Mutex<Duration>,
}

impl Default for RequestSpacing {
    fn default() -> Self {
        Self { watch: Stopwatch::start(), next: tokio::sync::Mutex::default() }
    }
}

impl RequestSpacing {
    pub(super) async fn wait(&self) {
        let mut next = self.next.lock().await;
        let now = self.watch.elapsed();
        let turn = (*next).max(now.saturating_sub(BURST));
        if turn > now {
            clock::sleep(turn - now).await;
        }
        *next = turn + MIN_INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_without_a_permit_gets_503_and_permits_are_released() {
        let gate = Arc::new(Gate::default());
        let mut taken = Vec::new();
        for _ in 0..PAGES_AT_ONCE {
            taken.push(Arc::clone(&gate).enter().await.unwrap());
        }
        assert!(Arc::clone(&gate).enter().await.is_none());
        *taken[0].rested.lock().unwrap() = gate.watch.elapsed() + Duration::from_millis(50);
        taken.clear();
        for _ in 0..PAGES_AT_ONCE {
            taken.push(Arc::clone(&gate).enter().await.unwrap());
        }
        assert!(gate.rested.lock().unwrap().is_empty());
        drop(taken);
        assert_eq!(gate.rested.lock().unwrap().len(), PAGES_AT_ONCE as usize);
    }
}
