//! The poller: the worker that polls the labels of one account.
//!
//! All labels of the account are in memory ([`Schedule`]). A step takes the next label and sends the request. An
//! unchanged answer stays in memory and reaches the database with the next batch, at most a second later. For any other
//! answer the poller reads the label's row and history, [`crate::domain::polling::poll::plan`] plans the result, and
//! the store writes it in one transaction. No transaction is open across HTTP. Polls run side by side, up to the
//! account's `max_in_flight` and within its quota, so a slow label holds one permit and delays no other.
//!
//! Crash points: after an unchanged answer and before its batch is written, the label is polled once more. After
//! another answer and before its commit, the request is lost and the label is still due.

pub mod batch;
mod one;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::clock::{self, StepClock};
use crate::config::Config;
use crate::domain::clock::set_back_by;
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::polling::cadence::Cadence;
use crate::domain::polling::freshness;
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::polling::poll::FirstPoll;
use crate::domain::polling::rate_limiter::Demand;
use crate::domain::polling::schedule::{MAX_LABELS, Schedule};
use crate::domain::retry_after::LONGEST_RETRY_AFTER;
use crate::domain::time::{later, signed};
use crate::store::StoreError;
use crate::store::polls::PollBatch;
use crate::workers::account_access::{AccountAccess, RequestKind};
use crate::workers::heartbeat::{Heartbeat, IDLE_INTERVAL};
use crate::workers::in_flight::InFlight;
use crate::workers::learned_rates::SharedRates;
use batch::UnwrittenPolls;
use one::{EndedPoll, LabelInFlight, PollerShared};

/// Labels read at once when the schedule is loaded.
const PAGE_SIZE: u32 = 500;
/// Interval at which the demand of all labels is compared with the quota.
pub const DEMAND_INTERVAL: SignedDuration = SignedDuration::from_millis(500);

/// Configuration of a poller.
#[derive(Clone, Debug, PartialEq)]
pub struct PollPolicy {
    pub cadence: Cadence,
    pub alerts: AlertSettings,
    pub first_poll: FirstPoll,
    pub subscribers: Vec<Subscriber>,
}

impl PollPolicy {
    pub fn of(config: &Config) -> Self {
        Self {
            cadence: config.cadence.clone(),
            alerts: config.alerts.clone(),
            first_poll: config.first_poll,
            subscribers: config.subscribers.values().cloned().collect(),
        }
    }
}

/// Polls the labels of one account.
pub struct Poller {
    shared: Arc<PollerShared>,
    schedule: Schedule,
    in_flight: InFlight<(), EndedPoll>,
    /// The row up to which the schedule is loaded; `None`: all of it.
    loaded_to: Option<i64>,
    /// The registry's version that the schedule has; `None`: nothing was loaded yet.
    version: Option<i64>,
    /// The thresholds with which the alerts of the schedule were computed.
    alerts: AlertSettings,
    batch: UnwrittenPolls,
    /// The batch that is being written.
    writing: InFlight<(), ()>,
    compared_at: Option<Timestamp>,
    /// Time of the last step.
    stepped_at: Option<Timestamp>,
}

impl Poller {
    pub fn new(
        access: Arc<AccountAccess>,
        policy: watch::Receiver<Arc<PollPolicy>>,
        learned_rates: SharedRates,
        heartbeat: Heartbeat,
    ) -> Self {
        let alerts = policy.borrow().alerts.clone();
        Self {
            shared: Arc::new(PollerShared { access, policy, learned_rates, heartbeat }),
            schedule: Schedule::default(),
            in_flight: InFlight::default(),
            loaded_to: Some(0),
            version: None,
            alerts,
            batch: UnwrittenPolls::default(),
            writing: InFlight::default(),
            compared_at: None,
            stepped_at: None,
        }
    }

    /// Polls until `shutdown`, then waits for the polls in flight and writes all changes in memory.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let store = self.shared.access.store.clone();
        let (mut registry, mut external) = (store.registry_version(), store.external_changes());
        loop {
            let now = clock::now();
            if registry.has_changed().unwrap_or(false) || external.has_changed().unwrap_or(false) {
                registry.mark_unchanged();
                external.mark_unchanged();
                self.apply_registry_changes(now).await?;
            }
            let wake = self.fill(now).await?;
            let ended = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = self.in_flight.ended() => Some(ended),
                Some(written) = self.writing.ended() => { written?; None }
                Ok(()) = registry.changed() => { registry.mark_changed(); None }
                Ok(()) = external.changed() => { external.mark_changed(); None }
                () = clock::sleep_until(wake) => None,
            };
            if let Some(ended) = ended {
                self.finish(ended?).await?;
            }
            while let Some(ended) = self.in_flight.ended_by_now() {
                self.finish(ended?).await?;
            }
        }
        self.drain(clock::now()).await
    }

    /// Does one bounded piece of work: starts and completes polls that are due at `now` and allowed. Returns when there
    /// is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.compared_at = None;
        self.load_all(now).await?;
        self.apply_registry_changes(now).await?;
        let wake = self.fill(now).await?;
        self.drain(now).await?;
        Ok(self.schedule.next_due().map_or(wake, |due| due.min(wake)))
    }

    /// Waits for the polls in flight and writes all changes in memory.
    async fn drain(&mut self, now: Timestamp) -> Result<(), StoreError> {
        while let Some(ended) = self.in_flight.ended().await {
            self.finish(ended?).await?;
        }
        self.flush(now).await
    }

    /// Writes the batch, after the batch that is being written.
    async fn flush(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.writing.drain().await?;
        match self.take_batch(now) {
            Some(batch) => self.shared.access.store.flush(batch).await,
            None => Ok(()),
        }
    }

    /// Returns the batch to write; `None` if it is empty.
    fn take_batch(&mut self, now: Timestamp) -> Option<PollBatch> {
        let (unchanged, measurements) = self.batch.take()?;
        let access = &self.shared.access;
        let account = access.account.name.clone();
        Some(PollBatch { account, unchanged, measurements, usage: access.usage(), now })
    }

    /// Applies a clock that was set back and a changed policy, loads a page of labels, writes the batch if it is due,
    /// and starts polls. Returns when to call again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let access = Arc::clone(&self.shared.access);
        self.shared.heartbeat.beat(now);
        if let Some(by) = set_back_by(self.stepped_at.replace(now), now) {
            self.schedule.set_back(by, now);
            self.batch.set_back(now);
            self.writing.drain().await?;
            access.store.pull_in_labels(&access.account.name, now).await?;
        }
        self.follow_policy(now).await?;
        if self.loaded_to.is_some() {
            self.load_page(now).await?;
        }
        if access.take_came_back() {
            self.schedule.make_failing_due(now);
        }
        self.compare_demand(now);
        let wake = self.write_batch(now);
        if self.loaded_to.is_some() {
            self.start(now).await?;
            return Ok(now);
        }
        let next = self.start(now).await?;
        let next = next.unwrap_or_else(|| later(now, IDLE_INTERVAL));
        Ok(wake.map_or(next, |wake| wake.min(next)).min(later(now, IDLE_INTERVAL)))
    }

    /// Starts all polls that are due and allowed. Returns when the next may start; `None`: when a poll in flight has
    /// ended.
    async fn start(&mut self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let access = Arc::clone(&self.shared.access);
        if let Some(open_at) = access.open_at(now) {
            return Ok(Some(open_at));
        }
        let probing = access.probing();
        let limit = if probing { 1 } else { access.account.max_in_flight as usize };
        while self.in_flight.len() < limit {
            let next = if probing {
                self.schedule.pop_probe(access.status_changed_by(), now)
            } else {
                self.schedule.pop(now)
            };
            let Some(index) = next else {
                if self.in_flight.is_empty() {
                    access.end_catching_up();
                }
                return Ok(self.schedule.next_due());
            };
            let permit = match access.acquire(RequestKind::Poll, now).await? {
                Ok(permit) => permit,
                Err(free_at) => {
                    self.schedule.end(index);
                    return Ok(free_at);
                }
            };
            let entry = *self.schedule.entry(index);
            let lateness = entry.planned_poll_at().map(|due_at| entry.pace().lateness(due_at, now));
            access.record_lateness(lateness);
            let polled = LabelInFlight {
                index,
                entry,
                id: self.schedule.id(index),
                carrier: self.schedule.carrier(&entry),
                service: self.schedule.service(&entry),
                unwritten: self.batch.withdraw(entry.row),
                sent_at: permit.allowed.sent_at,
            };
            self.in_flight.start(
                i64::from(index),
                (),
                one::poll(Arc::clone(&self.shared), permit, polled, now),
            );
        }
        Ok(None)
    }

    /// Applies a poll that has ended.
    async fn finish(&mut self, ended: EndedPoll) -> Result<(), StoreError> {
        let EndedPoll { polled, held, found, at } = ended;
        if let Some((carrier, until)) = held {
            self.shared.access.hold_carrier(carrier.clone(), until, at).await?;
            self.schedule.hold(&carrier, until);
        }
        self.batch.touch(at);
        let LabelInFlight { index, entry, .. } = polled;
        match found {
            one::PollResult::Unchanged(next) => {
                if self.schedule.entry(index).version != entry.version {
                    // The registry changed the label meanwhile.
                    self.schedule.end(index);
                    return Ok(());
                }
                let (due_at, pace) = (next.next_poll_at, next.pace);
                self.schedule.end_unchanged(index, due_at, next.wait_ms, pace, at);
                let measurement = freshness::lateness(entry.planned_poll_at(), polled.sent_at);
                self.batch.measure(polled.carrier, measurement);
                self.batch.add_unchanged(&entry, *next, at);
            }
            one::PollResult::Recorded(label, measurements) => {
                let carrier = label.poll_state.carrier_code.as_deref().map(Arc::from);
                self.batch.measure(carrier, measurements);
                self.schedule.end(index);
                self.put(&label, at);
            }
            one::PollResult::Superseded => {
                self.schedule.end(index);
                self.apply_registry_changes(at).await?;
            }
        }
        Ok(())
    }

    /// Adds the label to the schedule, replaces it there, or removes it, by its row in the database.
    fn put(&mut self, label: &LabelRecord, now: Timestamp) {
        let alert_at = self.alerts.due_at(&label.poll_state, label);
        if !self.schedule.put(label, alert_at, now) {
            let (id, account) = (&label.key.id, &self.shared.access.account.name);
            tracing::error!(label_id = %id, account = %account,
                "label {id} is not polled: account {account} has {MAX_LABELS} labels, the maximum");
        }
    }

    /// Starts to write the batch if it is due. Returns when it is due.
    fn write_batch(&mut self, now: Timestamp) -> Option<Timestamp> {
        let at = self.batch.due_at()?;
        if at > now || !self.writing.is_empty() {
            return Some(at.max(now)).filter(|_| self.writing.is_empty());
        }
        let batch = self.take_batch(now)?;
        let store = self.shared.access.store.clone();
        self.writing.start(0, (), async move { store.flush(batch).await });
        None
    }

    /// Compares the demand of the labels with the requests that the account may send.
    fn compare_demand(&mut self, now: Timestamp) {
        let access = &self.shared.access;
        if self.compared_at.is_some_and(|at| now.duration_since(at).abs() < DEMAND_INTERVAL) {
            return;
        }
        self.compared_at = Some(now);
        access.set_demand(Demand::of(&self.schedule, now), now);
        access.set_next_due(self.schedule.next_due());
    }

    /// Computes all alerts again if their thresholds have changed.
    async fn follow_policy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        if self.shared.policy.borrow().alerts == self.alerts {
            return Ok(());
        }
        self.alerts = self.shared.policy.borrow().alerts.clone();
        self.flush(now).await?;
        self.loaded_to = Some(0);
        Ok(())
    }

    async fn load_all(&mut self, now: Timestamp) -> Result<(), StoreError> {
        while self.loaded_to.is_some() {
            self.load_page(now).await?;
        }
        Ok(())
    }

    /// Loads a page of labels.
    async fn load_page(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(after) = self.loaded_to else { return Ok(()) };
        let access = Arc::clone(&self.shared.access);
        let (store, account) = (&access.store, &access.account.name);
        if self.version.is_none() {
            // Later changes are applied by their version.
            self.version = Some(store.refresh_registry_version().await?.cast_signed());
            // The clock may have been ahead when the waits of carriers were planned.
            let longest = later(now, signed(LONGEST_RETRY_AFTER));
            for (carrier, until) in store.quota_used(account, now).await?.held {
                self.schedule.hold(&carrier, until.min(longest));
            }
        }
        let page = store.scheduled_labels(account, after, PAGE_SIZE).await?;
        self.loaded_to = page.last_row;
        self.put_all(&page.labels, now).await
    }

    /// Puts labels of the database into the schedule. A due time from before the clock was set back is corrected in both.
    async fn put_all(&mut self, labels: &[LabelRecord], now: Timestamp) -> Result<(), StoreError> {
        let access = &self.shared.access;
        if labels.iter().any(|label| label.poll_state.is_due_too_late(now)) {
            access.store.pull_in_labels(&access.account.name, now).await?;
        }
        labels.iter().for_each(|label| self.put(label, now));
        Ok(())
    }

    /// Applies changes of the registry by this or another process.
    async fn apply_registry_changes(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let Some(mut version) = self.version else { return Ok(()) };
        let access = Arc::clone(&self.shared.access);
        // Labels that are registered while the pages are read are not due too late.
        let running = StepClock::since(now);
        loop {
            let changed = access.store.changed_labels(&access.account.name, version, PAGE_SIZE).await?;
            self.put_all(&changed.labels, running.now()).await?;
            version = changed.version;
            self.version = Some(version);
            if !changed.more {
                return Ok(());
            }
        }
    }
}
