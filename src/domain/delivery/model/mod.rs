//! An outbox and its courier in virtual time, with nothing in them but what the ground floor decides.
//!
//! The store and the courier do the same in SQL and over HTTP; here it is small enough for thousands of histories, with
//! memory that holds everything and with memory that holds next to nothing. What is asked of each: no message is lost, none is under way twice, none overtakes another of its lane,
//! none is given up but as contract 7.5 says, and once the receiver is well nothing waits for long.

mod histories;
mod world;

use std::ops::Range;
use std::time::Duration;

use crate::domain::delivery::outcome::Outcome;

const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(600)];
/// The longest that the receivers here ask to be left alone, in seconds.
const LONGEST_ASKED: i64 = 900;

/// What the receiver does for a while.
#[derive(Clone, Debug)]
enum Mood {
    Well,
    /// Every attempt ends so, after so many seconds.
    Fails(Outcome, i64),
    /// 429 or 503, and to be left alone for so long.
    Throttles(u16, i64),
    /// Takes everything but what is of these lanes.
    Refuses(Range<usize>),
    /// Takes two of three.
    Flaky,
}

/// What somebody does from outside.
#[derive(Clone, Debug)]
enum Deed {
    Pause,
    Resume,
    /// Sends a message again, if it is settled.
    Replay(usize),
    /// The configuration names another URL.
    Move(u8),
    /// We die: what is under way is not known of any more.
    Die,
}

#[derive(Clone, Debug)]
struct History {
    max_in_flight: u32,
    /// Deliveries that the courier holds in memory.
    memory: usize,
    /// Lane and second of each message, in the order of their making.
    messages: Vec<(usize, i64)>,
    /// One after the other, each for so many seconds; afterwards the receiver is well.
    moods: Vec<(i64, Mood)>,
    deeds: Vec<(i64, Deed)>,
}
