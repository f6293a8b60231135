//! What the pollers learn together: the rates of carriers, in memory, and now and then in the database.
//!
//! Shared by all accounts: a carrier is the same for all of them.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use jiff::{SignedDuration, Timestamp};

use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::learning::{LearnedRates, Wait};
use crate::store::{Store, StoreError};

/// Written at most this often.
const PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// LearnedRates as they are learnt.
#[derive(Clone, Debug, Default)]
pub struct SharedRates(Arc<RwLock<Suggestion>>);

#[derive(Debug, Default)]
struct Suggestion {
    rates: LearnedRates,
    /// Until when what is old has faded.
    faded_at: Option<Timestamp>,
    kept_at: Option<Timestamp>,
    fresh: bool,
}

impl SharedRates {
    /// As an earlier process left it.
    pub async fn recall(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let (rates, saved_at) = store.learned_rates().await?;
        let faded_at = Some(saved_at.unwrap_or(now));
        Ok(Self(Arc::new(RwLock::new(Suggestion { rates, faded_at, kept_at: Some(now), fresh: false }))))
    }

    /// Gives what is known to a plan.
    pub fn with<T>(&self, plan: impl FnOnce(&LearnedRates) -> T) -> T {
        plan(&self.0.read().unwrap_or_else(PoisonError::into_inner).rates)
    }

    /// A good answer about `label` came, which left it as `after`.
    pub fn learn(&self, label: &LabelRecord, after: &PollState, now: Timestamp) {
        let mut learnt = self.lock();
        learnt.fresh |= learnt.rates.learn_from(label, after, now);
    }

    /// A wait was lived through.
    pub fn learn_wait(&self, wait: Wait<'_>) {
        let mut learnt = self.lock();
        learnt.rates.learn(wait);
        learnt.fresh = true;
    }

    /// Writes what is new if it is time, or if we end.
    pub async fn keep(&self, store: &Store, now: Timestamp, ending: bool) -> Result<(), StoreError> {
        let rates = {
            let mut learnt = self.lock();
            let due = learnt.kept_at.is_none_or(|at| now.duration_since(at) >= PAUSE);
            if !learnt.fresh || !(due || ending) {
                return Ok(());
            }
            let since = learnt.faded_at.replace(now).unwrap_or(now);
            learnt.rates.fade(now.duration_since(since));
            (learnt.kept_at, learnt.fresh) = (Some(now), false);
            learnt.rates.clone()
        };
        store.save_learned_rates(&rates, now).await
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Suggestion> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
