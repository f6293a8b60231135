//! Cache of a response that is computed at most once a second.

use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Stopwatch;

/// Lifetime of a response.
const LIFETIME: Duration = Duration::from_secs(1);

/// The last response and its time. Concurrent requests wait for one computation.
#[derive(Debug)]
pub(super) struct Cached<T>(Mutex<Option<(Stopwatch, T)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Cached<T> {
    pub(super) async fn get(&self, compute: impl AsyncFnOnce() -> T) -> T {
        let mut known = self.0.lock().await;
        if let Some((since, known)) = &*known
            && since.elapsed() < LIFETIME
        {
            return known.clone();
        }
        let computed = compute().await;
        *known = Some((Stopwatch::start(), computed.clone()));
        computed
    }
}
