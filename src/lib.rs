//! trackpost: look, compare, promise, keep the promise.
pub mod clock;
pub mod domain;
pub mod sandbox;
