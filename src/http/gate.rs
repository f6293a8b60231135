//! Bounds the work of pages, so that however many are asked for, polls and deliveries go on.
//!
//! [`PLACES`] pages are made at a time, and after each its place rests for [`REST`] times as long as the page took: all
//! pages together take a fifth of a core per place at most. A page that finds no place within [`PATIENCE`] is answered
//! with 503 and `Retry-After`. A place is held until its answer has gone to the connection, so few are in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{self, Stopwatch};

/// Pages that are made at a time.
pub(super) const PLACES: u32 = 2;
const REST: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(1);
/// When to come again, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");
/// All requests together come no closer than this: 400 a second.
const BETWEEN: Duration = Duration::from_micros(2_500);
/// What may come at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// The places for pages.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Semaphore>,
    /// When each free place has rested.
    rested: Mutex<Vec<Duration>>,
    watch: Stopwatch,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES as usize)),
            rested: Mutex::new(vec![Duration::ZERO; PLACES as usize]),
            watch: Stopwatch::start(),
        }
    }
}

/// A page's place; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    gate: Arc<Gate>,
    /// When the place has rested.
    rested: Mutex<Duration>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let rested = *self.rested.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.gate.rested.lock().unwrap_or_else(PoisonError::into_inner).push(rested);
    }
}

impl Gate {
    /// A place, if one is free in time.
    async fn enter(self: Arc<Self>) -> Option<Visit> {
        let entered = async {
            let permit = Arc::clone(&self.places).acquire_owned().await.ok()?;
            let rested = {
                let mut all = self.rested.lock().unwrap_or_else(PoisonError::into_inner);
                let first = (0..all.len()).min_by_key(|place| all[*place])?;
                all.swap_remove(first)
            };
            // From here on it is given back, also if this is given up.
            let visit = Visit { gate: Arc::clone(&self), rested: Mutex::new(rested), _permit: permit };
            clock::sleep(rested.saturating_sub(self.watch.elapsed())).await;
            Some(visit)
        };
        tokio::time::timeout(PATIENCE, entered).await.ok().flatten()
    }
}

/// Lets a request pass once there is a place for it.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Some(visit) = Arc::clone(&gate).enter().await else {
        let say =
            "many pages are asked for at once; polls and deliveries come first. Try again in a moment.\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], say).into_response();
    };
    let began = gate.watch.elapsed();
    let mut answer = next.run(request).await;
    let ended = gate.watch.elapsed();
    *visit.rested.lock().unwrap_or_else(PoisonError::into_inner) = ended + (ended - began) * REST;
    answer.extensions_mut().insert(Arc::new(visit));
    answer
}

/// Spreads all requests over time.
#[derive(Debug)]
pub(super) struct Pace {
    watch: Stopwatch,
    /// When the next request may be answered.
    next: Mutex<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { watch: Stopwatch::start(), next: Mutex::default() }
    }
}

impl Pace {
    pub(super) async fn wait(&self) {
        let now = self.watch.elapsed();
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(now.saturating_sub(BURST));
            *next = turn + BETWEEN;
            turn
        };
        if turn > now {
            clock::sleep(turn - now).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_without_a_place_is_told_so_and_a_place_comes_back() {
        let gate = Arc::new(Gate::default());
        let mut taken = Vec::new();
        for _ in 0..PLACES {
            taken.push(Arc::clone(&gate).enter().await.unwrap());
        }
        assert!(Arc::clone(&gate).enter().await.is_none());
        *taken[0].rested.lock().unwrap() = gate.watch.elapsed() + Duration::from_millis(50);
        taken.clear();
        for _ in 0..PLACES {
            taken.push(Arc::clone(&gate).enter().await.unwrap());
        }
        assert!(gate.rested.lock().unwrap().is_empty());
        drop(taken);
        assert_eq!(gate.rested.lock().unwrap().len(), PLACES as usize);
    }
}
