//! The limit of requests in any 60 seconds (contract 4.2).
//!
//! A permit is held while its request is in flight and for 60 s after its answer. The request reached the server before
//! the answer left it. So no window of 60 s on the server's clock holds more requests than the limit, even on a slow
//! network. `requests_per_minute` leaves the rest of the account's limit to other clients, such as label purchases.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::later;

/// The length of the vendor's window.
pub const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Returns the latest time at which requests counted in a `second` can have ended: its end, but not after `now`.
pub fn ended_by(second: i64, now: Timestamp) -> Timestamp {
    Timestamp::from_second(second.saturating_add(1)).map_or(now, |end| end.min(now))
}

/// Permits of one account.
#[derive(Clone, Debug)]
pub struct Quota {
    limit: usize,
    in_flight: usize,
    /// Release times of the used permits, oldest first.
    released: VecDeque<Timestamp>,
}

impl Quota {
    /// Returns a quota of `limit` requests (at least 1) in any [`WINDOW`].
    pub fn new(limit: u32) -> Self {
        Self { limit: limit.max(1) as usize, in_flight: 0, released: VecDeque::new() }
    }

    /// Adds requests of an earlier process: pairs of the latest time at which they ended and their number, oldest
    /// first.
    pub fn with_used(mut self, used: impl IntoIterator<Item = (Timestamp, usize)>) -> Self {
        for (at, requests) in used {
            self.released.extend(std::iter::repeat_n(at, requests.min(self.limit)));
        }
        self
    }

    /// Changes the limit; used permits stay counted.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit.max(1) as usize;
    }

    /// Takes a permit, or returns when to try again; `None` if that depends on a request in flight.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        // A step uses the time at which it began, and requests end meanwhile. Permits that were released a little later
        // than `now` keep their time, or they would be free too early. Times further ahead come from before the clock
        // was set back.
        let furthest = later(now, WINDOW);
        for at in self.released.iter_mut().rev().take_while(|at| **at > furthest) {
            *at = now;
        }
        while self.released.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.released.pop_front();
        }
        if self.in_flight + self.released.len() < self.limit {
            self.in_flight += 1;
            return Ok(());
        }
        // The number of permits that must become free first.
        let over = self.in_flight + self.released.len() - self.limit;
        let free = self.released.get(over).map(|at| *at + WINDOW + SignedDuration::from_millis(1));
        Err(free)
    }

    /// Releases the permit of a request that ended at `now`.
    pub fn release(&mut self, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        // After the clock was set back, the permit is not sorted before older ones: it would be free too early.
        let at = self.released.back().map_or(now, |last| (*last).max(now));
        self.released.push_back(at);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Permits in use as of the last call: requests in flight, and requests of the last window.
    pub fn used(&self) -> usize {
        self.in_flight + self.released.len()
    }
}

/// Even spacing of requests. The quota alone would allow the requests of a minute at once. Spacing applies while the
/// demand of the labels exceeds the quota, and while an account catches up after an outage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spacing {
    /// Time at which the next request is due at an even pace.
    next_at: Option<Timestamp>,
}

/// Maximum delay of a step that later requests catch up.
const LATE_STEP: SignedDuration = SignedDuration::from_secs(5);

impl Spacing {
    /// Returns when the next of `limit` requests a [`WINDOW`] may be sent; `None`: now.
    pub fn free_at(&self, now: Timestamp, limit: u32) -> Option<Timestamp> {
        let leeway = leeway(limit);
        let next_at = self.next_at(now, limit);
        (next_at.duration_since(now) > leeway).then(|| next_at - leeway)
    }

    /// Counts a request. The caller checked [`Self::free_at`] before.
    pub fn count(&mut self, now: Timestamp, limit: u32) {
        self.next_at = Some(self.next_at(now, limit) + gap(limit));
    }

    fn next_at(&self, now: Timestamp, limit: u32) -> Timestamp {
        // Bounded, because a time from before the clock was set back would hold all requests.
        let furthest = now + leeway(limit) + gap(limit);
        self.next_at.unwrap_or(now + leeway(limit)).clamp(now, furthest)
    }
}

fn gap(limit: u32) -> SignedDuration {
    WINDOW / i32::try_from(limit.max(1)).unwrap_or(i32::MAX)
}

fn leeway(limit: u32) -> SignedDuration {
    gap(limit).max(LATE_STEP)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
    }

    /// A step acquires several permits at the instant at which it began, while requests end.
    #[test]
    fn a_request_that_ends_during_a_step_counts_for_a_whole_window() {
        let mut quota = Quota::new(2);
        quota.take(at(0)).unwrap();
        quota.release(at(20));
        quota.take(at(0)).unwrap();
        quota.release(at(25));
        assert_eq!(quota.take(at(0)), Err(Some(at(60_021))));
        assert_eq!(quota.take(at(60_005)), Err(Some(at(60_021))));
        assert!(quota.take(at(60_021)).is_ok());
    }

    #[test]
    fn returns_the_time_of_the_next_permit() {
        let mut quota = Quota::new(2);
        assert_eq!(quota.take(at(0)), Ok(()));
        assert_eq!(quota.take(at(0)), Ok(()));
        assert_eq!(quota.take(at(5)), Err(None));
        quota.release(at(10));
        assert_eq!(quota.take(at(20)), Err(Some(at(60_011))));
        assert_eq!(quota.take(at(60_010)), Err(Some(at(60_011))));
        assert_eq!(quota.take(at(60_011)), Ok(()));
    }

    #[test]
    fn a_clock_set_back_does_not_lengthen_waits() {
        let mut quota = Quota::new(1);
        quota.take(at(3_600_000)).unwrap();
        quota.release(at(3_600_000));
        assert_eq!(quota.take(at(0)), Err(Some(at(60_001))));
    }

    #[test]
    fn requests_of_an_earlier_process_count() {
        let mut quota = Quota::new(3).with_used([(at(-5), 1), (at(0), 7)]);
        assert_eq!(quota.take(at(30_000)), Err(Some(at(60_001))));
        assert_eq!(quota.take(at(60_001)), Ok(()));
    }

    #[test]
    fn spaced_requests_are_even_and_use_the_whole_quota() {
        let take = |spacing: &mut Spacing, now| {
            let free = spacing.free_at(at(now), 160).is_none();
            free.then(|| spacing.count(at(now), 160)).is_some()
        };
        let mut spacing = Spacing::default();
        let (mut now, mut sent) = (0, Vec::new());
        while sent.len() < 161 {
            match spacing.free_at(at(now), 160) {
                Some(free_at) => now = free_at.as_millisecond() - at(0).as_millisecond(),
                None => {
                    spacing.count(at(now), 160);
                    sent.push(now);
                }
            }
        }
        assert_eq!(sent[..3], [0, 375, 750]);
        assert_eq!(sent[160], 60_000);
        assert_eq!(
            (0..99).take_while(|_| take(&mut spacing, 70_000)).count(),
            14,
            "the requests of a late step are made up for"
        );
        assert_eq!(
            spacing.free_at(at(-9_000_000), 160),
            Some(at(-8_999_625)),
            "a clock set back does not prolong the wait"
        );
    }

    proptest! {
        #[test]
        fn every_window_of_the_server_is_within_the_limit(
            limit in 1u32..20,
            steps in prop::collection::vec((0i64..4_000, 0i64..3_000, 0.0f64..1.0), 1..200),
        ) {
            let mut quota = Quota::new(limit);
            let mut now = 0;
            let mut arrivals = Vec::new();
            let mut answers: Vec<i64> = Vec::new();
            for (pause, latency, share) in steps {
                now += pause;
                answers.sort_unstable();
                while answers.first().is_some_and(|ms| *ms <= now) {
                    quota.release(at(answers.remove(0)));
                }
                if quota.take(at(now)).is_ok() {
                    arrivals.push(now + (latency as f64 * share) as i64);
                    answers.push(now + latency);
                }
            }
            arrivals.sort_unstable();
            for window in arrivals.windows(limit as usize + 1) {
                prop_assert!(window[limit as usize] - window[0] > 60_000);
            }
        }
    }
}
