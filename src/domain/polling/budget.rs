//! The monthly budget of requests, spread evenly over the rest of the month (contract 4.2).
//!
//! The rate is the rest of the budget divided by the rest of the month, so savings are used later and overspending is
//! saved. A token bucket holds the requests of about an hour, so that a few labels can be polled at once. A month is a
//! calendar month in UTC.
//!
//! Requests are counted for each month separately, because a clock that jumps into another month may return.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::domain::time::{earlier, later};

/// The largest content of the bucket, as a span of time at the current rate.
const BURST: SignedDuration = SignedDuration::from_hours(1);

/// A calendar month, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    pub start: Timestamp,
    /// Start of the next month.
    pub end: Timestamp,
}

impl Month {
    /// The month of an instant.
    pub fn of(now: Timestamp) -> Self {
        let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
        let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp());
        let next = first.last_of_month().tomorrow();
        Self {
            start: midnight(first).unwrap_or(Timestamp::MIN),
            end: next.and_then(midnight).unwrap_or(Timestamp::MAX),
        }
    }
}

/// Budget of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Requests a month; `None`: unlimited.
    limit: Option<u64>,
    month: Month,
    /// Requests made in each month, by its start.
    used: BTreeMap<Timestamp, u64>,
    /// Requests that may be sent now.
    bucket: f64,
    filled_at: Timestamp,
}

impl Budget {
    /// Returns a budget of `limit` requests a month (0: unlimited), of which `used` were sent in the month of `now`. Its
    /// bucket is full.
    pub fn new(limit: u64, used: u64, now: Timestamp) -> Self {
        let month = Month::of(now);
        let mut budget = Self {
            limit: Some(limit).filter(|limit| *limit > 0),
            month,
            used: BTreeMap::from([(month.start, used)]),
            bucket: 0.0,
            filled_at: now,
        };
        budget.bucket = budget.most();
        budget
    }

    /// Takes the requests of the last hour out of the bucket, oldest first, and fills it for the time since then.
    pub fn with_lately(mut self, requests: impl IntoIterator<Item = (Timestamp, usize)>) -> Self {
        let (rate, most) = (self.fill_rate().unwrap_or(0.0), self.most());
        let mut filled_at = earlier(self.filled_at, BURST);
        for (at, requests) in requests.into_iter().chain([(self.filled_at, 0)]) {
            let filled = rate * at.duration_since(filled_at).as_secs_f64().max(0.0);
            self.bucket = ((self.bucket + filled).min(most) - requests as f64).max(0.0);
            filled_at = at;
        }
        self
    }

    /// Adds the requests of other months, each with its start.
    pub fn with_months(mut self, used: impl IntoIterator<Item = (Timestamp, u64)>) -> Self {
        for (start, requests) in used {
            self.used.entry(start).or_insert(requests);
        }
        self
    }

    /// Changes the limit; used requests stay counted.
    pub fn set_limit(&mut self, limit: u64, now: Timestamp) {
        let had_none = self.limit.is_none();
        self.limit = Some(limit).filter(|limit| *limit > 0);
        self.filled_at = now;
        self.bucket = if had_none { self.most() } else { self.bucket.min(self.most()) };
    }

    /// Requests a month; `None`: unlimited.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Returns when a request may be sent; `None`: now.
    pub fn free_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        self.fill(now);
        if let Some(until) = self.used_up_until() {
            return Some(until);
        }
        let rate = self.fill_rate().filter(|_| self.bucket < 1.0)?;
        let wait = (1.0 - self.bucket) / rate.max(f64::MIN_POSITIVE);
        let wait = SignedDuration::try_from_secs_f64(wait).unwrap_or(SignedDuration::MAX);
        // One more millisecond, because rounding down would cause a second try.
        let at = later(now, wait.saturating_add(SignedDuration::from_millis(1)));
        Some(at.min(self.month.end))
    }

    /// Counts a request. The caller checked [`Self::free_at`] before.
    pub fn count(&mut self) {
        *self.used.entry(self.month.start).or_default() += 1;
        self.bucket -= 1.0;
    }

    /// Returns the requests a second that remain for the rest of the month; `None`: unlimited.
    pub fn rate(&self) -> Option<f64> {
        self.rate_of_rest(0)
    }

    /// Returns the rate at which the bucket fills: for one request more than the rest of the budget. At the exact rate
    /// the last request would be allowed only when the month ends.
    fn fill_rate(&self) -> Option<f64> {
        self.rate_of_rest(1)
    }

    fn rate_of_rest(&self, more: u64) -> Option<f64> {
        let left = self.limit?.saturating_sub(self.used()) + more;
        let time = self.month.end.duration_since(self.filled_at).as_secs_f64().max(1.0);
        Some(left as f64 / time)
    }

    /// Returns when requests are sent again if the month's are used up.
    pub fn used_up_until(&self) -> Option<Timestamp> {
        self.limit.is_some_and(|limit| self.used() >= limit).then_some(self.month.end)
    }

    /// Requests of this month.
    pub fn used(&self) -> u64 {
        self.used.get(&self.month.start).copied().unwrap_or(0)
    }

    /// Fills the bucket for the time that passed.
    pub fn fill(&mut self, now: Timestamp) {
        if !(self.month.start..self.month.end).contains(&now) {
            self.month = Month::of(now);
        }
        let passed = now.duration_since(self.filled_at).as_secs_f64().max(0.0);
        let filled = self.fill_rate().unwrap_or(0.0) * passed;
        self.filled_at = now;
        self.bucket = (self.bucket + filled).min(self.most());
    }

    fn most(&self) -> f64 {
        self.rate().map_or(0.0, |rate| (rate * BURST.as_secs_f64()).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    impl Budget {
        /// Takes a request, or returns when to try again.
        fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
            self.free_at(now).map_or(Ok(()), Err)?;
            self.count();
            Ok(())
        }
    }

    #[test]
    fn a_month_is_a_calendar_month_in_utc() {
        let month = Month::of(at("2026-12-31T23:59:59.999Z"));
        assert_eq!((month.start, month.end), (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
        assert_eq!(Month::of(month.end).start, month.end);
        assert_eq!(Month::of(at("2028-02-29T12:00:00Z")).end, at("2028-03-01T00:00:00Z"));
    }

    #[test]
    fn without_a_budget_requests_are_unlimited() {
        let mut budget = Budget::new(0, 7, at("2026-11-01T00:00:00Z"));
        assert!((0..10_000).all(|_| budget.take(at("2026-11-01T00:00:00Z")).is_ok()));
        assert_eq!((budget.rate(), budget.used_up_until()), (None, None));
    }

    #[test]
    fn an_hour_of_the_budget_at_once_and_then_evenly() {
        let now = at("2026-11-01T00:00:00Z");
        let mut budget = Budget::new(7_200, 0, now);
        assert_eq!((0..99).take_while(|_| budget.take(now).is_ok()).count(), 10);
        let wait = budget.take(now).unwrap_err().duration_since(now).as_secs_f64();
        assert!((355.0..370.0).contains(&wait), "{wait}");
        let begun = |minutes: i64| {
            let sent_at = now - SignedDuration::from_mins(minutes);
            let mut begun = Budget::new(7_200, 5, now).with_lately([(sent_at, 5)]);
            (0..99).take_while(|_| begun.take(now).is_ok()).count()
        };
        assert_eq!([begun(0), begun(13), begun(25)], [4, 7, 9], "requests of the last hour count");
    }

    #[test]
    fn unused_budget_is_used_later_and_ends_with_the_month() {
        let mut budget = Budget::new(3_000, 0, at("2026-11-01T00:00:00Z"));
        budget.fill(at("2026-11-16T00:00:00Z"));
        assert_eq!(budget.rate().map(|rate| (rate * 86_400.0).round()), Some(200.0));
        let mut used_up = Budget::new(3_000, 3_000, at("2026-11-16T00:00:00Z"));
        let december = at("2026-12-01T00:00:00Z");
        assert_eq!(used_up.take(at("2026-11-16T00:00:00Z")), Err(december));
        assert_eq!(used_up.used_up_until(), Some(december));
        assert_eq!(used_up.take(december), Ok(()));
    }

    #[test]
    fn a_clock_that_returns_from_another_month_finds_the_used_requests() {
        let (november, later) = (at("2026-11-16T00:00:00Z"), at("2029-03-31T23:00:00Z"));
        let mut budget = Budget::new(2, 1, november).with_months([(Month::of(later).start, 1)]);
        assert_eq!(budget.take(later), Ok(()));
        assert_eq!(budget.take(later), Err(Month::of(later).end), "the requests of an earlier process count");
        let evenly = budget.take(november).unwrap_err();
        assert!(evenly < Month::of(november).end, "the budget of another month is used up, not this one");
        assert_eq!(budget.take(evenly), Ok(()));
        assert_eq!(budget.take(november), Err(Month::of(november).end));
        budget.fill(later);
        assert_eq!((budget.used(), budget.used_up_until()), (2, Some(Month::of(later).end)));
    }

    proptest! {
        #[test]
        fn the_budget_is_never_exceeded_and_spread_evenly(
            limit in 1u64..20_000,
            pauses in prop::collection::vec(0i64..100_000, 1..60),
        ) {
            let month = Month::of(at("2026-11-05T00:00:00Z"));
            let mut now = month.start;
            let mut budget = Budget::new(limit, 0, now);
            let (mut used, mut pauses) = (0u64, pauses.into_iter().cycle());
            while now < month.end {
                match budget.take(now) {
                    Ok(()) => used += 1,
                    Err(free_at) => {
                        prop_assert!(free_at > now);
                        now = free_at + SignedDuration::from_secs(pauses.next().unwrap());
                    }
                }
                let share = now.min(month.end).duration_since(month.start).as_secs_f64()
                    / month.end.duration_since(month.start).as_secs_f64();
                prop_assert!(used <= limit);
                // At most the requests of one hour at the rate that includes the savings.
                let ahead = used as f64 - limit as f64 * share;
                prop_assert!(ahead <= (limit as f64 / 24.0).max(2.0), "{ahead} ahead at {now}");
            }
        }
    }
}
