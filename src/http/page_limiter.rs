//! Limit on the work of pages, so that any number of requests leaves time for polls and deliveries.
//!
//! At most [`PAGES_AT_ONCE`] pages are computed at a time. After a page, its permit stays unused for [`COOLDOWN_FACTOR`]
//! times the duration of the page. So all pages together use at most a fifth of a core per permit. A page without a
//! permit within [`TIMEOUT`] gets a 503 with `Retry-After`. A permit is held until the response is written to the
//! connection, so few responses are in memory.

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
/// Time for which a permit stays unused after a page, as a multiple of the duration of the page.
const COOLDOWN_FACTOR: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(1);
/// Value of `Retry-After` in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// Minimum interval between requests: 400 a second.
const MIN_INTERVAL: Duration = Duration::from_micros(2_500);
/// Burst of requests after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The permits of pages.
#[derive(Debug)]
pub(super) struct PageLimiter {
    permits: Arc<Semaphore>,
    /// Earliest use of each free permit.
    cooldown_ends: Mutex<Vec<Duration>>,
    watch: Stopwatch,
}

impl Default for PageLimiter {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(PAGES_AT_ONCE as usize)),
            cooldown_ends: Mutex::new(vec![Duration::ZERO; PAGES_AT_ONCE as usize]),
            watch: Stopwatch::start(),
        }
    }
}

/// The permit of a page. Dropping it releases it.
#[derive(Debug)]
pub(super) struct PagePermit {
    limiter: Arc<PageLimiter>,
    /// Earliest next use.
    cooldown_end: Mutex<Duration>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for PagePermit {
    fn drop(&mut self) {
        let end = *self.cooldown_end.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.limiter.cooldown_ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
    }
}

impl PageLimiter {
    /// Waits for a permit; `None` after a timeout.
    async fn acquire(self: Arc<Self>) -> Option<PagePermit> {
        let acquired = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            let cooldown_end = {
                let mut all = self.cooldown_ends.lock().unwrap_or_else(PoisonError::into_inner);
                let first = (0..all.len()).min_by_key(|index| all[*index])?;
                all.swap_remove(first)
            };
            // From here on dropping releases it, also if this future is cancelled.
            let permit = PagePermit {
                limiter: Arc::clone(&self),
                cooldown_end: Mutex::new(cooldown_end),
                _permit: permit,
            };
            clock::sleep(cooldown_end.saturating_sub(self.watch.elapsed())).await;
            Some(permit)
        };
        tokio::time::timeout(TIMEOUT, acquired).await.ok().flatten()
    }
}

/// Lets a request pass when it gets a permit.
pub(super) async fn limit(State(limiter): State<Arc<PageLimiter>>, request: Request, next: Next) -> Response {
    let Some(permit) = Arc::clone(&limiter).acquire().await else {
        let body =
            "too many requests at once; polls and deliveries take precedence. Try again in a few seconds.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response();
    };
    let began = limiter.watch.elapsed();
    let mut response = next.run(request).await;
    let ended = limiter.watch.elapsed();
    *permit.cooldown_end.lock().unwrap_or_else(PoisonError::into_inner) =
        ended + (ended - began) * COOLDOWN_FACTOR;
    response.extensions_mut().insert(Arc::new(permit));
    response
}

/// Spaces all requests in time.
#[derive(Debug)]
pub(super) struct RequestSpacing {
    watch: Stopwatch,
    /// Earliest time of the next request. Locked while a request waits, so a cancelled request takes no turn.
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
        let limiter = Arc::new(PageLimiter::default());
        let mut taken = Vec::new();
        for _ in 0..PAGES_AT_ONCE {
            taken.push(Arc::clone(&limiter).acquire().await.unwrap());
        }
        assert!(Arc::clone(&limiter).acquire().await.is_none());
        *taken[0].cooldown_end.lock().unwrap() = limiter.watch.elapsed() + Duration::from_millis(50);
        taken.clear();
        for _ in 0..PAGES_AT_ONCE {
            taken.push(Arc::clone(&limiter).acquire().await.unwrap());
        }
        assert!(limiter.cooldown_ends.lock().unwrap().is_empty());
        drop(taken);
        assert_eq!(limiter.cooldown_ends.lock().unwrap().len(), PAGES_AT_ONCE as usize);
    }
}
