//! trackpost: look, compare, promise, keep the promise.
pub mod clock;
pub mod config;
pub mod domain;
pub mod sandbox;
pub mod shipstation;
pub mod store;
pub mod tls;
pub mod webhook;
