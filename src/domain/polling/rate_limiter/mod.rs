//! Whether an account may make a call now: its quota, its budget, its share of the limit and its status at once.
//!
//! One value under one lock, so that workers that call side by side can't both take the last slot. It keeps what its
//! parts decide together, and decides nothing of its own but their order.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::budget::{Budget, Month};
use super::pace;
use super::quota::{Quota, Spacing};
use crate::domain::polling::account_status::{ALL_LABELS, AccountChange, AccountSignal, AccountState};
use crate::domain::polling::adaptive_limit::Share;
use crate::domain::time::{earlier, later};

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// A look at a label. Of a fallen account one at a time goes out as its probe.
    Poll,
    /// Anything else; it waits until the account stands. When it has to wait, the next free slot is kept for it: there
    /// are few of them, and looks would take every one.
    Other,
}

/// A call that was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedRequest {
    pub sent_at: Timestamp,
    /// Sent as the probe of a fallen account.
    pub probe: bool,
}

/// A call that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// When to come again; `None` if that depends on a call under way.
    pub free_at: Option<Timestamp>,
    /// The month's budget is used up, and it was not said yet.
    pub used_up: bool,
    /// So many requests are to be reserved first; see [`RateLimiter::reserved`].
    pub reserve: Option<u32>,
}

/// So many requests that ended in the same second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: Timestamp,
    /// The month in which they were sent.
    pub month: Month,
    pub requests: u32,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The status, or when the next call may go out.
    pub changed: bool,
    pub change: Option<AccountChange>,
    /// The share of the limit that is used from now on, if it got smaller.
    pub share: Option<f64>,
}

/// What holds for all calls of an account.
#[derive(Debug)]
pub struct RateLimiter {
    pub state: AccountState,
    /// How late labels are served, as a share of their wait: a mean of the last.
    pub lateness: f64,
    /// By how much all waits stretch, at least 1.
    pub stretch: f64,
    /// After an outage: what fell behind is asked about evenly, until nothing is due any more.
    pub catching_up: bool,
    quota: Quota,
    spacing: Spacing,
    /// By how much the wall clock has jumped since the quota was taken up. The quota counts in wall time less this.
    skew: SignedDuration,
    /// The skew when the quota was taken up.
    first_skew: SignedDuration,
    budget: Budget,
    share: Share,
    share_changed: bool,
    requests_per_minute: u32,
    labels: usize,
    told_stretch: f64,
    /// The month whose end was said.
    told_used_up: Option<Timestamp>,
    /// The next free slot is for a call that is no look: from when it was refused until then. Before that a clock was
    /// set back, and it would be kept for as long as that jumped.
    kept: Option<Range<Timestamp>>,
    /// Requests that are written as sent already and may still go out.
    reserved: u32,
    /// Requests that have ended and are not counted yet.
    uncounted: Vec<Ended>,
    month: Month,
    pub demand: Demand,
}

/// What the labels of an account ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Demand {
    /// Labels that are polled.
    pub labels: usize,
    /// In requests per second.
    pub rate: f64,
    /// Labels that are due, and those of them that were never planned: new, or asked for by hand.
    pub due: usize,
    pub first_polls: usize,
}

/// Requests are reserved in steps of the limit over this, at least one (contract 4.2: also across a restart).
const STEPS: u32 = 20;

/// How long a free slot is kept for who had to wait for it.
const KEPT: SignedDuration = SignedDuration::from_secs(2);
/// So many turns count in the mean of lateness.
const MEAN_OF: f64 = 32.0;

impl RateLimiter {
    pub fn new(
        quota: Quota,
        budget: Budget,
        share: Share,
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
            share,
            share_changed: false,
            requests_per_minute,
            labels: ALL_LABELS,
            stretch: 1.0,
            told_stretch: 1.0,
            told_used_up: None,
            kept: None,
            reserved: 0,
            uncounted: Vec::new(),
            month: Month::of(Timestamp::UNIX_EPOCH),
            demand: Demand::default(),
        }
    }

    /// Other limits from now on; what was used stays used, and who waited for a slot may not come for it any more. `anew`:
    /// another key or URL, to be tried at once.
    pub fn reopen(&mut self, requests_per_minute: u32, requests_per_month: u64, anew: bool, now: Timestamp) {
        self.requests_per_minute = requests_per_minute;
        self.kept = None;
        self.budget.set_limit(requests_per_month, now);
        if let Some(probe_at) = self.state.probe_at.as_mut().filter(|_| anew) {
            *probe_at = now.min(*probe_at);
        }
    }

    /// The wall clock had jumped by so much when the quota was taken up.
    pub fn opened_under(mut self, skew: SignedDuration) -> Self {
        self.first_skew = skew;
        self
    }

    /// The wall clock has jumped by so much. Returns whether it has jumped since this was last said: then what waits for an
    /// instant waits as long as before.
    pub fn skewed(&mut self, skew: SignedDuration, now: Timestamp) -> bool {
        let skew = skew.saturating_sub(self.first_skew);
        let jumped = skew.saturating_sub(std::mem::replace(&mut self.skew, skew));
        if jumped.is_zero() {
            return false;
        }
        self.kept = None;
        self.state.jumped(jumped, now);
        true
    }

    /// The instant in the time in which the quota counts.
    fn real(&self, at: Timestamp) -> Timestamp {
        earlier(at, self.skew)
    }

    /// Allows a call at `now`, or says when to come again.
    pub fn take(&mut self, kind: RequestKind, now: Timestamp) -> Result<AllowedRequest, Denied> {
        let refusal = |free_at| Denied { free_at, used_up: false, reserve: None };
        if let Some(open_at) = self.state.open_at(now) {
            return Err(refusal(Some(open_at)));
        }
        let probe = self.state.probing();
        if probe && (kind == RequestKind::Other || self.quota.in_flight() > 0) {
            return Err(refusal(None));
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| kind == RequestKind::Poll && kept.contains(&now))
        {
            return Err(refusal(Some(kept.end)));
        }
        if let Some(end) = self.budget.used_up_until().filter(|end| *end > now) {
            let used_up = self.told_used_up.replace(end) != Some(end);
            return Err(Denied { free_at: Some(end), used_up, reserve: None });
        }
        let limit = self.share.of(self.requests_per_minute, now);
        self.quota.set_limit(limit);
        let spaced = kind == RequestKind::Poll && self.spaced();
        let real = self.real(now);
        let wall = |at| later(at, self.skew);
        let spaced = self.spacing.free_at(real, limit).filter(|_| spaced).map(wall);
        let held = self.budget.free_at(now).or(spaced);
        if held.is_none() && self.reserved == 0 {
            return Err(Denied { free_at: None, used_up: false, reserve: Some(self.step()) });
        }
        let quota = &mut self.quota;
        let taken = held.map_or_else(|| quota.take(real).map_err(|at| at.map(wall)), |at| Err(Some(at)));
        if let Err(free_at) = taken {
            if kind == RequestKind::Other {
                self.kept = free_at.unwrap_or(now).checked_add(KEPT).ok().map(|until| now..until);
            }
            return Err(refusal(free_at));
        }
        self.budget.spend();
        self.reserved -= 1;
        if self.spaced() {
            self.spacing.spend(real, limit);
        } else {
            self.spacing = Spacing::default();
        }
        if kind == RequestKind::Other {
            self.kept = None;
        }
        Ok(AllowedRequest { sent_at: now, probe })
    }

    /// Whether calls go out evenly, and not as fast as the quota lets them.
    fn spaced(&self) -> bool {
        self.catching_up || self.stretch > 1.0
    }

    /// How many requests are reserved at once: a crash makes as many count as sent that were not.
    fn step(&self) -> u32 {
        let by_month = self.budget.limit().map_or(u64::MAX, |limit| limit / u64::from(STEPS));
        let by_minute = self.requests_per_minute / STEPS;
        u32::try_from(by_month).unwrap_or(u32::MAX).min(by_minute).max(1)
    }

    /// So many more requests are written as sent: they may go out.
    pub fn reserved(&mut self, requests: u32) {
        self.reserved = self.reserved.saturating_add(requests);
    }

    /// A clean end: gives back what was reserved and did not go out.
    pub fn release(&mut self) -> u32 {
        std::mem::take(&mut self.reserved)
    }

    /// The answer of a request that was sent at `sent_at` is here, or it was given up at `now`.
    pub fn ended(&mut self, sent_at: Timestamp, now: Timestamp) {
        self.quota.release(self.real(now));
        if !(self.month.start..self.month.end).contains(&sent_at) {
            self.month = Month::of(sent_at);
        }
        match self.uncounted.last_mut() {
            Some(last) if last.at.as_second() == now.as_second() && last.month == self.month => {
                last.requests += 1
            }
            _ => self.uncounted.push(Ended { at: now, month: self.month, requests: 1 }),
        }
    }

    /// The requests that have ended and are not counted yet; they are from here on.
    pub fn count(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.uncounted)
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.quota.used()
    }

    /// Takes in what a call said; see [`AccountState::observe`].
    pub fn observe(
        &mut self,
        label: Option<i64>,
        signal: &AccountSignal,
        call: AllowedRequest,
        now: Timestamp,
    ) -> Observation {
        let state = &mut self.state;
        let before = (state.status, state.probe_at, state.throttled_until);
        let change = state.observe(label, signal, self.labels, call.probe, now);
        let changed = before != (state.status, state.probe_at, state.throttled_until);
        self.catching_up |= change == Some(AccountChange::CameBack);
        let mut share = None;
        if let (AccountSignal::Throttled { .. }, Some(until)) = (signal, state.throttled_until) {
            let used = (self.quota.used(), self.requests_per_minute);
            let share_before = self.share;
            share = self.share.throttled(call.sent_at, used, before.2, until, now);
            self.share_changed |= share_before != self.share;
        }
        Observation { changed, change, share }
    }

    /// Whether the share has just grown back to all of the limit.
    pub fn share_recovered(&mut self, now: Timestamp) -> bool {
        let before = self.share;
        let recovered = self.share.recovered(now);
        self.share_changed |= self.share != before;
        recovered
    }

    /// The share, if it changed since it was last asked for.
    pub fn share_to_record(&mut self) -> Option<Share> {
        std::mem::take(&mut self.share_changed).then_some(self.share)
    }

    /// What the account may ask at `now`, in requests per second.
    pub fn allowed(&mut self, now: Timestamp) -> f64 {
        self.budget.fill(now);
        pace::allowed(self.requests_per_minute, &self.share, &self.budget, now)
    }

    /// The labels of the account ask for so much. Some(factor) if how far that stretches their waits is to be told.
    pub fn asks(&mut self, demand: Demand, now: Timestamp) -> Option<f64> {
        (self.labels, self.demand) = (demand.labels, demand);
        self.stretch = pace::stretch(demand.rate, self.allowed(now));
        // That the month is used up is said by itself.
        if !self.stretch.is_finite() || !pace::is_worth_telling(self.told_stretch, self.stretch) {
            return None;
        }
        self.told_stretch = self.stretch;
        Some(self.stretch)
    }

    /// A label has its turn, so late as a share of its wait, if it had one.
    pub fn serves(&mut self, lateness: Option<f64>) {
        if let Some(lateness) = lateness {
            self.lateness += (lateness.max(0.0) - self.lateness) / MEAN_OF;
        }
    }
}

#[cfg(test)]
mod tests;
