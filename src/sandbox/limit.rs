//! Rate limit of an account: requests in any 60 s, per API key.
//!
//! A sliding window over the real clock, regardless of the speed of the parcels. A rejected request does not lengthen
//! the wait.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Length of the window.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The requests of the last 60 s.
#[derive(Clone, Debug, Default)]
pub(super) struct Window(VecDeque<Timestamp>);

impl Window {
    /// Counts a request at `now`. Returns the number of requests in the window that ends with it.
    pub(super) fn count(&mut self, now: Timestamp) -> usize {
        self.forget_before(now);
        self.0.push_back(now);
        self.0.len()
    }

    /// Admits a request, or returns the wait until one would be admitted.
    pub(super) fn admit(&mut self, now: Timestamp, limit: u32) -> Result<(), Duration> {
        self.forget_before(now);
        let limit = limit as usize;
        if self.0.len() < limit {
            self.0.push_back(now);
            return Ok(());
        }
        let free_again = match self.0.get(self.0.len() - limit) {
            Some(first) => first.duration_until(now),
            None => SignedDuration::ZERO,
        };
        Err(WINDOW.saturating_sub(free_again.unsigned_abs()))
    }

    fn forget_before(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|&first| first.duration_until(now).unsigned_abs() >= WINDOW) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    #[test]
    fn admits_the_limit_and_returns_the_wait_for_the_next() {
        let mut window = Window::default();
        assert_eq!(window.admit(at(0), 2), Ok(()));
        assert_eq!(window.admit(at(10_000), 2), Ok(()));
        assert_eq!(window.admit(at(20_000), 2), Err(Duration::from_secs(40)));
        assert_eq!(window.admit(at(59_999), 2), Err(Duration::from_millis(1)));
        assert_eq!(window.admit(at(60_000), 2), Ok(()));
        assert_eq!(window.admit(at(60_001), 2), Err(Duration::from_millis(9_999)));
    }

    #[test]
    fn a_lowered_limit_counts_what_was_admitted_before() {
        let mut window = Window::default();
        for second in 0..10 {
            assert_eq!(window.admit(at(second * 1000), 100), Ok(()));
        }
        assert_eq!(window.admit(at(10_000), 3), Err(Duration::from_secs(57)));
        assert_eq!(window.admit(at(10_000), 0), Err(WINDOW));
    }

    #[test]
    fn counts_the_window() {
        let mut window = Window::default();
        assert_eq!([0, 1, 59_999, 60_000, 60_001].map(|ms| window.count(at(ms))), [1, 2, 3, 3, 3]);
    }
}
