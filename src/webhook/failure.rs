//! Tells failures apart: what a client's error means, and what of it may be said.
//!
//! The client nests its errors up to six deep, and each library says the same in its own words; the kind is taken from
//! types, never from words.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::domain::address::Refusal;
use crate::domain::delivery::Outcome;

/// What became of an attempt that ended in `error`, and what went wrong in words.
pub(super) fn of(error: &reqwest::Error) -> (Outcome, String) {
    for cause in causes(error) {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return (Outcome::AddressRefused, refusal.to_string());
        }
    }
    (outcome(error), words(error))
}

fn outcome(error: &reqwest::Error) -> Outcome {
    if error.is_dns() {
        return Outcome::NameUnknown;
    }
    let mut broke = false;
    for cause in causes(error) {
        if cause.is::<rustls::Error>() {
            return Outcome::Tls;
        }
        match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => return Outcome::ConnectionRefused,
            Some(ErrorKind::TimedOut) => return Outcome::TimedOut { connected: !error.is_connect() },
            Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe) => {
                broke = true
            }
            _ => {}
        }
    }
    if error.is_timeout() {
        return Outcome::TimedOut { connected: !error.is_connect() };
    }
    // Unreachable networks and hosts are no connection either, as is a proxy that refuses.
    if error.is_connect() && !broke { Outcome::ConnectionRefused } else { Outcome::Reset }
}

/// Everything beneath `error`.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |error| beneath(*error))
}

/// The next cause. An I/O error that wraps another speaks in its words and passes over it as a source.
fn beneath<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What went wrong, without the URL: it may hold a secret.
fn words(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.dedup();
    if words.is_empty() { "the exchange failed".to_owned() } else { words.join(": ") }
}
