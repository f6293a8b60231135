//! The ground floor: everything that decides, and nothing that acts.
//!
//! Total functions of their arguments. No async, no I/O, no clock, no randomness, no SQL, no environment: `now` and
//! `jitter` are arguments. The shell above fetches, stores and sends what is decided here.

pub mod account;
pub mod address;
pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod cadence;
pub mod change;
pub mod clock;
pub mod degraded;
pub mod delivery;
pub mod digest;
pub mod discovery;
pub mod event;
pub mod freshness;
pub mod history;
pub mod journey;
pub mod label;
pub mod ledger;
pub mod message;
#[cfg(test)]
mod model;
pub mod next_attempt;
pub mod outbox;
pub mod outlook;
pub mod pace;
pub mod poll;
pub mod proxies;
pub mod quota;
pub mod reading;
pub mod replay;
pub mod retry_after;
pub mod rhythm;
pub mod schedule;
pub mod secret;
pub mod share;
pub mod signature;
pub mod silence;
pub mod slots;
pub mod snapshot;
pub mod span;
pub mod subscriber;
pub mod system;
pub mod tracking;
