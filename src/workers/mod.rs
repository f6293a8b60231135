//! Workers: loops around a step that does one bounded piece of work.

use crate::store::StoreError;

// Polls the labels of an account.
pub mod poller;
// Finds new labels of an account.
pub mod discoverer;
// Delivers to one subscriber.
pub mod courier;
// Keeps the registry in step with the configuration and its label files.
pub mod registrar;
// Deletes old rows and writes learned rates.
pub mod janitor;

// An account's use of the API, shared by the workers that send requests.
pub mod account_access;
// Heartbeats for the watchdog.
pub mod heartbeat;
// The tasks that a worker has in flight.
pub mod in_flight;
// Learned change rates, shared by the pollers.
pub mod learned_rates;

/// Runs `work`, which reads files or computes for long, on a thread that may block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Panicked(error.to_string()))
}
