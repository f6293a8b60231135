//! trackpost: look, compare, promise, keep the promise.
pub mod cli;
pub mod clock;
pub mod config;
pub mod courier;
pub mod daemon;
pub mod domain;
pub mod http;
pub mod janitor;
pub mod poller;
pub mod pulse;
pub mod registrar;
pub mod sandbox;
pub mod shipstation;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod webhook;
