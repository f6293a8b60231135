//! Whether an account may make a call now: its quota, its budget, its share of the limit and its standing at once.
//!
//! One value under one lock, so that trades that call side by side can't both take the last slot. It keeps what its
//! parts decide together, and decides nothing of its own but their order.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};

use super::account::{ALL_LABELS, AccountChange, AccountState, Verdict};
use super::budget::Budget;
use super::pace;
use super::quota::{Quota, Spacing};
use super::share::Share;

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A look at a label. Of a fallen account one at a time goes out as its probe.
    Look,
    /// Anything else; it waits until the account stands. When it has to wait, the next free slot is kept for it: there
    /// are few of them, and looks would take every one.
    Other,
}

/// A call that was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub sent_at: Timestamp,
    /// Sent as the probe of a fallen account.
    pub probe: bool,
}

/// A call that has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When to come again; `None` if that depends on a call under way.
    pub free_at: Option<Timestamp>,
    /// The month's budget is used up, and it was not said yet.
    pub used_up: bool,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// The standing, or when the next call may go out.
    pub changed: bool,
    pub change: Option<AccountChange>,
    /// The share of the limit that is used from now on, if it got smaller.
    pub share: Option<f64>,
}

/// What holds for all calls of an account.
#[derive(Debug)]
pub struct Ledger {
    pub state: AccountState,
    /// Turns served; see [`pace::order`].
    pub turn: u64,
    /// How late labels are served, as a share of their wait: a mean of the last.
    pub lateness: f64,
    /// By how much all waits stretch, at least 1.
    pub stretch: f64,
    /// After an outage: what fell behind is asked about evenly, until nothing is due any more.
    pub catching_up: bool,
    quota: Quota,
    spacing: Spacing,
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
    /// Calls that are over and in nobody's record, and when the last of them ended.
    uncounted: u32,
    ended_at: Option<Timestamp>,
}

/// How long a free slot is kept for who had to wait for it.
const KEPT: SignedDuration = SignedDuration::from_secs(2);
/// So many turns count in the mean of lateness.
const MEAN_OF: f64 = 32.0;

impl Ledger {
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
            turn: 0,
            lateness,
            catching_up: false,
            quota,
            spacing: Spacing::default(),
            budget,
            share,
            share_changed: false,
            requests_per_minute,
            labels: ALL_LABELS,
            stretch: 1.0,
            told_stretch: 1.0,
            told_used_up: None,
            kept: None,
            uncounted: 0,
            ended_at: None,
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

    /// Allows a call at `now`, or says when to come again.
    pub fn take(&mut self, errand: Errand, now: Timestamp) -> Result<Call, Refusal> {
        let refusal = |free_at| Refusal { free_at, used_up: false };
        if let Some(open_at) = self.state.open_at(now) {
            return Err(refusal(Some(open_at)));
        }
        let probe = self.state.probing();
        if probe && (errand == Errand::Other || self.quota.in_flight() > 0) {
            return Err(refusal(None));
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| errand == Errand::Look && kept.contains(&now)) {
            return Err(refusal(Some(kept.end)));
        }
        if let Some(end) = self.budget.used_up_until().filter(|end| *end > now) {
            let used_up = self.told_used_up.replace(end) != Some(end);
            return Err(Refusal { free_at: Some(end), used_up });
        }
        let limit = self.share.of(self.requests_per_minute, now);
        self.quota.set_limit(limit);
        let spaced = errand == Errand::Look && self.spaced();
        let held = self.budget.free_at(now).or_else(|| self.spacing.free_at(now, limit).filter(|_| spaced));
        let taken = held.map_or_else(|| self.quota.take(now), |at| Err(Some(at)));
        if let Err(free_at) = taken {
            if errand == Errand::Other {
                self.kept = free_at.unwrap_or(now).checked_add(KEPT).ok().map(|until| now..until);
            }
            return Err(refusal(free_at));
        }
        self.budget.spend();
        if self.spaced() {
            self.spacing.spend(now, limit);
        } else {
            self.spacing = Spacing::default();
        }
        if errand == Errand::Other {
            self.kept = None;
        }
        Ok(Call { sent_at: now, probe })
    }

    /// Whether calls go out evenly, and not as fast as the quota lets them.
    fn spaced(&self) -> bool {
        self.catching_up || self.stretch > 1.0
    }

    /// A call's answer is here, or it was given up at `now`.
    pub fn ended(&mut self, now: Timestamp) {
        self.quota.release(now);
        self.uncounted += 1;
        self.ended_at = self.ended_at.max(Some(now));
    }

    /// The calls that are over and in nobody's record, which is made for `now`, and when the last of them ended: some may
    /// have ended since then.
    pub fn count(&mut self, now: Timestamp) -> (u32, Timestamp) {
        let ended_at = self.ended_at.take().map_or(now, |at| at.max(now));
        (std::mem::take(&mut self.uncounted), ended_at)
    }

    /// A record of so many calls could not be made.
    pub fn uncount(&mut self, calls: u32) {
        self.uncounted = self.uncounted.saturating_add(calls);
    }

    /// Calls that may have been sent and are in nobody's record.
    pub fn unrecorded(&self) -> u32 {
        u32::try_from(self.quota.in_flight()).unwrap_or(u32::MAX).saturating_add(self.uncounted)
    }

    /// Slots in use.
    pub fn used(&self) -> usize {
        self.quota.used()
    }

    /// Takes in what a call said; see [`AccountState::observe`].
    pub fn observe(&mut self, label: Option<i64>, verdict: &Verdict, call: Call, now: Timestamp) -> Seen {
        let state = &mut self.state;
        let before = (state.standing, state.probe_at, state.throttled_until);
        let change = state.observe(label, verdict, self.labels, call.probe, now);
        let changed = before != (state.standing, state.probe_at, state.throttled_until);
        self.catching_up |= change == Some(AccountChange::CameBack);
        let mut share = None;
        if let (Verdict::Throttled { .. }, Some(until)) = (verdict, state.throttled_until) {
            let used = (self.quota.used(), self.requests_per_minute);
            let share_before = self.share;
            share = self.share.throttled(call.sent_at, used, before.2, until, now);
            self.share_changed |= share_before != self.share;
        }
        Seen { changed, change, share }
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

    /// The account has `labels` polled, which ask for `demand` requests a second. Some(factor) if how far that stretches
    /// their waits is to be told.
    pub fn asks(&mut self, labels: usize, demand: f64, now: Timestamp) -> Option<f64> {
        self.labels = labels;
        self.stretch = pace::stretch(demand, self.allowed(now));
        // That the month is used up is said by itself.
        if !self.stretch.is_finite() || !pace::is_worth_telling(self.told_stretch, self.stretch) {
            return None;
        }
        self.told_stretch = self.stretch;
        Some(self.stretch)
    }

    /// A label has its turn, so late as a share of its wait, if it had one.
    pub fn serves(&mut self, lateness: Option<f64>) {
        self.turn += 1;
        if let Some(lateness) = lateness {
            self.lateness += (lateness.max(0.0) - self.lateness) / MEAN_OF;
        }
    }
}

#[cfg(test)]
mod tests;
