//! The courier: the worker that delivers to one subscriber. Subscribers do not wait for each other.
//!
//! New deliveries come through memory after the writer's commit. The table is read at the start, when the memory limit
//! was exceeded, and when another process changed it. The subscriber's health ([`crate::domain::delivery::health`]),
//! the concurrency ([`crate::domain::delivery::concurrency`]) and the lanes ([`crate::domain::delivery::outbox`])
//! decide which deliveries are attempted.
//!
//! A message has at most one attempt at a time: a lane with a delivery in flight has no head, and only one daemon runs.
//! Crash point: between the answer and its record. The message is sent again under the same id.

mod attempt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::clock;
use crate::domain::clock::set_back_by;
use crate::domain::delivery::concurrency::Concurrency;
use crate::domain::delivery::health::{Allowed, Health};
use crate::domain::delivery::outbox::{
    AttemptKind, MEMORY_LIMIT, MemoryLimit, NextRead, Outbox, PendingDelivery,
};
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::time::later;
use crate::store::outbox::{AttemptResult, Inbox};
use crate::store::{Store, StoreError};
use crate::webhook::{NoClient, WebhookClient};
use crate::workers::heartbeat::{Heartbeat, IDLE_INTERVAL};
use crate::workers::in_flight::InFlight;

/// Maximum number of reads of the health in a row. A read is repeated if an attempt was recorded during it.
const MAX_HEALTH_READS: usize = 5;

/// All subscribers, for messages about the health of one. Changes with a reload.
pub type CurrentSubscribers = watch::Receiver<Arc<Vec<Subscriber>>>;

/// Delivers to one subscriber.
pub struct Courier {
    shared: Arc<CourierShared>,
    outbox: Outbox,
    /// Registered at the first step, because the previous courier may run until then.
    inbox: Option<Arc<Inbox>>,
    /// Whether the table must be read.
    stale: bool,
    /// Health as of the last record or reading; `None`: must be read.
    health: Option<Health>,
    /// The transaction of `health`.
    transaction: u64,
    in_flight: InFlight<AttemptNote, RecordedAttempt>,
    /// First attempts since the last retry.
    first_in_a_row: usize,
    /// Time of the last step.
    stepped_at: Option<Timestamp>,
}

/// Description of an attempt in flight.
struct AttemptNote {
    kind: AttemptKind,
    ping: bool,
}

/// An attempt that was recorded.
struct RecordedAttempt {
    key: i64,
    /// The lane and the position in it.
    lane: Option<(i64, i64)>,
    result: AttemptResult,
}

/// State shared by the attempts in flight.
struct CourierShared {
    subscriber: Arc<Subscriber>,
    url_digest: String,
    subscribers: CurrentSubscribers,
    store: Store,
    client: WebhookClient,
    heartbeat: Heartbeat,
    /// Whether something waits for the record of an attempt in flight.
    others_wait: AtomicBool,
}

impl Courier {
    pub fn new(
        subscriber: Subscriber,
        subscribers: CurrentSubscribers,
        store: Store,
        heartbeat: Heartbeat,
    ) -> Result<Self, NoClient> {
        let shared = CourierShared {
            client: WebhookClient::new(&subscriber)?,
            url_digest: subscriber.url_digest(),
            subscriber: Arc::new(subscriber),
            subscribers,
            store,
            heartbeat,
            others_wait: AtomicBool::new(true),
        };
        Ok(Self {
            shared: Arc::new(shared),
            outbox: Outbox::new(MEMORY_LIMIT),
            inbox: None,
            stale: true,
            health: None,
            transaction: 0,
            in_flight: InFlight::default(),
            first_in_a_row: 0,
            stepped_at: None,
        })
    }

    /// Returns the courier with another memory limit.
    pub fn with_memory_limit(self, limit: MemoryLimit) -> Self {
        Self { outbox: Outbox::new(limit), ..self }
    }

    /// Delivers until `shutdown`, then waits for the attempts in flight.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut external = self.shared.store.external_changes();
        let inbox = self.inbox();
        loop {
            let wake = self.fill(clock::now()).await?;
            self.shared.others_wait.store(self.outbox.len() > self.in_flight.len(), Relaxed);
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = self.in_flight.ended() => self.finish(ended?)?,
                () = inbox.arrived() => {}
                Ok(()) = external.changed() => inbox.mark_stale(),
                () = clock::sleep_until(wake) => {}
            }
        }
        self.drain().await
    }

    /// Does one bounded piece of work: attempts due deliveries, up to `max_in_flight`, and records them. Returns when
    /// there is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let wake = self.fill(now).await?;
        self.drain().await?;
        Ok(wake)
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        self.shared.others_wait.store(true, Relaxed);
        while let Some(ended) = self.in_flight.ended().await {
            self.finish(ended?)?;
        }
        Ok(())
    }

    fn inbox(&mut self) -> Arc<Inbox> {
        let CourierShared { store, subscriber, .. } = &*self.shared;
        Arc::clone(self.inbox.get_or_insert_with(|| store.inbox(&subscriber.name)))
    }

    /// Applies ended attempts. Records of one transaction end together.
    fn finish(&mut self, ended: RecordedAttempt) -> Result<(), StoreError> {
        // Before the outbox changes, so that deliveries handed over earlier are known.
        self.empty_inbox();
        self.apply(ended);
        while let Some(ended) = self.in_flight.ended_by_now() {
            self.apply(ended?);
        }
        Ok(())
    }

    fn apply(&mut self, ended: RecordedAttempt) {
        let RecordedAttempt { key, lane, result } = ended;
        if let Some((lane, position)) = lane {
            self.outbox.finish((lane, position, key), result.pending);
        }
        if result.transaction > self.transaction {
            self.transaction = result.transaction;
            self.health = Some(Health::clone(&result.health));
        }
        if result.change.is_some() {
            // The change replanned other deliveries.
            self.stale = true;
        }
    }

    /// Empties the inbox.
    fn empty_inbox(&mut self) {
        let arrived = self.inbox().take();
        arrived.deliveries.into_iter().for_each(|delivery| self.outbox.add(delivery));
        self.stale |= arrived.stale;
    }

    /// Starts attempts that are due and allowed. Returns when to call again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.shared.heartbeat.beat(now);
        let last = self.stepped_at.replace(now);
        let back = set_back_by(last, now);
        if last.is_none() || back.is_some() {
            let CourierShared { subscriber, store, .. } = &*self.shared;
            store.shorten_waits(&subscriber.name, back, now).await?;
            self.health = None;
            self.stale = true;
        }
        self.empty_inbox();
        if self.stale {
            self.read(false, now).await?;
            self.stale = false;
        }
        let health = match self.health.take() {
            Some(health) => health,
            None => self.read_health(now).await?,
        };
        let gate = self.health.insert(health).allowed(self.shared.subscriber.max_in_flight, now);
        for ping in self.outbox.take_pings() {
            if !self.in_flight.has(ping.key) {
                self.start(ping, false, now);
            }
        }
        let heartbeat = later(now, IDLE_INTERVAL);
        let busy = self.in_flight.notes().filter(|note| !note.ping).count();
        match gate {
            Allowed::Nothing { until } => return Ok(until.map_or(heartbeat, |until| until.min(heartbeat))),
            // The end of an attempt wakes the loop.
            Allowed::Probe { .. } if busy > 0 => return Ok(heartbeat),
            Allowed::Probe { newest } => {
                if !self.outbox.is_complete() {
                    self.read(newest, now).await?;
                }
                if let Some(probe) = self.outbox.take_probe(newest, now) {
                    self.start(probe, true, now);
                    return Ok(heartbeat);
                }
            }
            Allowed::Attempts { at_once } => {
                self.read_missing(now).await?;
                let concurrency = self.concurrency(at_once, busy);
                let free = concurrency.free();
                let due = |kind| self.outbox.due_count(kind, now, free);
                let split = concurrency.split(due(AttemptKind::First), due(AttemptKind::Retry));
                self.first_in_a_row = concurrency.in_a_row_after(split);
                for (kind, count) in [(AttemptKind::Retry, split.1), (AttemptKind::First, split.0)] {
                    for _ in 0..count {
                        let Some(delivery) = self.outbox.take(kind, now) else { break };
                        self.start(delivery, false, now);
                    }
                }
            }
        }
        Ok(self.outbox.next_due(now).map_or(heartbeat, |next| next.min(heartbeat)))
    }

    /// Reads the table, all of it if it fits. `newest`: also the newest head.
    async fn read(&mut self, newest: bool, now: Timestamp) -> Result<(), StoreError> {
        // Before the outbox, because a new URL changes the table.
        self.health = Some(self.read_health(now).await?);
        let CourierShared { subscriber, store, .. } = &*self.shared;
        let heads = subscriber.max_in_flight as usize * 2;
        let mut loaded = store.read_outbox(&subscriber.name, self.outbox.limit(), heads, newest).await?;
        loaded.deliveries.retain(|delivery| delivery.lane.is_some() || !self.in_flight.has(delivery.key));
        self.outbox.load(loaded);
        Ok(())
    }

    /// Reads due deliveries that are not in memory.
    async fn read_missing(&mut self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            match self.outbox.next_read(now) {
                NextRead::Nothing => return Ok(()),
                NextRead::Heads => self.read(false, now).await?,
                NextRead::Lanes(lanes) => {
                    let CourierShared { subscriber, store, .. } = &*self.shared;
                    for (lane, (deliveries, more)) in store.read_lanes(&subscriber.name, &lanes).await? {
                        self.outbox.load_lane(lane, deliveries, more);
                    }
                }
            }
        }
    }

    /// Returns the subscriber's health, which another process may have changed. Replans the outbox after a new URL.
    async fn read_health(&mut self, now: Timestamp) -> Result<Health, StoreError> {
        let shared = Arc::clone(&self.shared);
        let CourierShared { subscriber, url_digest, store, .. } = &*shared;
        for _ in 0..MAX_HEALTH_READS {
            self.transaction = store.last_transaction();
            let health = store.subscriber_health(&subscriber.name).await?;
            if let Some(known) = &health.url_digest
                && known != url_digest
            {
                store.record_url(&subscriber.name, url_digest.clone(), now).await?;
            } else if store.last_transaction() == self.transaction {
                // The first URL is written with the first attempt.
                return Ok(health);
            }
            // A record was written meanwhile, so the reading may be outdated.
        }
        store.subscriber_health(&subscriber.name).await
    }

    fn concurrency(&self, allowed: u32, in_flight: usize) -> Concurrency {
        let retries =
            self.in_flight.notes().filter(|note| !note.ping && note.kind == AttemptKind::Retry).count();
        Concurrency {
            max_in_flight: self.shared.subscriber.max_in_flight as usize,
            allowed: allowed as usize,
            in_flight,
            retries_in_flight: retries,
            first_in_a_row: self.first_in_a_row,
        }
    }

    fn start(&mut self, delivery: PendingDelivery, probe: bool, now: Timestamp) {
        let note = AttemptNote { kind: delivery.kind(), ping: delivery.lane.is_none() };
        let key = delivery.key;
        let shared = Arc::clone(&self.shared);
        self.in_flight.start(key, note, async move {
            let lane = delivery.lane.map(|lane| (lane, delivery.position));
            let result = attempt::deliver(shared, delivery, probe, now).await?;
            Ok(RecordedAttempt { key, lane, result })
        });
    }
}
