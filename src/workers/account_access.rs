//! An account's use of the API, shared by the workers that send requests.
//!
//! A worker acquires a permit before a request and reports the answer afterwards. So quota, budget, 429 waits and the
//! single probe apply to all requests of the account together. The rate limiter outlives a reload: the next access uses
//! the same one.
//!
//! This module sends nothing and plans nothing. [`crate::domain`] judges the answers, and the caller writes the counted
//! requests together with the result of the answer.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tracing::{info, warn};

use crate::clock::{self, StepClock};
use crate::domain::account::Account;
use crate::domain::degraded::{Degraded, FIRST_POLLS, first_polls_in_words, first_polls_take};
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::polling::account_status::{AccountChange, AccountSignal, AccountState};
use crate::domain::polling::budget::Budget;
use crate::domain::polling::quota::Quota;
use crate::domain::polling::rate_limiter::{Demand, Denied, RateLimiter};
use crate::shipstation::Client;
use crate::store::accounts::AccountRecord;
use crate::store::usage::Usage;
use crate::store::{Store, StoreError};

pub use crate::domain::polling::rate_limiter::{AllowedRequest, RequestKind};

/// An account with everything that its workers share.
#[derive(Debug)]
pub struct AccountAccess {
    pub account: Account,
    pub client: Client,
    pub store: Store,
    limiter: Arc<Mutex<RateLimiter>>,
    next_due_ms: AtomicI64,
    came_back: AtomicBool,
    /// Whether the log says that first polls take long.
    logged_first_polls: AtomicBool,
}

/// A change of the account, to be recorded.
#[derive(Clone, Debug)]
pub struct AccountUpdate {
    pub change: Option<AccountChange>,
    pub state: AccountState,
}

/// Permit for one request. Dropping it releases it.
#[derive(Debug)]
pub struct Permit {
    access: Arc<AccountAccess>,
    pub allowed: AllowedRequest,
    running: StepClock,
}

impl AccountAccess {
    /// Opens the account with the state that an earlier process wrote. Requests that were reserved when it died count
    /// as sent.
    pub async fn open(
        account: Account,
        store: Store,
        client: Client,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut state = store.account_state(&account.name, now).await?;
        let used = store.open_quota(&account.name, now).await?;
        state.continue_at(store.last_request_at().await?, used.adaptive_limit.throttled_at, now);
        let limiter = RateLimiter::new(
            Quota::new(account.requests_per_minute).with_used(used.lately.clone()),
            Budget::new(account.requests_per_month, used.this_month, now)
                .with_lately(used.lately)
                .with_months(used.months),
            used.adaptive_limit,
            state,
            account.requests_per_minute,
            used.lateness,
        );
        let limiter = limiter.with_skew(clock::skew());
        Ok(Self::with_limiter(account, client, store, Arc::new(Mutex::new(limiter))))
    }

    /// Returns the access under a new configuration. A new key or URL is probed at once.
    pub fn reopened(&self, account: Account, client: Client, now: Timestamp) -> Self {
        let of_requests = |account: &Account| {
            let Account { base_url, tracking_path, api_key, allow_insecure, proxies, .. } = account.clone();
            (base_url, tracking_path, api_key, allow_insecure, proxies)
        };
        let same = of_requests(&account) == of_requests(&self.account);
        self.limiter().reopen(account.requests_per_minute, account.requests_per_month, !same, now);
        let (store, limiter) = (self.store.clone(), Arc::clone(&self.limiter));
        Self::with_limiter(account, client, store, limiter)
    }

    fn with_limiter(
        account: Account,
        client: Client,
        store: Store,
        limiter: Arc<Mutex<RateLimiter>>,
    ) -> Self {
        Self {
            account,
            client,
            store,
            limiter,
            next_due_ms: AtomicI64::new(i64::MAX),
            came_back: AtomicBool::new(false),
            logged_first_polls: AtomicBool::new(false),
        }
    }

    /// Closes the account: reserved requests that were not sent are returned, the others count as sent.
    pub async fn close(&self, now: Timestamp) -> Result<(), StoreError> {
        let unused = self.limiter().take_reserved();
        self.record_usage(now).await?;
        let state = self.limiter().state.clone();
        if state.throttled_until.is_some() {
            // A jump of the clock moved the wait in memory.
            let record = AccountRecord::new(&self.account.name, state, None, &[], now);
            self.store.record_account(record).await?;
        }
        self.store.release_requests(&self.account.name, unused).await
    }

    /// Returns a permit for a request at `now`, or when to try again; `None` if that depends on a request in flight.
    pub async fn acquire(
        self: &Arc<Self>,
        kind: RequestKind,
        now: Timestamp,
    ) -> Result<Result<Permit, Option<Timestamp>>, StoreError> {
        let account = &self.account.name;
        loop {
            let taken = {
                let mut limiter = self.limiter();
                limiter.set_skew(clock::skew(), now);
                if limiter.limit_recovered(now) {
                    info!(account = %account, "no 429 for some time: the adaptive limit is 100 % of requests_per_minute again");
                }
                limiter.acquire(kind, now)
            };
            match taken {
                Ok(allowed) => {
                    return Ok(Ok(Permit {
                        access: Arc::clone(self),
                        allowed,
                        running: StepClock::since(allowed.sent_at),
                    }));
                }
                // Crash point: after this write the requests count as sent at the next start, although they were not.
                Err(Denied { reserve: Some(requests), .. }) => {
                    self.store.reserve_requests(account, requests).await?;
                    self.limiter().add_reserved(requests);
                }
                Err(Denied { free_at, used_up, .. }) => {
                    if used_up {
                        let until = free_at.unwrap_or(Timestamp::MAX);
                        warn!(account = %account, %until,
                            "the monthly budget of the account is used up: no requests until the next month");
                    }
                    return Ok(Err(free_at));
                }
            }
        }
    }

    /// Returns when the account's status allows the next request; `None`: now.
    pub fn open_at(&self, now: Timestamp) -> Option<Timestamp> {
        let mut limiter = self.limiter();
        limiter.set_skew(clock::skew(), now);
        limiter.state.open_at(now)
    }

    /// Whether only one request at a time may be sent.
    pub fn probing(&self) -> bool {
        self.limiter().state.probing()
    }

    /// The label whose refusal changed the account's status, if this process knows it.
    pub fn status_changed_by(&self) -> Option<i64> {
        self.limiter().state.status_changed_by
    }

    /// Whether the account has recovered from an outage since the last call.
    pub fn take_came_back(&self) -> bool {
        self.came_back.swap(false, Ordering::Relaxed)
    }

    /// Sets when the poller's next label is due.
    pub fn set_next_due(&self, at: Option<Timestamp>) {
        self.next_due_ms.store(at.map_or(i64::MAX, Timestamp::as_millisecond), Ordering::Relaxed);
    }

    /// Whether a label of the poller is due at `now`.
    pub fn any_due(&self, now: Timestamp) -> bool {
        self.next_due_ms.load(Ordering::Relaxed) <= now.as_millisecond()
    }

    /// Whether an answer that accepted the key came after `since` in this process.
    pub fn answered_since(&self, since: Timestamp) -> bool {
        self.limiter().state.last_success_at.is_some_and(|at| at > since)
    }

    /// Returns the requests a second that the account may send at `now`.
    pub fn allowed(&self, now: Timestamp) -> f64 {
        self.limiter().allowed(now)
    }

    /// Permits in use.
    pub fn used(&self) -> usize {
        self.limiter().used()
    }

    /// Sets the demand of the labels, and logs a change of the stretch.
    pub fn set_demand(&self, demand: Demand, now: Timestamp) {
        let (new_stretch, allowed) = {
            let mut limiter = self.limiter();
            (limiter.set_demand(demand, now), limiter.allowed(now))
        };
        self.log_first_polls(demand.first_polls as u64, allowed);
        let Some(stretch) = new_stretch else { return };
        let demand = demand.rate;
        let account = &self.account.name;
        let rounded = |value: f64| (value * 100.0).round() / 100.0;
        let per_minute = rounded(demand * 60.0);
        if stretch > 1.0 {
            let (allowed, stretch) = (rounded(demand * 60.0 / stretch), rounded(stretch));
            warn!(account = %account, stretch, demand_per_minute = per_minute, allowed_per_minute = allowed,
                "the labels need more requests than the quota allows: all intervals are stretched by {stretch}");
        } else {
            info!(account = %account, demand_per_minute = per_minute,
                "the quota is enough again: intervals are not stretched");
        }
    }

    /// Logs once when first polls begin to take long, and once when that ends.
    fn log_first_polls(&self, waiting: u64, allowed: f64) {
        let take = first_polls_take(waiting, allowed);
        let (flag, logged) = (&self.logged_first_polls, self.logged_first_polls.load(Ordering::Relaxed));
        let account = &self.account.name;
        if !logged && Degraded::first_polls(account.as_str(), waiting, take).is_some() {
            flag.store(true, Ordering::Relaxed);
            let detail = first_polls_in_words(waiting, take);
            warn!(account = %account, first_polls_waiting = waiting, "first polls take long: {detail}");
        } else if logged && take.is_some_and(|take| take < FIRST_POLLS / 2) {
            flag.store(false, Ordering::Relaxed);
            info!(account = %account, first_polls_waiting = waiting, "first polls take less than half an hour");
        }
    }

    /// Records the lateness of a poll as a fraction of its interval.
    pub fn record_lateness(&self, lateness: Option<f64>) {
        self.limiter().record_lateness(lateness);
    }

    /// Ends catching up, because no label is due.
    pub fn end_catching_up(&self) {
        self.limiter().catching_up = false;
    }

    /// Applies an answer, about the row `label` if it was a poll. Returns the change of the account's status, if any.
    pub fn observe(
        &self,
        label: Option<i64>,
        signal: &AccountSignal,
        allowed: AllowedRequest,
        now: Timestamp,
    ) -> Option<AccountUpdate> {
        let account = &self.account.name;
        let mut limiter = self.limiter();
        let seen = limiter.observe(label, signal, allowed, now);
        let state = limiter.state.clone();
        drop(limiter);
        if let Some(fraction) = seen.lowered_to {
            let percent = (fraction * 100.0).round();
            warn!(account = %account, percent,
                "429 again although requests stayed within the limit: other clients use the account too; the adaptive limit is now {percent} % of requests_per_minute");
        }
        if !seen.changed {
            return None;
        }
        self.log_change(seen.change, &state, signal);
        if seen.change == Some(AccountChange::CameBack) {
            self.came_back.store(true, Ordering::Relaxed);
        }
        Some(AccountUpdate { change: seen.change, state })
    }

    /// Returns the record of a change, with the messages about it and their deliveries.
    pub fn account_record(
        &self,
        observed: AccountUpdate,
        subscribers: &[Subscriber],
        now: Timestamp,
    ) -> AccountRecord {
        AccountRecord::new(&self.account.name, observed.state, observed.change, subscribers, now)
    }

    fn log_change(&self, change: Option<AccountChange>, state: &AccountState, signal: &AccountSignal) {
        let account = &self.account.name;
        let detail = state.detail.as_deref().unwrap_or_default();
        match change {
            Some(AccountChange::Refused) => {
                warn!(account = %account, detail, "the API refuses the account: its labels are not polled, except one probe at a time")
            }
            Some(AccountChange::Accepted) => info!(account = %account, "the API accepts the account again"),
            Some(AccountChange::WentDown) => {
                warn!(account = %account, detail, "polls of all labels fail: one probe at a time until the API answers")
            }
            Some(AccountChange::CameBack) => info!(account = %account, "the API answers again"),
            None => {}
        }
        if let AccountSignal::Throttled { wait } = signal {
            warn!(account = %account, wait_s = wait.as_secs(), "the API answered 429: the account waits for Retry-After");
        }
    }

    /// Lets the labels of a carrier wait until `until`, also after a restart.
    pub async fn hold_carrier(
        &self,
        carrier: String,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        warn!(account = %self.account.name, carrier, %until, "the API answered 429 for a carrier: its labels wait");
        self.store.hold_carrier(&self.account.name, carrier, until, now).await
    }

    /// Returns the requests that ended since the last call, and the state of the quota, to be written.
    pub fn usage(&self) -> Usage {
        let mut limiter = self.limiter();
        // The clock is read first: a jump after that is seen by the next count.
        let clock = clock::record();
        limiter.set_skew(clock::skew(), clock.mark.wall);
        Usage {
            clock,
            ended: limiter.take_ended(),
            lateness: limiter.lateness,
            stretch: limiter.stretch,
            demand: limiter.demand,
            adaptive_limit: limiter.take_changed_limit(),
            last_success_at: limiter.state.last_success_at,
        }
    }

    /// Writes the used requests in a transaction of their own.
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
        limiter.set_skew(skew, now);
        limiter.end_request(self.allowed.sent_at, now);
    }
}
