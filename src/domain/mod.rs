//! All decisions, as pure functions.
//!
//! No async code, I/O, clock, randomness, SQL or environment: `now` and `jitter` are arguments. The layers above fetch, store
//! and send.
//!
//! Imports point down only:
//! `delivery` and `polling` import `messages`, `messages` imports `tracking`, and all of them import the leaves.

// Leaves: names, ids, spans.
pub mod account;
pub mod clock;
pub mod digest;
pub mod label;
pub(crate) mod named_enum;
pub mod proxies;
pub mod registration;
pub mod retry_after;
pub mod secret;
pub mod time;
pub mod words;

// Answers of the API: parsing, identity of events, history.
pub mod tracking;

// Messages for subscribers: ids, bodies, envelopes, signatures.
pub mod messages;

// Which label is polled next, when again, within which limits, and what changed.
pub mod polling;

// Delivery of messages: retry, subscriber health, addresses, replay.
pub mod delivery;

// Degradations that need no restart.
pub mod degraded;

// Recorded or generated answers about a label over time.
pub mod journey;
