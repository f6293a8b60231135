//! The user agent of requests to the API and to subscribers (contract 3 and 6).

/// The value of `User-Agent`.
pub const USER_AGENT: &str = concat!("trackpost/", env!("CARGO_PKG_VERSION"));
