//! The trade that keeps the promise: one courier per subscriber.
//!
//! Takes what is due from the outbox, posts it, records what became of it. Per label only the oldest undelivered
//! message is ever due, so order holds; a subscriber's couriers are its own, so nobody waits for another. One that fails
//! as a whole gets one probe at a time, and a paused one nothing.
//!
//! One attempt of a message at a time, by construction: what is under way is remembered here, and only one daemon
//! runs. If we die between the answer and its record, the message is sent again under the same id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info, warn};

use crate::clock;
use crate::domain::breaker::{Gate, HealthChange, State};
use crate::domain::delivery::{Attempt, NextStep, Outcome};
use crate::domain::message::envelope;
use crate::domain::subscriber::Subscriber;
use crate::pulse::Pulse;
use crate::store::outbox::{DueDelivery, EndedAttempt, Settled, Turn};
use crate::store::{Store, StoreError};
use crate::webhook::{Callback, Mouth, NoTls};

/// What another process does to the outbox is noticed within this.
const LOOK: SignedDuration = SignedDuration::from_millis(500);

/// All subscribers there are; who asks for it is told how another one fares. It changes with a reload.
pub type Audience = watch::Receiver<Arc<Vec<Subscriber>>>;

/// Delivers to one subscriber.
pub struct Courier {
    desk: Arc<Desk>,
    /// Deliveries under way, by row, and whether each is a retry.
    busy: HashMap<i64, bool>,
    /// Tasks of their own, or those that wait for the database would wait for us; they end with us.
    in_flight: JoinSet<(i64, Result<(), StoreError>)>,
}

/// What attempts under way share.
struct Desk {
    subscriber: Arc<Subscriber>,
    audience: Audience,
    store: Store,
    mouth: Mouth,
    pulse: Pulse,
}

impl Courier {
    pub fn new(
        subscriber: Subscriber,
        audience: Audience,
        store: Store,
        pulse: Pulse,
    ) -> Result<Self, NoTls> {
        let mouth = Mouth::new(&subscriber)?;
        let desk = Desk { subscriber: Arc::new(subscriber), audience, store, mouth, pulse };
        Ok(Self { desk: Arc::new(desk), busy: HashMap::new(), in_flight: JoinSet::new() })
    }

    /// Delivers until `shutdown` says so, then lets what is under way end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut outbox = self.desk.store.outbox_changes();
        loop {
            // Seen before the look: what comes after it wakes us.
            outbox.mark_unchanged();
            let wake = self.fill(clock::now()).await?;
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(done) = self.in_flight.join_next() => self.finish(done)?,
                Ok(()) = outbox.changed(), if self.has_room() => {}
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
        while let Some(done) = self.in_flight.join_next().await {
            self.finish(done)?;
        }
        Ok(())
    }

    fn finish(&mut self, done: Result<(i64, Result<(), StoreError>), JoinError>) -> Result<(), StoreError> {
        let (row, done) = done.map_err(|error| StoreError::Panicked(error.to_string()))?;
        self.busy.remove(&row);
        done
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.desk.subscriber.max_in_flight as usize
    }

    /// Retries may hang for the whole time limit: a quarter of the room is kept for first attempts, which never wait
    /// behind them.
    fn room_for_retries(&self) -> usize {
        let all = self.desk.subscriber.max_in_flight as usize;
        let kept = if all > 1 { (all / 4).max(1) } else { 0 };
        let under_way = self.busy.values().filter(|retry| **retry).count();
        (all - kept).saturating_sub(under_way)
    }

    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let soon = now.saturating_add(LOOK).unwrap_or(Timestamp::MAX);
        self.desk.pulse.beat(now);
        if !self.has_room() {
            return Ok(soon);
        }
        let Desk { subscriber, store, .. } = &*self.desk;
        // Each time anew: another process may have paused it.
        let mut health = store.subscriber_health(&subscriber.name).await?;
        // Written with the first attempt there.
        health.meet(&subscriber.url_digest(), now);
        let (at_once, turn) = match health.gate(subscriber.max_in_flight, now) {
            Gate::Shut { until } => return Ok(until.map_or(soon, |until| until.min(soon))),
            Gate::Open { at_once } => (at_once as usize, Turn::FreshFirst),
            Gate::Probe => (1, Turn::LongestDue),
        };
        let room = at_once.saturating_sub(self.in_flight.len());
        if room == 0 {
            return Ok(soon);
        }
        let busy: Vec<i64> = self.busy.keys().copied().collect();
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let due = store.due_deliveries(&subscriber.name, now, &busy, turn, limit).await?;
        let next = store.next_attempt(&subscriber.name, now, soon).await?;
        let probe = turn == Turn::LongestDue;
        let mut room_for_retries = self.room_for_retries();
        for delivery in due {
            let retry = delivery.attempts > 0;
            if retry && !probe {
                let Some(left) = room_for_retries.checked_sub(1) else { continue };
                room_for_retries = left;
            }
            self.busy.insert(delivery.row, retry);
            self.in_flight.spawn(deliver(Arc::clone(&self.desk), delivery, probe, now));
        }
        Ok(next.map_or(soon, |next| next.min(soon)))
    }
}

/// One attempt and its record.
async fn deliver(
    desk: Arc<Desk>,
    delivery: DueDelivery,
    probe: bool,
    now: Timestamp,
) -> (i64, Result<(), StoreError>) {
    let number = delivery.attempts.saturating_add(1);
    let attempt = attempt(&desk.subscriber, &desk.mouth, &delivery, number, now).await;
    let at = clock::now().max(now);
    let ended = EndedAttempt {
        subscriber: Arc::clone(&desk.subscriber),
        row: delivery.row,
        label_row: delivery.label_row,
        number,
        attempt: attempt.clone(),
        probe,
        created_at: delivery.created_at,
        jitter: clock::jitter(),
        audience: Arc::clone(&desk.audience.borrow()),
        settled_at: at,
    };
    // If we die here, the receiver may have the message and we don't know it: it gets it again, under the same id.
    let done = desk.store.settle(ended).await;
    desk.pulse.beat(at);
    let done = done.map(|settled| report(&desk.subscriber, &delivery, number, &attempt, &settled));
    (delivery.row, done)
}

async fn attempt(
    subscriber: &Subscriber,
    mouth: &Mouth,
    delivery: &DueDelivery,
    number: u32,
    now: Timestamp,
) -> Attempt {
    match envelope::render(delivery.format, &delivery.body, delivery.resource_url.as_deref()) {
        Ok(body) => {
            let callback = Callback {
                message_id: &delivery.message_id,
                kind: &delivery.kind,
                label_id: delivery.label_id.as_deref(),
                seq: delivery.seq,
                attempt: number,
                body: &body,
            };
            mouth.post(subscriber, &callback, now).await
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
    delivery: &DueDelivery,
    number: u32,
    attempt: &Attempt,
    settled: &Settled,
) {
    let (name, id) = (&subscriber.name, &delivery.message_id);
    let duration_ms = attempt.duration.as_millis();
    let (label, kind) = (delivery.label_id.as_deref(), &delivery.kind);
    let outcome = attempt.outcome.shown();
    let detail = attempt.detail.as_deref();
    match settled.settlement.next {
        NextStep::Delivered if number == 1 => {
            debug!(subscriber = %name, message.id = %id, label.id = label, kind, duration_ms, "delivered");
        }
        NextStep::Delivered => {
            info!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, "delivered at last");
        }
        NextStep::Again { .. } if settled.state != State::Ok => {
            let probe_at = settled.probe_at.map(tracing::field::display);
            info!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                probe_at, "not delivered; the subscriber is not well");
        }
        NextStep::Again { at } => {
            warn!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                next_attempt_at = %at, "not delivered; tried again");
        }
        NextStep::Dead => {
            warn!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, outcome, detail,
                "not delivered, and given up: others were accepted meanwhile");
        }
    }
    match settled.change {
        Some(HealthChange::Fell | HealthChange::Paused) if settled.state == State::Paused => {
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
