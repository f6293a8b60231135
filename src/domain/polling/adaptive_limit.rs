//! The adaptive limit: the fraction of the limit that is used while other clients use the account too.
//!
//! The API counts all requests of an account. One 429 may be chance. A second one soon after, although requests stayed
//! within the limit, means that another client uses the account. Then the fraction shrinks at once by a factor and
//! grows slowly while no 429 comes (additive increase, multiplicative decrease), which splits the limit fairly between
//! clients that do not know of each other.

use jiff::{SignedDuration, Timestamp};

/// A second 429 within this time means that other clients use the account.
const REPEAT_WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// Factor by which the fraction shrinks.
const SHRINK_FACTOR: f64 = 0.75;
/// Smallest fraction.
const MIN_FRACTION: f64 = 0.1;
/// Growth of the fraction a minute.
const GROWTH_PER_MINUTE: f64 = 0.01;

/// Fraction of the limit that is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AdaptiveLimit {
    /// Time at which it shrank, and the fraction to which it did; `None`: the whole limit is used.
    pub shrunk: Option<(Timestamp, f64)>,
    /// Time of the last 429.
    pub throttled_at: Option<Timestamp>,
}

impl AdaptiveLimit {
    /// Returns the fraction at `now`, from 0.1 to 1.
    pub fn at(&self, now: Timestamp) -> f64 {
        let Some((since, fraction)) = self.shrunk else { return 1.0 };
        let minutes = now.duration_since(since).as_secs_f64().max(0.0) / 60.0;
        (fraction + GROWTH_PER_MINUTE * minutes).clamp(MIN_FRACTION, 1.0)
    }

    /// Returns the requests of `limit` that may be used in a window, at least one.
    pub fn of(&self, limit: u32, now: Timestamp) -> u32 {
        // At most the limit, so it fits.
        ((f64::from(limit) * self.at(now)) as u32).max(1)
    }

    /// Applies a 429 that came at `now` for a request sent at `sent_at`, when `used` of `limit` requests were in the
    /// window. No request is sent before `until`, and none was sent before `waited_until`. Returns the new fraction if
    /// it shrank.
    pub fn throttled(
        &mut self,
        sent_at: Timestamp,
        (used, limit): (usize, u32),
        waited_until: Option<Timestamp>,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<f64> {
        // The request was in flight when the first 429 came.
        let last = self.throttled_at.filter(|at| *at <= now);
        if last.is_some_and(|last| sent_at <= last) {
            return None;
        }
        self.throttled_at = Some(now);
        // Counted from the first request after the wait.
        let again = last?.max(waited_until.unwrap_or(last?));
        if now.duration_since(again) > REPEAT_WINDOW {
            return None;
        }
        let before = self.at(now);
        let used = used as f64 / f64::from(limit.max(1));
        let fraction = (SHRINK_FACTOR * used.min(before)).max(MIN_FRACTION);
        // The fraction grows from the next request on.
        self.shrunk = Some((until, fraction));
        (fraction < before).then_some(fraction)
    }

    /// Returns whether the fraction has grown back to the whole limit by `now`, and forgets that it was smaller.
    pub fn recovered(&mut self, now: Timestamp) -> bool {
        // Times from before the clock was set back would keep the fraction small.
        if let Some(at) = self.throttled_at.as_mut().filter(|at| **at > now) {
            *at = now;
            self.shrunk = self.shrunk.map(|(since, fraction)| (since.min(now), fraction));
        }
        let back = self.shrunk.is_some() && self.at(now) >= 1.0;
        if back {
            self.shrunk = None;
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn only_a_second_429_lowers_the_limit() {
        let mut limit = AdaptiveLimit::default();
        assert_eq!(limit.throttled(at(0), (160, 160), None, at(60), at(1)), None);
        // Seven more requests were in flight.
        assert_eq!(limit.throttled(at(0), (160, 160), Some(at(60)), at(60), at(1)), None);
        assert_eq!(limit.at(at(61)), 1.0);
        assert_eq!(limit.throttled(at(100), (80, 160), Some(at(60)), at(160), at(100)), Some(0.375));
        assert_eq!(limit.of(160, at(160)), 60);
        // The fraction grows by a hundredth a minute.
        assert_eq!(limit.of(160, at(220)), 61);
        assert_eq!(
            limit.throttled(at(300), (4, 160), Some(at(160)), at(360), at(300)),
            Some(0.1),
            "the fraction is at least 0.1"
        );
        assert!(!limit.recovered(at(360 + 89 * 60)));
        assert!(limit.recovered(at(360 + 90 * 60 + 1)));
        assert_eq!(limit.of(160, at(360)), 160);
    }

    #[test]
    fn the_limit_recovers_after_the_clock_was_set_back() {
        let mut limit = AdaptiveLimit::default();
        limit.throttled(at(90_000), (160, 160), None, at(90_060), at(90_000));
        limit.throttled(at(90_100), (160, 160), Some(at(90_060)), at(90_160), at(90_100));
        assert!(!limit.recovered(at(0)) && limit.at(at(0)) == 0.75);
        assert!(!limit.recovered(at(24 * 60)));
        assert!(limit.recovered(at(25 * 60 + 1)));
    }

    #[test]
    fn a_429_long_after_the_last_one_does_not_lower_the_limit() {
        let mut limit = AdaptiveLimit::default();
        limit.throttled(at(0), (160, 160), None, at(60), at(0));
        assert_eq!(limit.throttled(at(3_600), (160, 160), Some(at(60)), at(9_000), at(3_600)), None);
        assert_eq!(limit.shrunk, None);
        // After a wait of any length, this 429 comes soon after the first.
        assert!(limit.throttled(at(9_001), (160, 160), Some(at(9_000)), at(9_061), at(9_001)).is_some());
    }
}
