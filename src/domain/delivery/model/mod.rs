//! Model test: an outbox and its courier in virtual time, with only the decisions of this layer.
//!
//! The store and the courier do the same in SQL and over HTTP. The model is small enough for thousands of generated
//! histories, with memory for all deliveries and with little memory. It checks for each history: no message is lost,
//! none has two attempts in flight, none overtakes another of its lane, none becomes dead except by contract 7.5, and
//! no message waits long once the receiver is ok.

mod checks;
mod courier;
mod histories;
mod simulation;

use std::ops::Range;
use std::time::Duration;

use crate::domain::delivery::outcome::Outcome;

const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(600)];
/// Longest `Retry-After` of the simulated receivers, in seconds.
const MAX_RETRY_AFTER: i64 = 900;

/// Behaviour of the receiver for a while.
#[derive(Clone, Debug)]
enum Behaviour {
    Ok,
    /// Every attempt has this outcome after this many seconds.
    Fails(Outcome, i64),
    /// Every answer has this status and this `Retry-After` in seconds.
    Throttles(u16, i64),
    /// Accepts all lanes but these.
    Refuses(Range<usize>),
    /// Accepts two of three.
    Flaky,
}

/// Action from outside.
#[derive(Clone, Debug)]
enum Action {
    Pause,
    Resume,
    /// Sends a message again, unless it is pending.
    Replay(usize),
    /// The URL changes.
    Move(u8),
    /// The daemon is killed: attempts in flight are forgotten.
    Kill,
}

#[derive(Clone, Debug)]
struct History {
    max_in_flight: u32,
    /// Deliveries that the courier holds in memory.
    memory: usize,
    /// Lane and second of creation of each message, sorted by second.
    messages: Vec<(usize, i64)>,
    /// Seconds and behaviour, one after another; afterwards the receiver is ok.
    behaviours: Vec<(i64, Behaviour)>,
    actions: Vec<(i64, Action)>,
}
