//! trackpost: look, compare, promise, keep the promise.
pub mod clock;
pub mod config;
pub mod domain;
pub mod sandbox;
pub mod store;
