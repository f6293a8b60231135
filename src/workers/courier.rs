//! Delivers to one subscriber: one courier each, so none waits for another.
//!
//! New deliveries come through memory after the writer's commit; the table is read at start, when the bound on memory was
//! passed, and when another process changed it. What may be attempted is decided by the subscriber's health
//! ([`crate::domain::delivery::health`]), its capacity ([`crate::domain::delivery::concurrency`]) and the lanes ([`crate::domain::delivery::outbox`]).
//!
//! One attempt of a message at a time, by construction: a lane with a delivery in flight has no head, and only one daemon
//! runs. If we die between the answer and its record, the message is sent again under the same id.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock::{self, Running};
use crate::crash::CrashPoint;
use crate::domain::clock::set_back_by;
use crate::domain::delivery::concurrency::Concurrency;
use crate::domain::delivery::health::{Allowed, Health, HealthChange, HealthState};
use crate::domain::delivery::outbox::{
    AttemptKind, MEMORY_LIMIT, MemoryLimit, NextRead, Outbox, PendingDelivery,
};
use crate::domain::delivery::outcome::{AfterAttempt, Attempt, Outcome};
use crate::domain::messages::envelope;
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::time::later;
use crate::metrics::metrics;
use crate::store::outbox::{EndedAttempt, Inbox, Settled};
use crate::store::{Store, StoreError};
use crate::webhook::{Callback, NoTls, WebhookClient};
use crate::workers::heartbeat::Heartbeat;
use crate::workers::in_flight::InFlight;

/// A courier with nothing to do gives a sign of life this often.
const HEARTBEAT: SignedDuration = SignedDuration::from_secs(30);

/// How often the health is read until no settlement was written meanwhile.
const READINGS: usize = 5;

/// How long an attempt waits that failed by a fault of our own.
const OUR_FAULT_PAUSE: Duration = Duration::from_secs(2);

/// All subscribers there are; who asks for it is told how another one fares. It changes with a reload.
pub type Audience = watch::Receiver<Arc<Vec<Subscriber>>>;

/// Delivers to one subscriber.
pub struct Courier {
    shared: Arc<Shared>,
    outbox: Outbox,
    /// Registered at the first step: until then a predecessor may be at work.
    inbox: Option<Arc<Inbox>>,
    /// The table is to be read.
    stale: bool,
    /// As of the last settlement or reading; `None`: to be read.
    health: Option<Health>,
    /// The transaction that `health` is of.
    version: u64,
    in_flight: InFlight<Note, Ended>,
    /// First attempts since the last retry.
    first_in_a_row: usize,
    /// The last step.
    stepped_at: Option<Timestamp>,
}

/// What is in flight.
struct Note {
    kind: AttemptKind,
    ping: bool,
}

/// An attempt that was settled.
struct Ended {
    key: i64,
    /// Its lane, and the place in it.
    lane: Option<(i64, i64)>,
    settled: Settled,
}

/// What attempts in flight share.
struct Shared {
    subscriber: Arc<Subscriber>,
    url_digest: String,
    audience: Audience,
    store: Store,
    client: WebhookClient,
    heartbeat: Heartbeat,
    /// Whether something waits for the record of an attempt in flight.
    is_behind: AtomicBool,
}

impl Courier {
    pub fn new(
        subscriber: Subscriber,
        audience: Audience,
        store: Store,
        heartbeat: Heartbeat,
    ) -> Result<Self, NoTls> {
        Self::within(MEMORY_LIMIT, subscriber, audience, store, heartbeat)
    }

    /// As [`Self::new`], with another bound on memory.
    pub fn within(
        limit: MemoryLimit,
        subscriber: Subscriber,
        audience: Audience,
        store: Store,
        heartbeat: Heartbeat,
    ) -> Result<Self, NoTls> {
        let client = WebhookClient::new(&subscriber)?;
        let url_digest = subscriber.url_digest();
        let is_behind = AtomicBool::new(true);
        let shared = Shared {
            subscriber: Arc::new(subscriber),
            url_digest,
            audience,
            store,
            client,
            heartbeat,
            is_behind,
        };
        Ok(Self {
            shared: Arc::new(shared),
            outbox: Outbox::new(limit),
            inbox: None,
            stale: true,
            health: None,
            version: 0,
            in_flight: InFlight::default(),
            first_in_a_row: 0,
            stepped_at: None,
        })
    }

    /// Delivers until `shutdown` says so, then lets what is in flight end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut foreign = self.shared.store.foreign_changes();
        let inbox = self.inbox();
        loop {
            let wake = self.fill(clock::now()).await?;
            self.shared.is_behind.store(self.outbox.len() > self.in_flight.len(), Relaxed);
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = self.in_flight.ended() => self.finish(ended?)?,
                () = inbox.arrived() => {}
                Ok(()) = foreign.changed() => inbox.mark_stale(),
                () = clock::sleep_until(wake) => {}
            }
        }
        self.drain().await
    }

    /// One bounded piece of work: attempts what is due at `now`, up to `max_in_flight`, and records it. Returns when
    /// there is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let wake = self.fill(now).await?;
        self.drain().await?;
        Ok(wake)
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        self.shared.is_behind.store(true, Relaxed);
        while let Some(ended) = self.in_flight.ended().await {
            self.finish(ended?)?;
        }
        Ok(())
    }

    fn inbox(&mut self) -> Arc<Inbox> {
        let Shared { store, subscriber, .. } = &*self.shared;
        Arc::clone(self.inbox.get_or_insert_with(|| store.inbox(&subscriber.name)))
    }

    /// Takes in what has ended; whatever was written together ends together.
    fn finish(&mut self, ended: Ended) -> Result<(), StoreError> {
        // Before anything is taken out of the outbox: what was handed over before is known by then.
        self.take_in();
        self.settle(ended);
        while let Some(ended) = self.in_flight.ended_by_now() {
            self.settle(ended?);
        }
        Ok(())
    }

    fn settle(&mut self, ended: Ended) {
        let Ended { key, lane, settled } = ended;
        if let Some((lane, place)) = lane {
            self.outbox.finish((lane, place, key), settled.pending);
        }
        if settled.version > self.version {
            self.version = settled.version;
            self.health = Some(Health::clone(&settled.health));
        }
        if settled.change.is_some() {
            // Other deliveries were planned anew.
            self.stale = true;
        }
    }

    /// Empties the inbox.
    fn take_in(&mut self) {
        let arrived = self.inbox().take();
        arrived.deliveries.into_iter().for_each(|delivery| self.outbox.add(delivery));
        self.stale |= arrived.stale;
    }

    /// Takes up what is due and may go; says when to look again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.shared.heartbeat.beat(now);
        let last = self.stepped_at.replace(now);
        let back = set_back_by(last, now);
        if last.is_none() || back.is_some() {
            let Shared { subscriber, store, .. } = &*self.shared;
            store.pull_in(&subscriber.name, back, now).await?;
            self.health = None;
            self.stale = true;
        }
        self.take_in();
        if self.stale {
            self.read(now).await?;
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
        let heartbeat = later(now, HEARTBEAT);
        let busy = self.in_flight.notes().filter(|note| !note.ping).count();
        match gate {
            Allowed::Nothing { until } => return Ok(until.map_or(heartbeat, |until| until.min(heartbeat))),
            // Its end wakes us.
            Allowed::Probe { .. } if busy > 0 => return Ok(heartbeat),
            Allowed::Probe { newest } => {
                if !self.outbox.is_complete() {
                    self.read(now).await?;
                }
                if let Some(probe) = self.outbox.take_probe(newest, now) {
                    self.start(probe, true, now);
                    return Ok(heartbeat);
                }
            }
            Allowed::Attempts { at_once } => {
                self.read_what_is_wanted(now).await?;
                let concurrency = self.concurrency(at_once, busy);
                let free = concurrency.free();
                let (first, retries) = concurrency.share(
                    self.outbox.due(AttemptKind::First, now, free),
                    self.outbox.due(AttemptKind::Retry, now, free),
                );
                self.first_in_a_row = if retries > 0 { 0 } else { self.first_in_a_row + first };
                for (kind, count) in [(AttemptKind::Retry, retries), (AttemptKind::First, first)] {
                    for _ in 0..count {
                        let Some(delivery) = self.outbox.take(kind, now) else { break };
                        self.start(delivery, false, now);
                    }
                }
            }
        }
        Ok(self.outbox.next_due(now).map_or(heartbeat, |next| next.min(heartbeat)))
    }

    /// Reads the table: all of it if it fits.
    async fn read(&mut self, now: Timestamp) -> Result<(), StoreError> {
        // Before the outbox: another url makes the table another.
        self.health = Some(self.read_health(now).await?);
        let Shared { subscriber, store, .. } = &*self.shared;
        let heads = subscriber.max_in_flight as usize * 2;
        let mut loaded = store.read_outbox(&subscriber.name, self.outbox.limit(), heads).await?;
        loaded.deliveries.retain(|delivery| delivery.lane.is_some() || !self.in_flight.has(delivery.key));
        self.outbox.load(loaded);
        Ok(())
    }

    /// Reads what memory lacks of what is due.
    async fn read_what_is_wanted(&mut self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            match self.outbox.next_read(now) {
                NextRead::Nothing => return Ok(()),
                NextRead::Heads => self.read(now).await?,
                NextRead::Lanes(lanes) => {
                    let Shared { subscriber, store, .. } = &*self.shared;
                    for (lane, (deliveries, more)) in store.read_lanes(&subscriber.name, &lanes).await? {
                        self.outbox.load_lane(lane, deliveries, more);
                    }
                }
            }
        }
    }

    /// The subscriber's health; another process may have paused it. Where it has moved, its outbox is planned anew.
    async fn read_health(&mut self, now: Timestamp) -> Result<Health, StoreError> {
        let shared = Arc::clone(&self.shared);
        let Shared { subscriber, url_digest, store, .. } = &*shared;
        for _ in 0..READINGS {
            self.version = store.settled_version();
            let health = store.subscriber_health(&subscriber.name).await?;
            if let Some(known) = &health.url_digest
                && known != url_digest
            {
                store.record_url(&subscriber.name, url_digest.clone(), now).await?;
            } else if store.settled_version() == self.version {
                // The first URL is written with the first attempt there.
                return Ok(health);
            }
            // A settlement was written meanwhile: whether what was read knows of it is not known.
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
        let note = Note { kind: delivery.kind(), ping: delivery.lane.is_none() };
        let key = delivery.key;
        let shared = Arc::clone(&self.shared);
        self.in_flight.start(key, note, async move {
            let lane = delivery.lane.map(|lane| (lane, delivery.place));
            let settled = deliver(shared, delivery, probe, now).await?;
            Ok(Ended { key, lane, settled })
        });
    }
}

/// One attempt and its record.
async fn deliver(
    shared: Arc<Shared>,
    delivery: PendingDelivery,
    probe: bool,
    now: Timestamp,
) -> Result<Settled, StoreError> {
    let number = delivery.attempts.saturating_add(1);
    let running = Running::since(now);
    // If we die here, the delivery is due at the next start.
    CrashPoint::BeforeAttempt.reached();
    let mut attempt = attempt(&shared.subscriber, &shared.client, &delivery, number, now).await;
    while attempt.outcome == Outcome::OurFault {
        // Nobody was asked: it is no attempt, and is made again when we may be able to.
        clock::sleep(OUR_FAULT_PAUSE).await;
        let again = running.now();
        shared.heartbeat.beat(again);
        attempt = self::attempt(&shared.subscriber, &shared.client, &delivery, number, again).await;
    }
    let at = running.now();
    let ended = EndedAttempt {
        subscriber: Arc::clone(&shared.subscriber),
        key: delivery.key,
        ping: delivery.lane.is_none(),
        attempt: attempt.clone(),
        probe,
        jitter: clock::jitter(),
        audience: Arc::clone(&shared.audience.borrow()),
        settled_at: at,
        // What is handed over meanwhile comes with a commit, which takes this along.
        can_wait: attempt.outcome.is_accepted()
            && !probe
            && delivery.lane.is_some()
            && !shared.is_behind.load(Relaxed),
    };
    // If we die here, the receiver may have the message and we don't know it: it gets it again, under the same id.
    CrashPoint::AttemptAnswered.reached();
    let settled = shared.store.settle(ended).await?;
    shared.heartbeat.beat(at);
    report(&shared.subscriber, &delivery, number, &attempt, &settled);
    count(&shared.subscriber, &attempt, &settled, at);
    Ok(settled)
}

async fn attempt(
    subscriber: &Subscriber,
    client: &WebhookClient,
    delivery: &PendingDelivery,
    number: u32,
    now: Timestamp,
) -> Attempt {
    let message = &delivery.message;
    match envelope::render(delivery.format, &message.body, message.resource_url.as_deref()) {
        Ok(body) => {
            let callback = Callback {
                message_id: &message.message_id,
                kind: &message.kind,
                label_id: message.label_id.as_deref(),
                seq: message.seq,
                attempt: number,
                body: &body,
            };
            client.post(subscriber, &callback, now).await
        }
        Err(error) => Attempt {
            started_at: now,
            duration: Duration::ZERO,
            outcome: Outcome::Unsendable,
            detail: Some(error.to_string()),
            answer: None,
            retry_after: None,
        },
    }
}

fn report(
    subscriber: &Subscriber,
    delivery: &PendingDelivery,
    number: u32,
    attempt: &Attempt,
    settled: &Settled,
) {
    let (name, id) = (&subscriber.name, &delivery.message.message_id);
    let duration_ms = attempt.duration.as_millis();
    let (label, kind) = (delivery.message.label_id.as_deref(), &delivery.message.kind);
    let outcome = attempt.outcome.shown();
    let state = settled.health.state;
    let detail = attempt.detail.as_deref();
    match settled.next {
        AfterAttempt::Delivered if number == 1 => {
            debug!(subscriber = %name, message.id = %id, label.id = label, kind, duration_ms, "delivered");
        }
        AfterAttempt::Delivered => {
            info!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, "delivered at last");
        }
        AfterAttempt::Retry(_) if state != HealthState::Ok => {
            let probe_at = settled.health.probe_at.map(tracing::field::display);
            info!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                probe_at, "not delivered; the subscriber is not well");
        }
        AfterAttempt::Retry(plan) => {
            warn!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                next_attempt_at = %plan.at, "not delivered; tried again");
        }
        AfterAttempt::Dead if delivery.lane.is_none() => {
            warn!(subscriber = %name, message.id = %id, kind, duration_ms, outcome, detail, "ping not accepted");
        }
        AfterAttempt::Dead => {
            warn!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                "not delivered, and given up: others were accepted meanwhile");
        }
    }
    match settled.change {
        Some(HealthChange::Fell | HealthChange::Paused) if state == HealthState::Paused => {
            warn!(subscriber = %name, outcome, "the subscriber is gone: paused until it is resumed or its url changes");
        }
        Some(HealthChange::Fell | HealthChange::Paused) => {
            warn!(subscriber = %name, outcome, detail, "the subscriber fails as a whole: one probe at a time");
        }
        Some(HealthChange::Recovered) => {
            info!(subscriber = %name, "the subscriber is well again; its backlog drains")
        }
        None => {}
    }
}

fn count(subscriber: &Subscriber, attempt: &Attempt, settled: &Settled, now: Timestamp) {
    let name = subscriber.name.as_str();
    metrics().attempted(name, attempt.outcome.as_str());
    match settled.next {
        AfterAttempt::Delivered => {
            let took = settled.queued_at.map(|from| now.duration_since(from).try_into().unwrap_or_default());
            took.into_iter().for_each(|took| metrics().delivered(name, took));
        }
        AfterAttempt::Dead => metrics().given_up(name),
        AfterAttempt::Retry(_) => {}
    }
}
