//! The desk: an account's use of the API, shared by the trades that call it.
//!
//! Whoever asks for an account takes a slot first and says afterwards what came back. So its quota, its budget, its
//! waiting after a 429 and its single probe hold for all of its calls together, whoever makes them. The ledger behind a
//! desk outlives a reload: the next desk goes on with it.
//!
//! It sends nothing and plans nothing; what it is told is weighed by [`crate::domain`], and what it counts is written by
//! the caller, with what the call brought.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tracing::{info, warn};

use crate::clock;
use crate::config::Account;
use crate::domain::account::{AccountChange, AccountState, Verdict};
use crate::domain::budget::Budget;
use crate::domain::ledger::{Ledger, Refusal};
use crate::domain::message::{MessageType, about_account};
use crate::domain::pace::Pace;
use crate::domain::quota::Quota;
use crate::domain::subscriber::Subscriber;
use crate::domain::system;
use crate::shipstation::Client;
use crate::store::accounts::AccountRecord;
use crate::store::usage::Usage;
use crate::store::{Store, StoreError};

pub use crate::domain::ledger::{Call, Errand};

/// Calls of an account that are no looks, at once.
const OTHERS: u32 = 1;

/// An account and what its callers share.
#[derive(Debug)]
pub struct Desk {
    pub account: Account,
    pub client: Client,
    pub store: Store,
    ledger: Arc<Mutex<Ledger>>,
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
    /// Takes the account up where an earlier process left it. Should we die, what is under way counts as sent.
    pub async fn open(
        account: Account,
        store: Store,
        client: Client,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let state = store.account_state(&account.name, now).await?;
        let used = store.take_up_quota(&account.name, most_under_way(&account), now).await?;
        let lately = used.lately.iter().map(|(_, requests)| *requests as u64).sum();
        let ledger = Ledger::new(
            Quota::new(account.requests_per_minute).with_used(used.lately),
            Budget::new(account.requests_per_month, used.this_month, lately, now),
            used.share,
            state,
            account.requests_per_minute,
            used.lateness,
        );
        Ok(Self { account, client, store, ledger: Arc::new(Mutex::new(ledger)) })
    }

    /// The desk as `account` is configured from now on. Another key or URL is tried at once. What may be under way stays
    /// written as it is: whoever polled before may have that much out until it has gone; see [`Self::occupy`].
    pub fn reopened(&self, account: Account, client: Client, now: Timestamp) -> Self {
        let same = (&account.base_url, &account.tracking_path, &account.api_key)
            == (&self.account.base_url, &self.account.tracking_path, &self.account.api_key);
        self.ledger().reopen(account.requests_per_minute, account.requests_per_month, !same, now);
        let (store, ledger) = (self.store.clone(), Arc::clone(&self.ledger));
        Self { account, client, store, ledger }
    }

    /// Looks go out as this desk's account is configured from here on; those of the desk before have ended. Should we
    /// die before this is written, the next start counts what its predecessor might have had out.
    pub async fn occupy(&self) -> Result<(), StoreError> {
        self.store.expect_under_way(&self.account.name, most_under_way(&self.account)).await
    }

    /// An end: what is in nobody's record counts as sent at the next start. After a clean one that is nothing.
    pub async fn close(&self) -> Result<(), StoreError> {
        let unrecorded = self.ledger().unrecorded();
        self.store.expect_under_way(&self.account.name, unrecorded).await
    }

    /// Allows a call at `now`, or says when to come again; `None` if that depends on a call under way.
    pub fn take(self: &Arc<Self>, errand: Errand, now: Timestamp) -> Result<Slot, Option<Timestamp>> {
        let account = &self.account.name;
        let mut ledger = self.ledger();
        if ledger.share_recovered(now) {
            info!(account = %account, "no 429 came for long: the account uses its whole limit again");
        }
        match ledger.take(errand, now) {
            Ok(call) => {
                drop(ledger);
                Ok(Slot { desk: Arc::clone(self), call })
            }
            Err(Refusal { free_at, used_up }) => {
                if used_up {
                    let until = free_at.unwrap_or(Timestamp::MAX);
                    warn!(account = %account, %until, "the account's monthly budget is used up: no call until then");
                }
                Err(free_at)
            }
        }
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

    /// What the account may ask at `now`, in requests per second.
    pub fn allowed(&self, now: Timestamp) -> f64 {
        self.ledger().allowed(now)
    }

    /// How many slots are in use.
    pub fn used(&self) -> usize {
        self.ledger().used()
    }

    /// How many labels the account has polled, counted up to [`crate::domain::account::ALL_LABELS`], and what they ask
    /// for, in requests per second: how far that stretches their waits.
    pub fn asks(&self, labels: usize, demand: f64, now: Timestamp) {
        let told = self.ledger().asks(labels, demand, now);
        let Some(stretch) = told else { return };
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

    /// The next turn; see [`crate::domain::pace::order`].
    pub fn turn(&self) -> u64 {
        self.ledger().turn
    }

    /// A label that was due at `due_at`, after a planned wait, has its turn.
    pub fn serves(&self, due_at: Option<Timestamp>, wait: Option<Duration>, now: Timestamp) {
        let late = due_at.zip(wait).map(|(due_at, wait)| Pace::of(wait).lateness(due_at, now));
        self.ledger().serves(late);
    }

    /// Nothing is due any more.
    pub fn caught_up(&self) {
        self.ledger().catching_up = false;
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
        let account = &self.account.name;
        let mut ledger = self.ledger();
        let seen = ledger.observe(label, verdict, call, now);
        let state = ledger.state.clone();
        drop(ledger);
        if let Some(share) = seen.share {
            let percent = (share * 100.0).round();
            warn!(account = %account, percent,
                "429 again within the limit: somebody else uses it too, and the account takes so much less for now");
        }
        if !seen.changed {
            return None;
        }
        self.say(seen.change, &state, verdict);
        Some(Observed { change: seen.change, state })
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
        let deliveries = system::fan_out(&messages, Some(account), subscribers);
        AccountRecord { name: account.clone(), change, deliveries, messages, state, now }
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

    /// What is to be written of a call that was observed, and of those before it that came to no record. `held` is a
    /// carrier whose labels wait, and until when.
    pub fn usage(&self, call: Call, held: Option<(String, Timestamp)>, now: Timestamp) -> Usage {
        if let Some((carrier, until)) = &held {
            warn!(account = %self.account.name, carrier, %until, "the carrier is asked too often: its labels wait");
        }
        let mut ledger = self.ledger();
        let (requests, ended_at) = ledger.count(now);
        Usage {
            account: self.account.name.clone(),
            requests,
            sent_at: call.sent_at,
            ended_at,
            lateness: ledger.lateness,
            stretch: ledger.stretch,
            share: ledger.share_to_record(),
            held,
        }
    }

    /// What was to be written of `requests` calls was not.
    pub fn unrecorded(&self, requests: u32) {
        self.ledger().uncount(requests);
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls that may be out at once and in nobody's record.
fn most_under_way(account: &Account) -> u32 {
    account.max_in_flight.min(account.requests_per_minute).saturating_add(OTHERS)
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.desk.ledger().ended(clock::now().max(self.call.sent_at));
    }
}
