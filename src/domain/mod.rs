//! The ground floor: everything that decides, and nothing that acts.
//!
//! Total functions of their arguments. No async, no I/O, no clock, no randomness, no SQL, no environment: `now` and
//! `jitter` are arguments. The shell above fetches, stores and sends what is decided here.

pub mod cadence;
pub mod event;
pub mod label;
pub mod message;
pub mod secret;
pub mod signature;
pub mod subscriber;
pub mod tracking;
