//! Delivery: what becomes of an attempt, and when the next one is due.

// Addresses that callbacks may be sent to.
pub mod address;
// What the record of an attempt tells.
pub mod attempt;
// From the outcome of an attempt to the next one.
pub mod outcome;
// The health of a subscriber: a circuit breaker.
pub mod health;
// How a subscriber's capacity is shared between first attempts and retries.
pub mod capacity;
// The deliveries that a courier holds in memory.
pub mod outbox;
// When a delivery is attempted next, and why, for people.
pub mod next_attempt;
// Which stored messages a replay sends.
pub mod replay;

#[cfg(test)]
mod model;
