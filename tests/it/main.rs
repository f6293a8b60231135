//! Integration tests: the contract, the files shipped beside the code, and the layers of the code.
//!
//! Most tests use the [`harness`]: the real store, poller and couriers, stepped with an instant as an argument, against
//! the real sandbox and receiver over loopback. Others start the real binary as a child process ([`harness::child`]).
//! Tests pass later instants to let virtual days pass. No test sleeps where it can call a step.
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
mod disks;
mod explained;
mod feed;
mod freshness;
mod handover;
mod harness;
mod history;
mod http_bounds;
mod init;
mod invariants;
mod layers;
mod learned_rates;
mod metrics;
mod order;
mod output;
mod pages;
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
