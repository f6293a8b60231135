//! The access: an account's use of the API, shared by the workers that call it.
//!
//! Whoever asks for an account takes a permit first and says afterwards what came back. So its quota, its budget, its
//! waiting after a 429 and its single probe hold for all of its calls together, whoever makes them. The limiter behind a
//! access outlives a reload: the next access goes on with it.
//!
//! It sends nothing and plans nothing; what it is told is weighed by [`crate::domain`], and what it counts is written by
//! the caller, with what the call brought.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::clock::{self, Running};
use crate::config::Account;
use crate::domain::degraded::{Degraded, FIRST_POLLS, first_polls_in_words, first_polls_take};
use crate::domain::messages::fan_out;
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::messages::{MessageType, about_account};
use crate::domain::polling::account_status::{AccountChange, AccountSignal, AccountState};
use crate::domain::polling::budget::Budget;
use crate::domain::polling::quota::Quota;
use crate::domain::polling::rate_limiter::{Demand, Denied, RateLimiter};
use crate::domain::time::later;
use crate::shipstation::Client;
use crate::store::accounts::AccountRecord;
use crate::store::usage::Usage;
use crate::store::{Store, StoreError};

pub use crate::domain::polling::rate_limiter::{AllowedRequest, RequestKind};

/// An account and what its callers share.
#[derive(Debug)]
pub struct AccountAccess {
    pub account: Account,
    pub client: Client,
    pub store: Store,
    limiter: Arc<Mutex<RateLimiter>>,
    next_due_ms: AtomicI64,
    came_back: AtomicBool,
    /// Whether it was told that first polls take long.
    told_first_polls: AtomicBool,
}

/// What a call changed about its account: to be recorded.
#[derive(Clone, Debug)]
pub struct AccountUpdate {
    pub change: Option<AccountChange>,
    pub state: AccountState,
}

/// A call's place in the quota, given back when its answer is here or nobody waits for it any more.
#[derive(Debug)]
pub struct Permit {
    access: Arc<AccountAccess>,
    pub call: AllowedRequest,
    running: Running,
}

impl AccountAccess {
    /// Takes the account up where an earlier process left it. Should we die, what is under way counts as sent.
    pub async fn open(
        account: Account,
        store: Store,
        client: Client,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut state = store.account_state(&account.name, now).await?;
        let used = store.take_up_quota(&account.name, now).await?;
        if let (Some(until), Some(at)) =
            (&mut state.throttled_until, used.share.throttled_at.filter(|at| *at > now))
        {
            // The clock was ahead when it was told to wait.
            *until = later(now, until.duration_since(at));
        }
        state.pull_in(now);
        let lately = used.lately.iter().map(|(_, requests)| *requests as u64).sum();
        let limiter = RateLimiter::new(
            Quota::new(account.requests_per_minute).with_used(used.lately),
            Budget::new(account.requests_per_month, used.this_month, lately, now),
            used.share,
            state,
            account.requests_per_minute,
            used.lateness,
        );
        let limiter = limiter.opened_under(clock::skew());
        Ok(Self::over(account, client, store, Arc::new(Mutex::new(limiter))))
    }

    /// The access as `account` is configured from now on. Another key or URL is tried at once.
    pub fn reopened(&self, account: Account, client: Client, now: Timestamp) -> Self {
        let same = (&account.base_url, &account.tracking_path, &account.api_key)
            == (&self.account.base_url, &self.account.tracking_path, &self.account.api_key);
        self.limiter().reopen(account.requests_per_minute, account.requests_per_month, !same, now);
        let (store, limiter) = (self.store.clone(), Arc::clone(&self.limiter));
        Self::over(account, client, store, limiter)
    }

    fn over(account: Account, client: Client, store: Store, limiter: Arc<Mutex<RateLimiter>>) -> Self {
        Self {
            account,
            client,
            store,
            limiter,
            next_due_ms: AtomicI64::new(i64::MAX),
            came_back: AtomicBool::new(false),
            told_first_polls: AtomicBool::new(false),
        }
    }

    /// A clean end: what was reserved and not sent is given back. What was sent and is not counted counts as sent.
    pub async fn close(&self, now: Timestamp) -> Result<(), StoreError> {
        let unused = self.limiter().release();
        self.record_usage(now).await?;
        self.store.release_requests(&self.account.name, unused).await
    }

    /// Allows a request at `now`, or says when to come again; `None` if that depends on a request in flight.
    pub async fn take(
        self: &Arc<Self>,
        kind: RequestKind,
        now: Timestamp,
    ) -> Result<Result<Permit, Option<Timestamp>>, StoreError> {
        let account = &self.account.name;
        loop {
            let taken = {
                let mut limiter = self.limiter();
                limiter.skewed(clock::skew(), now);
                if limiter.share_recovered(now) {
                    info!(account = %account, "no 429 came for long: the account uses its whole limit again");
                }
                limiter.take(kind, now)
            };
            match taken {
                Ok(call) => {
                    return Ok(Ok(Permit {
                        access: Arc::clone(self),
                        call,
                        running: Running::since(call.sent_at),
                    }));
                }
                // If we die after this, the requests count as sent at the next start, though they were not.
                Err(Denied { reserve: Some(requests), .. }) => {
                    self.store.reserve_requests(account, requests).await?;
                    self.limiter().reserved(requests);
                }
                Err(Denied { free_at, used_up, .. }) => {
                    if used_up {
                        let until = free_at.unwrap_or(Timestamp::MAX);
                        warn!(account = %account, %until,
                            "the account's monthly budget is used up: no request until then");
                    }
                    return Ok(Err(free_at));
                }
            }
        }
    }

    /// When calls may go out again: `None` is now, as far as the account's status decides.
    pub fn open_at(&self, now: Timestamp) -> Option<Timestamp> {
        let mut limiter = self.limiter();
        limiter.skewed(clock::skew(), now);
        limiter.state.open_at(now)
    }

    /// Whether only one call at a time may go out.
    pub fn probing(&self) -> bool {
        self.limiter().state.probing()
    }

    /// The label whose refusal made the account fall, as far as this process knows.
    pub fn fell_by(&self) -> Option<i64> {
        self.limiter().state.fell_by
    }

    /// Whether the account has come back from an outage since the last call: labels that failed are forgiven.
    pub fn take_came_back(&self) -> bool {
        self.came_back.swap(false, Ordering::Relaxed)
    }

    /// When the next label is due, as the poller knows.
    pub fn set_next_due(&self, at: Option<Timestamp>) {
        self.next_due_ms.store(at.map_or(i64::MAX, Timestamp::as_millisecond), Ordering::Relaxed);
    }

    /// Whether a label is due at `now`, as far as the poller has said.
    pub fn any_due(&self, now: Timestamp) -> bool {
        self.next_due_ms.load(Ordering::Relaxed) <= now.as_millisecond()
    }

    /// Whether a call was answered well after `since`, as far as this process knows.
    pub fn answered_since(&self, since: Timestamp) -> bool {
        self.limiter().state.last_fine_at.is_some_and(|at| at > since)
    }

    /// What the account may ask at `now`, in requests per second.
    pub fn allowed(&self, now: Timestamp) -> f64 {
        self.limiter().allowed(now)
    }

    /// How many permits are in use.
    pub fn used(&self) -> usize {
        self.limiter().used()
    }

    /// The labels ask for so much: how far that stretches their waits.
    pub fn asks(&self, demand: Demand, now: Timestamp) {
        let (told, allowed) = {
            let mut limiter = self.limiter();
            (limiter.asks(demand, now), limiter.allowed(now))
        };
        self.tell_first_polls(demand.first_polls as u64, allowed);
        let Some(stretch) = told else { return };
        let demand = demand.rate;
        let account = &self.account.name;
        let asked = format!("{:.1}", demand * 60.0);
        if stretch > 1.0 {
            let allowed = format!("{:.1}", demand * 60.0 / stretch);
            let stretch = format!("{stretch:.2}");
            warn!(account = %account, stretch, asked_per_minute = asked, allowed_per_minute = allowed,
                "the labels ask for more than the quota gives: all their waits are stretched by this factor");
        } else {
            info!(account = %account, asked_per_minute = asked,
                "the quota gives what the labels ask for: no wait is stretched any more");
        }
    }

    /// Says once that the first polls take long, and once that they no longer do.
    fn tell_first_polls(&self, waiting: u64, allowed: f64) {
        let take = first_polls_take(waiting, allowed);
        let (long, told) = (&self.told_first_polls, self.told_first_polls.load(Ordering::Relaxed));
        let account = &self.account.name;
        if !told && Degraded::first_polls(account.as_str(), waiting, take).is_some() {
            long.store(true, Ordering::Relaxed);
            let said = first_polls_in_words(waiting, take);
            warn!(account = %account, first_polls_waiting = waiting, "first polls take long: {said}");
        } else if told && take.is_some_and(|take| take < FIRST_POLLS / 2) {
            long.store(false, Ordering::Relaxed);
            info!(account = %account, first_polls_waiting = waiting, "first polls take less than half an hour");
        }
    }

    /// A label has its turn, so late as a share of its wait, if it had one.
    pub fn serves(&self, lateness: Option<f64>) {
        self.limiter().serves(lateness);
    }

    /// Nothing is due any more.
    pub fn caught_up(&self) {
        self.limiter().catching_up = false;
    }

    /// Takes in what a call said, about the label of the row `label` if it was about one. `Some` if that changed how
    /// the account stands.
    pub fn observe(
        &self,
        label: Option<i64>,
        signal: &AccountSignal,
        call: AllowedRequest,
        now: Timestamp,
    ) -> Option<AccountUpdate> {
        let account = &self.account.name;
        let mut limiter = self.limiter();
        let seen = limiter.observe(label, signal, call, now);
        let state = limiter.state.clone();
        drop(limiter);
        if let Some(share) = seen.share {
            let percent = (share * 100.0).round();
            warn!(account = %account, percent,
                "429 again within the limit: somebody else uses it too, and the account takes so much less for now");
        }
        if !seen.changed {
            return None;
        }
        self.say(seen.change, &state, signal);
        if seen.change == Some(AccountChange::CameBack) {
            self.came_back.store(true, Ordering::Relaxed);
        }
        Some(AccountUpdate { change: seen.change, state })
    }

    /// What is written of a change, with what is told of it to those `subscribers` who want it.
    pub fn to_record(
        &self,
        observed: AccountUpdate,
        subscribers: &[Subscriber],
        now: Timestamp,
    ) -> AccountRecord {
        let AccountUpdate { change, state } = observed;
        let account = &self.account.name;
        let kind = match change {
            Some(AccountChange::Refused) => Some(MessageType::AccountUnauthorized),
            Some(AccountChange::Accepted) => Some(MessageType::AccountRecovered),
            Some(AccountChange::WentDown | AccountChange::CameBack) | None => None,
        };
        let about = |kind| about_account(kind, account, state.status.as_str(), state.detail.as_deref(), now);
        let messages: Vec<_> = kind.map(about).into_iter().collect();
        let deliveries = fan_out::of_system(&messages, Some(account), subscribers);
        AccountRecord { name: account.clone(), change, deliveries, messages, state, now }
    }

    fn say(&self, change: Option<AccountChange>, state: &AccountState, signal: &AccountSignal) {
        let account = &self.account.name;
        let detail = state.detail.as_deref().unwrap_or_default();
        match change {
            Some(AccountChange::Refused) => {
                warn!(account = %account, detail, "the account is refused: polling is suspended but for a probe")
            }
            Some(AccountChange::Accepted) => info!(account = %account, "the account is accepted again"),
            Some(AccountChange::WentDown) => {
                warn!(account = %account, detail, "all labels fail: one probe at a time until the API answers")
            }
            Some(AccountChange::CameBack) => info!(account = %account, "the API answers again"),
            None => {}
        }
        if let AccountSignal::Throttled { retry_after } = signal {
            warn!(account = %account, wait_s = retry_after.as_secs(), "the API says 429: the account waits");
        }
    }

    /// The carrier is asked too often: its labels wait until then, also after a restart.
    pub async fn hold(&self, carrier: String, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        warn!(account = %self.account.name, carrier, %until, "the carrier is asked too often: its labels wait");
        self.store.hold_carrier(&self.account.name, carrier, until, now).await
    }

    /// The requests that have ended and were not counted yet, to be written, and what is known of the quota.
    pub fn usage(&self) -> Usage {
        let mut limiter = self.limiter();
        Usage {
            ended: limiter.count(),
            lateness: limiter.lateness,
            stretch: limiter.stretch,
            demand: limiter.demand,
            share: limiter.share_to_record(),
            last_success_at: limiter.state.last_fine_at,
        }
    }

    /// Writes what was used by itself: nothing else is to be written.
    pub async fn record_usage(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.record_usage(&self.account.name, self.usage(), now).await
    }

    fn limiter(&self) -> MutexGuard<'_, RateLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (now, skew) = (self.running.now(), clock::skew());
        let mut limiter = self.access.limiter();
        limiter.skewed(skew, now);
        limiter.ended(self.call.sent_at, now);
    }
}
