//! trackpost watches parcels for people who ship with ShipStation, and tells their programs what is new.
//!
//! ShipStation tells where a parcel is when asked, and tells few unasked. So somebody has to ask, not too often, because
//! calls are counted and may cost money; to remember what was said; to find what is new in it; and to pass that on,
//! signed, until it is accepted. That is all there is:
//!
//! 1. **Look.** A [`poller`] per account asks about each label when its cadence says so, within the account's quota.
//! 2. **Compare.** The answer is held against the label's history: which carrier events are new, revised, gone.
//! 3. **Promise.** What is new becomes messages, and each message a delivery to everybody who wants it; all of it is
//!    written in one transaction, with the next poll, or none of it is.
//! 4. **Keep the promise.** A [`courier`] per subscriber posts what is due until it is accepted, in order per label.
//!
//! The database is the truth. Start-up is the recovery path and the same code as every day: what is due is due, whether
//! we slept or died. So nothing is lost, and what is sent again is sent under the same id.
//!
//! # Floor plan
//!
//! | floor | rooms |
//! |---|---|
//! | the door | [`cli`]: arguments and printing |
//! | the house | [`daemon`]: wires, spawns, hears signals, drains; [`systemd`], [`pulse`], [`http`] |
//! | the trades | [`poller`], [`scout`], [`courier`], [`registrar`], [`janitor`]: each a loop around a step |
//! | what they share | [`desk`]: an account's use of the API; [`experience`]: what was learnt of carriers; [`in_flight`]: what a trade has under way; [`attention`], [`notices`]: what is degraded |
//! | the tools | [`store`] (SQLite), [`shipstation`] (API client), [`webhook`] (webhook client), [`transport`] (their connections), [`shortage`], [`config`], [`clock`], [`agent`], [`tls`] |
//! | the ground | [`domain`]: everything that decides; pure |
//! | the yard | [`sandbox`]: a fake ShipStation and a receiver that verifies; [`simulation`]: polls in virtual time |
//!
//! Arrows point down only; siblings never meet.
//!
//! # Laws
//!
//! - A trade is a loop around `step(now)`, which does one bounded piece of work. Tests call steps.
//! - Plan, then act: decisions are values with names, and the shell executes them without an `if` about the domain.
//! - Time is an argument. Only [`clock`] reads one.
//! - No transaction is open across HTTP: take, ask, record.
//! - The outside world's failures are values; ours are errors. When we no longer know the state, we end, and start anew.
//! - Impossible rows are unwritable: the migrations read like laws.
//!
//! # Glossary
//!
//! **Label**: what is watched; its id, within an account, is its name for ever. **Tracking event**: one scan by a
//! carrier, as the API tells it. **Message**: one change, immutable, with one id and a `seq` within its label.
//! **Delivery**: a message on its way to one subscriber. **Attempt**: one POST of it. **Lane**: the undelivered messages
//! of one label to one subscriber, in order. **Baseline**: a first answer that is recorded and not told.

pub mod agent;
pub mod attention;
pub mod cli;
pub mod clock;
pub mod config;
pub mod courier;
pub mod daemon;
pub mod desk;
pub mod domain;
pub mod experience;
pub mod http;
pub mod in_flight;
pub mod janitor;
pub mod notices;
pub mod poller;
pub mod pulse;
pub mod registrar;
pub mod sandbox;
pub mod scout;
pub mod shipstation;
pub mod shortage;
pub mod simulation;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod transport;
pub mod webhook;
