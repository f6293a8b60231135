//! The trade that keeps the promise: one courier per subscriber.
//!
//! Takes what is due from the outbox, posts it, records what became of it. Per label only the oldest undelivered
//! message is ever due, so order holds; a subscriber's couriers are its own, so nobody waits for another.
//!
//! One attempt of a message at a time, by construction: what is under way is remembered here, and only one daemon
//! runs. If we die between the answer and its record, the message is sent again under the same id.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::beside::beside;
use crate::clock;
use crate::domain::delivery::{Attempt, NextStep, Outcome, settle};
use crate::domain::message::envelope;
use crate::domain::subscriber::Subscriber;
use crate::pulse::Pulse;
use crate::store::outbox::{DueDelivery, SettledAttempt};
use crate::store::{Store, StoreError};
use crate::webhook::{Callback, Mouth, NoTls};

/// What another process does to the outbox is noticed within this.
const LOOK: SignedDuration = SignedDuration::from_millis(500);

/// Delivers to one subscriber.
pub struct Courier {
    subscriber: Arc<Subscriber>,
    store: Store,
    mouth: Mouth,
    pulse: Pulse,
    /// Deliveries under way, by row.
    busy: HashSet<i64>,
    in_flight: FuturesUnordered<BoxFuture<'static, (i64, Result<(), StoreError>)>>,
}

impl Courier {
    pub fn new(subscriber: Subscriber, store: Store, pulse: Pulse) -> Result<Self, NoTls> {
        let mouth = Mouth::new(&subscriber)?;
        Ok(Self {
            subscriber: Arc::new(subscriber),
            store,
            mouth,
            pulse,
            busy: HashSet::new(),
            in_flight: FuturesUnordered::new(),
        })
    }

    /// Delivers until `shutdown` says so, then lets what is under way end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut outbox = self.store.outbox_changes();
        loop {
            // Seen before the look: what comes after it wakes us.
            outbox.mark_unchanged();
            let wake = self.fill(clock::now()).await?;
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => self.finish(done)?,
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
        while let Some(done) = self.in_flight.next().await {
            self.finish(done)?;
        }
        Ok(())
    }

    fn finish(&mut self, (row, done): (i64, Result<(), StoreError>)) -> Result<(), StoreError> {
        self.busy.remove(&row);
        done
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.subscriber.max_in_flight as usize
    }

    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let soon = now.saturating_add(LOOK).unwrap_or(Timestamp::MAX);
        self.pulse.beat(now);
        if !self.has_room() {
            return Ok(soon);
        }
        let (store, subscriber) = (self.store.clone(), Arc::clone(&self.subscriber));
        let health = self.beside(store.subscriber_health(&subscriber.name)).await?;
        if let Some(until) = health.held_until.filter(|until| *until > now) {
            return Ok(until.min(soon));
        }
        let room = self.subscriber.max_in_flight as usize - self.in_flight.len();
        let busy: Vec<i64> = self.busy.iter().copied().collect();
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let due = self.beside(store.due_deliveries(&subscriber.name, now, &busy, limit)).await?;
        let more_due = due.len() == room;
        for delivery in due {
            self.busy.insert(delivery.row);
            let accepted_others = health.last_success_at.is_some_and(|success| success > delivery.created_at);
            self.in_flight.push(Box::pin(deliver(
                Arc::clone(&self.subscriber),
                self.store.clone(),
                self.mouth.clone(),
                self.pulse.clone(),
                delivery,
                accepted_others,
                now,
            )));
        }
        let next = self.beside(store.next_attempt(&subscriber.name, now)).await?;
        // One ended meanwhile and left room for what was due and not taken.
        if more_due && self.has_room() {
            return Ok(now);
        }
        Ok(next.map_or(soon, |next| next.min(soon)))
    }

    /// Awaits `work` while what is under way goes on.
    async fn beside<T>(
        &mut self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (done, ended) = beside(&mut self.in_flight, work).await;
        for ended in ended {
            self.finish(ended)?;
        }
        done
    }
}

/// One attempt and its record.
async fn deliver(
    subscriber: Arc<Subscriber>,
    store: Store,
    mouth: Mouth,
    pulse: Pulse,
    delivery: DueDelivery,
    accepted_others: bool,
    now: Timestamp,
) -> (i64, Result<(), StoreError>) {
    let number = delivery.attempts.saturating_add(1);
    let attempt = attempt(&subscriber, &mouth, &delivery, number, now).await;
    let at = clock::now().max(now);
    let settlement = settle(number, &attempt, &subscriber.retry, accepted_others, at, clock::jitter());
    report(&subscriber, &delivery, number, &attempt, settlement.next);
    let row = delivery.row;
    let settled = SettledAttempt {
        subscriber: subscriber.name.clone(),
        row,
        label_row: delivery.label_row,
        number,
        attempt,
        settlement,
        settled_at: at,
    };
    // If we die here, the receiver may have the message and we don't know it: it gets it again, under the same id.
    let done = store.settle(settled).await;
    pulse.beat(at);
    (row, done)
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

fn report(subscriber: &Subscriber, delivery: &DueDelivery, number: u32, attempt: &Attempt, next: NextStep) {
    let (name, id) = (&subscriber.name, &delivery.message_id);
    let duration_ms = attempt.duration.as_millis();
    let (label, kind) = (delivery.label_id.as_deref(), &delivery.kind);
    let outcome = attempt.outcome.shown();
    let detail = attempt.detail.as_deref();
    match next {
        NextStep::Delivered if number == 1 => {
            debug!(subscriber = %name, message.id = %id, label.id = label, kind, duration_ms, "delivered");
        }
        NextStep::Delivered => {
            info!(subscriber = %name, message.id = %id, label.id = label, kind, number, duration_ms, "delivered at last");
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
}
