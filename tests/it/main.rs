//! trackpost from outside: the law of the contract as behaviour, what is shipped beside the code, the laws of the house.
//!
//! Most tests live in a [`house`]: the real store, poller and couriers, stepped with an instant as an argument, against
//! the real sandbox and receiver over loopback. `process` starts the real binary. Virtual days pass by passing later
//! instants; nobody sleeps where a step can be called.
#![allow(clippy::disallowed_methods, reason = "tests spawn the servers that they talk to")]

mod account;
mod addresses;
mod backup;
mod breaker;
mod callbacks;
mod clocks;
mod commands;
mod connections;
mod crash;
mod database;
mod delivery;
mod deploy;
mod discovery;
mod explained;
mod feed;
mod freshness;
mod handover;
mod history;
mod house;
mod init;
mod invariants;
mod layers;
mod learned_rates;
mod order;
mod output;
mod plans;
mod process;
mod quota;
mod reading;
mod readme;
mod registry;
mod replay;
mod restored;
mod retry;
mod scans;
mod schedule;
mod service;
mod shortage;
mod signing;
mod startup;
mod status;
mod subscribers;
mod system;
mod tls;
mod upkeep;
