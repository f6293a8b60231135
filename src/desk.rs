//! The desk: an account's use of the API, shared by the trades that call it.
//!
//! Whoever asks for an account takes a slot first and says afterwards what came back. So its quota, its waiting after a
//! 429 and its single probe hold for all of its calls together, whoever makes them. The ledger behind a desk outlives a
//! reload: the next desk goes on with it.
//!
//! It sends nothing and plans nothing; what it is told is weighed by [`crate::domain::account`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use crate::clock;
use crate::config::Account;
use crate::domain::account::{ALL_LABELS, AccountChange, AccountState, Verdict};
use crate::domain::message::{MessageType, about_account};
use crate::domain::poll::PlannedDelivery;
use crate::domain::quota::{Quota, WINDOW};
use crate::domain::subscriber::{Format, Subscriber};
use crate::shipstation::Client;
use crate::store::accounts::AccountRecord;
use crate::store::{Store, StoreError};

/// An account and what its callers share.
#[derive(Debug)]
pub struct Desk {
    pub account: Account,
    pub client: Client,
    pub store: Store,
    ledger: Arc<Mutex<Ledger>>,
}

/// What holds for all calls of an account, before and after a reload.
#[derive(Debug)]
struct Ledger {
    quota: Quota,
    state: AccountState,
    /// How many labels the account has polled, as far as it matters.
    labels: usize,
    /// From when on a slot is kept for an errand that found none.
    promised_at: Option<Timestamp>,
}

/// How long a slot is kept: looks would take every one that comes free.
const KEPT: SignedDuration = SignedDuration::from_secs(1);

/// What a call is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// A look at a label, or what stands in for one. Of a fallen account one at a time goes out as its probe.
    Look,
    /// Anything else; it waits until the account stands, and a slot that it waited for is kept for it.
    Other,
}

/// A call that was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub sent_at: Timestamp,
    /// Sent as the probe of a fallen account.
    pub probe: bool,
}

/// What a call changed about its account: to be recorded.
#[derive(Clone, Debug)]
pub struct Observed {
    pub change: Option<AccountChange>,
    pub state: AccountState,
}

/// A call's place in the quota, given back when its answer is here or nobody waits for it any more.
#[derive(Debug)]
pub struct Slot {
    desk: Arc<Desk>,
    pub call: Call,
}

impl Desk {
    /// Takes the account up where an earlier process left it: what that asked in the last window counts.
    pub async fn open(
        account: Account,
        store: Store,
        client: Client,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let state = store.account_state(&account.name, now).await?;
        let since = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
        let used = store.polled_since(&account.name, since).await?;
        // What was under way when it ended is not remembered: it counts as if all of it had been sent.
        let under_way = if used > 0 { u64::from(account.max_in_flight) } else { 0 };
        let used = usize::try_from(used + under_way).unwrap_or(usize::MAX);
        let quota = Quota::new(account.requests_per_minute).with_used(used, now);
        let ledger = Ledger { quota, state, labels: ALL_LABELS, promised_at: None };
        Ok(Self { account, client, store, ledger: Arc::new(Mutex::new(ledger)) })
    }

    /// The desk as `account` is configured from now on. Another key or URL is tried at once.
    pub fn reopened(&self, account: Account, now: Timestamp) -> Self {
        let same = (&account.base_url, &account.tracking_path, &account.api_key)
            == (&self.account.base_url, &self.account.tracking_path, &self.account.api_key);
        {
            let mut ledger = self.ledger();
            ledger.quota.set_limit(account.requests_per_minute);
            if let Some(probe_at) = ledger.state.probe_at.as_mut().filter(|_| !same) {
                *probe_at = now.min(*probe_at);
            }
        }
        let (client, store, ledger) = (self.client.clone(), self.store.clone(), Arc::clone(&self.ledger));
        Self { account, client, store, ledger }
    }

    /// Allows a call at `now`, or says when to come again; `None` if that depends on a call under way.
    pub fn take(self: &Arc<Self>, errand: Errand, now: Timestamp) -> Result<Slot, Option<Timestamp>> {
        let mut ledger = self.ledger();
        if let Some(open_at) = ledger.state.open_at(now) {
            return Err(Some(open_at));
        }
        let probe = ledger.state.probing();
        if probe && (errand != Errand::Look || ledger.quota.in_flight() > 0) {
            return Err(None);
        }
        match errand {
            Errand::Look => ledger.leave_what_is_promised(now)?,
            Errand::Other => ledger.promised_at = None,
        }
        if let Err(free_at) = ledger.quota.take(now) {
            ledger.promised_at = free_at.filter(|_| errand == Errand::Other).or(ledger.promised_at);
            return Err(free_at);
        }
        drop(ledger);
        Ok(Slot { desk: Arc::clone(self), call: Call { sent_at: now, probe } })
    }

    /// When calls may go out again: `None` is now, as far as the account's standing decides.
    pub fn open_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.ledger().state.open_at(now)
    }

    /// Whether only one call at a time may go out.
    pub fn probing(&self) -> bool {
        self.ledger().state.probing()
    }

    /// Whether a call was answered well after `since`, as far as this process knows.
    pub fn answered_since(&self, since: Timestamp) -> bool {
        self.ledger().state.last_fine_at.is_some_and(|at| at > since)
    }

    /// How many slots are in use.
    pub fn used(&self) -> usize {
        self.ledger().quota.used()
    }

    /// How many labels the account has polled, counted up to [`ALL_LABELS`].
    pub fn polls_labels(&self, labels: usize) {
        self.ledger().labels = labels;
    }

    /// Takes in what a call said, about the label of the row `label` if it was about one. `Some` if that changed how
    /// the account stands.
    pub fn observe(
        &self,
        label: Option<i64>,
        verdict: &Verdict,
        call: Call,
        now: Timestamp,
    ) -> Option<Observed> {
        let (change, state) = {
            let ledger = &mut *self.ledger();
            let state = &mut ledger.state;
            let before = (state.standing, state.probe_at, state.throttled_until);
            let change = state.observe(label, verdict, ledger.labels, call.probe, now);
            if before == (state.standing, state.probe_at, state.throttled_until) {
                return None;
            }
            (change, state.clone())
        };
        self.say(change, &state, verdict);
        Some(Observed { change, state })
    }

    /// What is written of a change, with what is told of it to those `subscribers` who want it.
    pub fn to_record(&self, observed: Observed, subscribers: &[Subscriber], now: Timestamp) -> AccountRecord {
        let Observed { change, state } = observed;
        let account = &self.account.name;
        let kind = match change {
            Some(AccountChange::Refused) => Some(MessageType::AccountUnauthorized),
            Some(AccountChange::Accepted) => Some(MessageType::AccountRecovered),
            Some(AccountChange::WentDown | AccountChange::CameBack) | None => None,
        };
        let about =
            |kind| about_account(kind, account, state.standing.as_str(), state.detail.as_deref(), now);
        let messages: Vec<_> = kind.map(about).into_iter().collect();
        let deliveries = messages.iter().enumerate().flat_map(|(index, message)| {
            subscribers
                .iter()
                .filter(|subscriber| subscriber.format == Format::Standard)
                .filter(|subscriber| subscriber.wants(message.kind, Some(account)))
                .map(move |subscriber| PlannedDelivery {
                    message: index,
                    subscriber: subscriber.name.clone(),
                    format: Format::Standard,
                })
        });
        AccountRecord {
            name: account.clone(),
            change,
            deliveries: deliveries.collect(),
            messages,
            requests_per_minute: self.account.requests_per_minute,
            state,
            now,
        }
    }

    fn say(&self, change: Option<AccountChange>, state: &AccountState, verdict: &Verdict) {
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
        if let Verdict::Throttled { retry_after } = verdict {
            warn!(account = %account, wait_s = retry_after.as_secs(), "the API says 429: the account waits");
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// An error while a slot is kept for another errand, with when that ends.
    fn leave_what_is_promised(&self, now: Timestamp) -> Result<(), Option<Timestamp>> {
        let Some(promised_at) = self.promised_at else { return Ok(()) };
        let kept_until = promised_at.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let kept = (promised_at..kept_until).contains(&now);
        if kept { Err(Some(kept_until)) } else { Ok(()) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.desk.ledger().quota.release(clock::now().max(self.call.sent_at));
    }
}
