//! Every decision, as pure functions of their arguments.
//!
//! There is no async code here, no I/O, clock, randomness, SQL or environment: `now` and `jitter` are arguments. The
//! layers above fetch, store and send what is decided here.
//!
//! Imports point down this list only:
//! `delivery` and `polling` import `messages`, `messages` imports `tracking`, and all of them import the leaves.

// Leaves: names, ids, spans.
pub mod account;
pub mod clock;
pub mod digest;
pub mod label;
pub mod proxies;
pub mod retry_after;
pub mod secret;
pub mod time;

// What the API said: parsing, identity of events, history, diff.
pub mod tracking;

// What subscribers are told: ids, bodies, envelopes, signatures.
pub mod messages;

// Which label is polled next, when again, and within which limits.
pub mod polling;

// What becomes of each delivery: retry, subscriber health, addresses, replay.
pub mod delivery;

// What is degraded, and no reason to restart.
pub mod degraded;

// What the API answers about a label over time, as recorded or generated.
pub mod journey;
