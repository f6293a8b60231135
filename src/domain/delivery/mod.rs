//! Delivery: retries, subscriber health, address policy and replay.

// Addresses that callbacks may be sent to.
pub mod address;
// Outcome of an attempt, and the resulting decision: retry, dead or delivered.
pub mod outcome;
// Health of a subscriber: a circuit breaker.
pub mod health;
// Division of a subscriber's concurrency between first attempts and retries.
pub mod concurrency;
// Deliveries that a courier holds in memory.
pub mod outbox;
// Stage that an attempt reached and effect of its `Retry-After`, for display.
pub mod attempt;
// Time and reasons of a delivery's next attempt, for display.
pub mod next_attempt;
// Selection of stored messages for a replay.
pub mod replay;

#[cfg(test)]
mod model;
