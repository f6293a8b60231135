//! The rate limiter of an account: quota, monthly budget, adaptive limit and account status.
//!
//! All four are one value under one lock, so that two workers cannot take the last permit. Each part decides for itself;
//! this module combines their answers.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::budget::{Budget, Month};
use super::pace;
use super::quota::{Quota, Spacing};
use super::schedule::Schedule;
use crate::domain::polling::account_status::{AccountChange, AccountSignal, AccountState, MAX_OUTAGE_LABELS};
use crate::domain::polling::adaptive_limit::AdaptiveLimit;
use crate::domain::time::{earlier, later};

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A poll. While the account is not ok, one poll at a time is sent as its probe.
    Poll,
    /// Any other request. It waits until the account is ok. The next free permit is kept for it, because polls would
    /// take every one.
    Other,
}

/// A request that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedRequest {
    pub sent_at: Timestamp,
    /// Whether the request is the probe of an account that is not ok.
    pub probe: bool,
}

/// A request that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Time at which to try again; `None` if that depends on a request in flight.
    pub free_at: Option<Timestamp>,
    /// Whether the monthly budget is used up and this was not reported yet.
    pub used_up: bool,
    /// Number of requests to reserve first; see [`RateLimiter::add_reserved`].
    pub reserve: Option<u32>,
}

/// Requests that ended in the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRequests {
    pub at: Timestamp,
    /// Month in which the requests were sent.
    pub month: Month,
    pub requests: u32,
}

/// Effect of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AnswerEffect {
    /// Whether the status or the time of the next request changed.
    pub changed: bool,
    pub change: Option<AccountChange>,
    /// The new adaptive limit as a fraction of the limit, if it shrank.
    pub lowered_to: Option<f64>,
}

/// Rate limiter of an account.
#[derive(Debug)]
pub struct RateLimiter {
    pub state: AccountState,
    /// Moving mean of the lateness of polls, as a fraction of their intervals.
    pub lateness: f64,
    /// The factor by which all waits stretch, at least 1.
    pub stretch: f64,
    /// Whether overdue labels are polled at an even pace after an outage, until none is due.
    pub catching_up: bool,
    quota: Quota,
    spacing: Spacing,
    /// The jump of the wall clock since the quota was opened. The quota counts in wall time minus this.
    skew: SignedDuration,
    /// The skew of the wall clock when the quota was opened.
    first_skew: SignedDuration,
    budget: Budget,
    adaptive_limit: AdaptiveLimit,
    /// The adaptive limit as last taken to be written.
    written_limit: AdaptiveLimit,
    requests_per_minute: u32,
    labels: usize,
    logged_stretch: f64,
    /// End of the month whose budget was reported as used up.
    logged_used_up: Option<Timestamp>,
    /// Span in which polls get no permit, because another request waits for the next free one.
    kept: Option<Range<Timestamp>>,
    /// Requests that the store counts as sent and that may still be sent.
    reserved: u32,
    /// Requests that ended and are not written yet.
    uncounted: Vec<EndedRequests>,
    pub demand: Demand,
}

/// Demand of the labels of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Number of labels that are polled.
    pub labels: usize,
    /// Requests a second.
    pub rate: f64,
    /// Number of due labels, and number of due labels without a plan: new ones, and ones requested by hand.
    pub due: usize,
    pub first_polls: usize,
}

impl Demand {
    pub fn of(schedule: &Schedule, now: Timestamp) -> Self {
        Self {
            labels: schedule.len(),
            rate: schedule.demand(),
            due: schedule.due_count(now),
            first_polls: schedule.first_poll_count(),
        }
    }
}

/// Requests are reserved in steps of the limit divided by this, at least one (contract 4.2).
const STEPS: u32 = 20;

/// Time for which a free permit is kept for a request that had to wait for it.
const KEPT_FOR: SignedDuration = SignedDuration::from_secs(2);
/// The number of polls in the mean of lateness.
const MEAN_OF: f64 = 32.0;

impl RateLimiter {
    pub fn new(
        quota: Quota,
        budget: Budget,
        adaptive_limit: AdaptiveLimit,
        state: AccountState,
        requests_per_minute: u32,
        lateness: f64,
    ) -> Self {
        Self {
            state,
            lateness,
            catching_up: false,
            quota,
            spacing: Spacing::default(),
            skew: SignedDuration::ZERO,
            first_skew: SignedDuration::ZERO,
            budget,
            adaptive_limit,
            written_limit: adaptive_limit,
            requests_per_minute,
            labels: MAX_OUTAGE_LABELS,
            stretch: 1.0,
            logged_stretch: 1.0,
            logged_used_up: None,
            kept: None,
            reserved: 0,
            uncounted: Vec::new(),
            demand: Demand::default(),
        }
    }

    /// Changes the limits; used requests stay counted. `probe_now`: the key or the URL changed.
    pub fn reopen(
        &mut self,
        requests_per_minute: u32,
        requests_per_month: u64,
        probe_now: bool,
        now: Timestamp,
    ) {
        self.requests_per_minute = requests_per_minute;
        self.kept = None;
        self.budget.set_limit(requests_per_month, now);
        if let Some(probe_at) = self.state.probe_at.as_mut().filter(|_| probe_now) {
            *probe_at = now.min(*probe_at);
        }
    }

    /// Sets the skew of the wall clock at which the quota was opened.
    pub fn with_skew(mut self, skew: SignedDuration) -> Self {
        self.first_skew = skew;
        self
    }

    /// Sets the skew of the wall clock. Returns whether it jumped since the last call. After a jump, each wait keeps
    /// its length.
    pub fn set_skew(&mut self, skew: SignedDuration, now: Timestamp) -> bool {
        let skew = skew.saturating_sub(self.first_skew);
        let jumped = skew.saturating_sub(std::mem::replace(&mut self.skew, skew));
        if jumped.is_zero() {
            return false;
        }
        self.kept = None;
        self.uncounted.iter_mut().for_each(|ended| ended.at = later(ended.at, jumped));
        self.state.apply_jump(jumped, now);
        true
    }

    /// Converts a wall time to the time in which the quota counts.
    fn quota_time(&self, at: Timestamp) -> Timestamp {
        earlier(at, self.skew)
    }

    /// Allows a request at `now`, or returns when to try again.
    pub fn acquire(&mut self, kind: RequestKind, now: Timestamp) -> Result<AllowedRequest, Denied> {
        let denied = |free_at| Denied { free_at, used_up: false, reserve: None };
        if let Some(open_at) = self.state.open_at(now) {
            return Err(denied(Some(open_at)));
        }
        let probe = self.state.probing();
        if probe && (kind == RequestKind::Other || self.quota.in_flight() > 0) {
            return Err(denied(None));
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| kind == RequestKind::Poll && kept.contains(&now))
        {
            return Err(denied(Some(kept.end)));
        }
        self.budget.fill(now);
        if let Some(end) = self.budget.used_up_until() {
            let used_up = self.logged_used_up.replace(end) != Some(end);
            return Err(Denied { free_at: Some(end), used_up, reserve: None });
        }
        let limit = self.adaptive_limit.of(self.requests_per_minute, now);
        self.quota.set_limit(limit);
        let spaced = kind == RequestKind::Poll && self.spaced();
        let real = self.quota_time(now);
        let wall = |at| later(at, self.skew);
        let spaced = self.spacing.free_at(real, limit).filter(|_| spaced).map(wall);
        let held = self.budget.free_at(now).or(spaced);
        if held.is_none() && self.reserved == 0 {
            return Err(Denied { free_at: None, used_up: false, reserve: Some(self.reservation_size()) });
        }
        let quota = &mut self.quota;
        let taken = held.map_or_else(|| quota.take(real).map_err(|at| at.map(wall)), |at| Err(Some(at)));
        if let Err(free_at) = taken {
            if kind == RequestKind::Other {
                self.kept = free_at.unwrap_or(now).checked_add(KEPT_FOR).ok().map(|until| now..until);
            }
            return Err(denied(free_at));
        }
        self.budget.count();
        self.reserved -= 1;
        if self.spaced() {
            self.spacing.count(real, limit);
        } else {
            self.spacing = Spacing::default();
        }
        if kind == RequestKind::Other {
            self.kept = None;
        }
        Ok(AllowedRequest { sent_at: now, probe })
    }

    /// Whether requests are spaced evenly: after an outage, and while the demand of the labels exceeds the quota.
    fn spaced(&self) -> bool {
        self.catching_up || self.stretch > 1.0
    }

    /// Returns the number of requests that are reserved at once. After a crash, up to this many unsent requests count
    /// as sent.
    fn reservation_size(&self) -> u32 {
        let by_month = self.budget.limit().map_or(u64::MAX, |limit| limit / u64::from(STEPS));
        let by_minute = self.requests_per_minute / STEPS;
        u32::try_from(by_month).unwrap_or(u32::MAX).min(by_minute).max(1)
    }

    /// Adds requests that the store now counts as sent.
    pub fn add_reserved(&mut self, requests: u32) {
        self.reserved = self.reserved.saturating_add(requests);
    }

    /// Returns the reserved requests that were not sent, at a clean stop.
    pub fn take_reserved(&mut self) -> u32 {
        std::mem::take(&mut self.reserved)
    }

    /// Ends a request that was sent at `sent_at`, at `now`.
    pub fn end_request(&mut self, sent_at: Timestamp, now: Timestamp) {
        self.quota.release(self.quota_time(now));
        let month = Month::of(sent_at);
        match self.uncounted.last_mut() {
            Some(last) if last.at.as_second() == now.as_second() && last.month == month => last.requests += 1,
            _ => self.uncounted.push(EndedRequests { at: now, month, requests: 1 }),
        }
    }

    /// Returns the requests that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<EndedRequests> {
        std::mem::take(&mut self.uncounted)
    }

    /// Permits in use.
    pub fn used(&self) -> usize {
        self.quota.used()
    }

    /// Applies an answer; see [`AccountState::observe`].
    pub fn observe(
        &mut self,
        label: Option<i64>,
        signal: &AccountSignal,
        allowed: AllowedRequest,
        now: Timestamp,
    ) -> AnswerEffect {
        let state = &mut self.state;
        let before = (state.status, state.probe_at, state.throttled_until);
        let change = state.observe(label, signal, self.labels, allowed.probe, now);
        let changed = before != (state.status, state.probe_at, state.throttled_until);
        self.catching_up |= change == Some(AccountChange::CameBack);
        let mut lowered_to = None;
        if let (AccountSignal::Throttled { .. }, Some(until)) = (signal, state.throttled_until) {
            let used = (self.quota.used(), self.requests_per_minute);
            lowered_to = self.adaptive_limit.throttled(allowed.sent_at, used, before.2, until, now);
        }
        AnswerEffect { changed, change, lowered_to }
    }

    /// Returns whether the adaptive limit has just grown back to the whole limit.
    pub fn limit_recovered(&mut self, now: Timestamp) -> bool {
        self.adaptive_limit.recovered(now)
    }

    /// Returns the adaptive limit if it changed since the last call.
    pub fn take_changed_limit(&mut self) -> Option<AdaptiveLimit> {
        let before = std::mem::replace(&mut self.written_limit, self.adaptive_limit);
        (before != self.adaptive_limit).then_some(self.adaptive_limit)
    }

    /// Returns the requests a second that the account may send at `now`.
    pub fn allowed(&mut self, now: Timestamp) -> f64 {
        self.budget.fill(now);
        pace::allowed(self.requests_per_minute, &self.adaptive_limit, &self.budget, now)
    }

    /// Sets the demand of the labels. Returns the stretch if it changed enough to report it.
    pub fn set_demand(&mut self, demand: Demand, now: Timestamp) -> Option<f64> {
        (self.labels, self.demand) = (demand.labels, demand);
        self.stretch = pace::stretch(demand.rate, self.allowed(now));
        // The end of the budget is reported by `acquire`.
        if !self.stretch.is_finite() || !pace::is_worth_logging(self.logged_stretch, self.stretch) {
            return None;
        }
        self.logged_stretch = self.stretch;
        Some(self.stretch)
    }

    /// Records the lateness of a poll as a fraction of its interval; `None`: the label had no planned wait.
    pub fn record_lateness(&mut self, lateness: Option<f64>) {
        if let Some(lateness) = lateness {
            self.lateness += (lateness.max(0.0) - self.lateness) / MEAN_OF;
        }
    }
}

#[cfg(test)]
mod tests;
