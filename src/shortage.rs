//! Shortages of this machine or process: no file descriptor, no memory, no local port, no name server.
//!
//! A poll or an attempt that fails because of a shortage says nothing about a label, an account or a subscriber. The
//! shortage is noted here for the log and `/healthz`. The state belongs to the process, as the resources do.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

/// A recent shortage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Description of the missing resource.
    pub detail: String,
    pub since: Timestamp,
    pub last_at: Timestamp,
}

/// A shortage ends after this time without a new failure.
const OVER_AFTER: SignedDuration = SignedDuration::from_secs(60);

static LAST: Mutex<Option<Shortage>> = Mutex::new(None);

/// Records a failure at `now` because of a shortage. The first of a series is logged.
pub fn note(detail: &str, now: Timestamp) {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match last.as_mut().filter(|last| last.is_current(now)) {
        Some(last) => {
            last.last_at = now;
            detail.clone_into(&mut last.detail);
        }
        None => {
            *last = Some(Shortage { detail: detail.to_owned(), since: now, last_at: now });
            warn!(
                detail,
                "shortage on this machine: {detail}; polls and deliveries are retried, and no failure is counted"
            );
        }
    }
}

/// Returns the shortage at `now`, if there is one.
pub fn current(now: Timestamp) -> Option<Shortage> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.clone().filter(|last| last.is_current(now))
}

impl Shortage {
    fn is_current(&self, now: Timestamp) -> bool {
        now.duration_since(self.last_at).abs() < OVER_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_lasts_until_a_minute_after_its_last_report() {
        let at = |seconds: i64| Timestamp::from_second(1_000 + seconds).unwrap();
        note("out of file descriptors", at(0));
        note("out of file descriptors", at(30));
        let shortage = current(at(89)).unwrap();
        assert_eq!((shortage.since, shortage.last_at), (at(0), at(30)));
        assert_eq!(current(at(90)), None);
    }
}
