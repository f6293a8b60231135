//! The expected effect of the quota on the labels of an account, as `explain` and all views show it.
//!
//! It decides nothing. It predicts the result of serving labels by relative lateness.

use std::time::Duration;

use jiff::Timestamp;

use super::budget::{Budget, Month};
use super::pace;
use crate::domain::account::Account;
use crate::domain::polling::account_status::AccountState;
use crate::domain::polling::adaptive_limit::AdaptiveLimit;

/// Configured limits of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountLimits {
    pub requests_per_minute: u32,
    /// 0: unlimited.
    pub requests_per_month: u64,
}

impl From<&Account> for AccountLimits {
    fn from(account: &Account) -> Self {
        Self {
            requests_per_minute: account.requests_per_minute,
            requests_per_month: account.requests_per_month,
        }
    }
}

impl AccountLimits {
    /// Requests that both limits allow, over a month of 30 days.
    pub fn requests_per_day(self) -> f64 {
        let by_minute = f64::from(self.requests_per_minute) * 1_440.0;
        match self.requests_per_month {
            0 => by_minute,
            budget => by_minute.min(budget as f64 / 30.0),
        }
    }
}

/// Demand and limits of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    pub limits: AccountLimits,
    /// Requests a second that the labels ask for.
    pub demand: f64,
    /// Requests a second that the account may send.
    pub allowed: f64,
    /// Used fraction of the limit a minute, from 0 to 1.
    pub adaptive_limit: f64,
    /// The factor by which all waits stretch; 1 if the quota is enough, infinite if it is 0.
    pub stretch: f64,
    /// Requests of this month, and the start of the next month.
    pub used_this_month: u64,
    pub month_ends_at: Timestamp,
    /// The end of the month if the budget is used up.
    pub used_up_until: Option<Timestamp>,
    /// No request except a probe is sent before this time.
    pub open_at: Option<Timestamp>,
}

impl Outlook {
    pub fn new(
        limits: AccountLimits,
        demand: f64,
        limit: &AdaptiveLimit,
        used_this_month: u64,
        state: &AccountState,
        now: Timestamp,
    ) -> Self {
        let budget = Budget::new(limits.requests_per_month, used_this_month, now);
        let allowed = pace::allowed(limits.requests_per_minute, limit, &budget, now);
        Self {
            limits,
            demand,
            allowed,
            adaptive_limit: limit.at(now),
            stretch: pace::stretch(demand, allowed),
            used_this_month,
            month_ends_at: Month::of(now).end,
            used_up_until: budget.used_up_until(),
            open_at: state.open_at(now).max(budget.used_up_until()),
        }
    }

    /// Returns the expected time of the poll of a label that is due at `due_at` after a wait of `wait`.
    pub fn expected_at(&self, due_at: Timestamp, wait: Option<Duration>) -> Timestamp {
        pace::expected_at(due_at, wait, self.stretch, self.open_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_decides() {
        let now: Timestamp = "2026-11-16T00:00:00Z".parse().unwrap();
        let state = AccountState::new(now);
        let outlook = |month, used, limit: &AdaptiveLimit, demand| {
            let limits = AccountLimits { requests_per_minute: 60, requests_per_month: month };
            Outlook::new(limits, demand, limit, used, &state, now)
        };
        let all = AdaptiveLimit::default();
        assert_eq!(outlook(0, 0, &all, 0.5).stretch, 1.0);
        assert_eq!(outlook(0, 0, &all, 2.0).stretch, 2.0);
        let half = AdaptiveLimit { shrunk: Some((now, 0.5)), throttled_at: Some(now) };
        assert_eq!(outlook(0, 0, &half, 2.0).stretch, 4.0);
        // 15 days are left.
        let by_month = outlook(15 * 8_640, 0, &half, 2.0);
        assert_eq!((by_month.stretch, by_month.open_at), (20.0, None));
        let wait = Some(Duration::from_secs(60));
        assert_eq!(by_month.expected_at(now, wait).duration_since(now).as_secs(), 19 * 60);
        let used_up = outlook(7, 7, &all, 2.0);
        assert_eq!(used_up.stretch, f64::INFINITY);
        assert_eq!(used_up.expected_at(now, wait), "2026-12-01T00:00:00Z".parse().unwrap());
    }
}
