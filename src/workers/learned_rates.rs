//! Learned change rates, shared by the pollers of all accounts: in memory, written to the database every few minutes.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use jiff::{SignedDuration, Timestamp};

use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::learning::{LearnedRates, Wait};
use crate::store::{Store, StoreError};

/// The shortest time between two writes.
const WRITE_INTERVAL: SignedDuration = SignedDuration::from_mins(5);

/// The rates and when they were written.
#[derive(Clone, Debug, Default)]
pub struct SharedRates(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    rates: LearnedRates,
    /// Time up to which old counts were reduced.
    faded_at: Option<Timestamp>,
    written_at: Option<Timestamp>,
    /// Whether something was learned since the last write.
    dirty: bool,
}

impl SharedRates {
    /// Reads the rates that an earlier process wrote.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let (rates, saved_at) = store.learned_rates().await?;
        let faded_at = Some(saved_at.unwrap_or(now));
        Ok(Self(Arc::new(RwLock::new(Inner { rates, faded_at, written_at: Some(now), dirty: false }))))
    }

    /// Calls `f` with the rates.
    pub fn with<T>(&self, f: impl FnOnce(&LearnedRates) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner).rates)
    }

    /// Learns from a good answer at `now` about `label`, which changed it to `after`.
    pub fn learn(&self, label: &LabelRecord, after: &PollState, now: Timestamp) {
        let mut inner = self.lock();
        inner.dirty |= inner.rates.learn_from(label, after, now);
    }

    /// Learns from a wait.
    pub fn learn_wait(&self, wait: Wait<'_>) {
        let mut inner = self.lock();
        inner.rates.learn(wait);
        inner.dirty = true;
    }

    /// Writes the rates if enough time has passed since the last write, or if the process is `ending`.
    pub async fn write(&self, store: &Store, now: Timestamp, ending: bool) -> Result<(), StoreError> {
        let rates = {
            let mut inner = self.lock();
            let due = inner.written_at.is_none_or(|at| now.duration_since(at) >= WRITE_INTERVAL);
            if !inner.dirty || !(due || ending) {
                return Ok(());
            }
            let since = inner.faded_at.replace(now).unwrap_or(now);
            inner.rates.fade(now.duration_since(since));
            (inner.written_at, inner.dirty) = (Some(now), false);
            inner.rates.clone()
        };
        store.save_learned_rates(&rates, now).await
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
