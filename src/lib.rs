//! trackpost polls ShipStation for the tracking of labels and posts a signed callback when something is new.
//!
//! ShipStation has no webhook for most tracking events, and its API requests are limited and may cost money. trackpost
//! polls each label on a backoff, keeps the history, compares each answer with it, and posts the changes to the
//! subscribers until they accept them. It is one pipeline of four steps:
//!
//! 1. **Poll.** A [`workers::poller`] per account polls each label when its cadence says so, within the account's quota.
//! 2. **Diff.** [`domain::tracking`] compares the answer with the label's history: which carrier events are new, revised
//!    or gone.
//! 3. **Message.** [`domain::messages`] turns changes into messages, and each message into a delivery for every
//!    subscriber that selects it. The store writes all of it in one transaction, with the next poll.
//! 4. **Deliver.** A [`workers::courier`] per subscriber posts each delivery until it is accepted, in order per label.
//!
//! The database is the truth, and start-up is the recovery path: due work is done late after a stop or a crash. Nothing
//! is lost, and a repeated message keeps its id.
//!
//! # Modules, in reading order
//!
//! | module | purpose |
//! |---|---|
//! | [`domain`] | every decision, pure: `tracking`, `messages`, `polling`, `delivery`, and the leaves below them |
//! | [`clock`], [`crash`] | the only source of time and randomness; moments at which the torture test ends the process |
//! | [`metrics`], [`shortage`] | counts and durations of this process, shortages of the machine |
//! | [`config`] | TOML text in, validated domain types out |
//! | [`notices`] | degradations of this process |
//! | [`store`] | SQLite: one writer connection, separate reader connections; the only modules that name `sqlx` |
//! | [`tls`], [`transport`] | TLS configuration; HTTP/1.1 to one server: a pool of connections, proxies |
//! | [`shipstation`], [`webhook`] | HTTP client for the API, HTTP client for receivers |
//! | [`workers`] | poller, discoverer, courier, registrar, janitor: a loop around a step |
//! | [`explanation`] | why a poll or a delivery is due when it is, in words |
//! | [`sandbox`], [`simulation`] | a fake ShipStation, a verifying receiver, and the ledger that audits both; polls in virtual time |
//! | [`http`] | health, status page, metrics, message feed |
//! | [`daemon`] | starts the workers, supervises, reloads, stops |
//! | [`cli`] | one file per command |
//!
//! Imports point down only: `cli → daemon → workers, http → store, shipstation, webhook → domain`. A test reads
//! `src/**` and fails on an import that points up, and on a cycle.
//!
//! # Rules
//!
//! - A worker is a loop around `step(now)`, which does one bounded piece of work. Tests call steps.
//! - A decision is made once, in [`domain`], as a value that carries its reason. The store writes value and reason.
//! - Time is an argument. Only [`clock`] reads the clock.
//! - A transaction never spans an HTTP request.
//! - A failure of the outside world is a value. A fault of trackpost is an error. When the state is unknown, the
//!   process exits; the next start recovers.
//! - Rows that must not exist cannot be written: the schema checks them.
//!
//! # Glossary
//!
//! - **Label**: a ShipStation label, polled for its tracking. Its id is unique within an account.
//! - **Tracking event**: one scan by a carrier, as the API returns it.
//! - **Message**: one change, immutable, with an id and a `seq` within its label.
//! - **Delivery**: a message to one subscriber. **Attempt**: one POST of it.
//! - **Lane**: the undelivered messages of one label to one subscriber, in order.
//! - **Outbox**: all deliveries that are not finished.
//! - **Cadence**: the table of intervals between polls.
//! - **Baseline**: a first answer that is recorded and makes no message.
//! - **(contract 7.4)**: a section of the contract with users, which states each promise; it is kept beside the repository.
//!   The README says the same to operators.

pub mod domain;

pub mod clock;
pub mod crash;

pub mod metrics;
pub mod shortage;

pub mod config;
pub mod notices;
pub mod store;

pub mod tls;
pub mod transport;

pub mod shipstation;
pub mod webhook;

pub mod workers;

pub mod explanation;

pub mod sandbox;
pub mod simulation;

pub mod http;

pub mod daemon;

pub mod cli;
