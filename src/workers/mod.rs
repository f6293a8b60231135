//! Workers: loops around a step that does one bounded piece of work.

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
