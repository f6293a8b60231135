//! The trade that keeps the promise: one courier per subscriber.
//!
//! Takes what is due from the outbox, posts it, records what became of it. Per label only the oldest undelivered
//! message is ever due, so order holds; a subscriber's couriers are its own, so nobody waits for another. One that fails
//! as a whole gets one probe at a time, and a paused one nothing.
//!
//! One attempt of a message at a time, by construction: what is under way is remembered here, and only one daemon
//! runs. If we die between the answer and its record, the message is sent again under the same id.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock;
use crate::domain::breaker::{Gate, Health, HealthChange, State};
use crate::domain::delivery::{Attempt, NextStep, Outcome};
use crate::domain::message::envelope;
use crate::domain::slots::Slots;
use crate::domain::span::later;
use crate::domain::subscriber::Subscriber;
use crate::in_flight::InFlight;
use crate::pulse::Pulse;
use crate::store::outbox::{DueDelivery, EndedAttempt, Kind, Settled};
use crate::store::{Store, StoreError};
use crate::webhook::{Callback, Mouth, NoTls};

/// What another process does to the outbox is noticed within this; nothing read ahead is older.
const LOOK: SignedDuration = SignedDuration::from_millis(500);
/// How many deliveries of a kind are read ahead, in times of what may be under way at once.
const AHEAD: usize = 4;

/// All subscribers there are; who asks for it is told how another one fares. It changes with a reload.
pub type Audience = watch::Receiver<Arc<Vec<Subscriber>>>;

/// Delivers to one subscriber.
pub struct Courier {
    desk: Arc<Desk>,
    in_flight: InFlight<Note, Settled>,
    view: Option<View>,
    /// First attempts since the last retry.
    first_in_a_row: usize,
}

/// What is under way.
struct Note {
    kind: Kind,
    lane: Option<i64>,
}

/// The outbox as it was last looked at.
struct View {
    at: Timestamp,
    health: Health,
    first: VecDeque<DueDelivery>,
    retries: VecDeque<DueDelivery>,
}

/// What attempts under way share.
struct Desk {
    subscriber: Arc<Subscriber>,
    url_digest: String,
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
        let url_digest = subscriber.url_digest();
        let desk = Desk { subscriber: Arc::new(subscriber), url_digest, audience, store, mouth, pulse };
        Ok(Self { desk: Arc::new(desk), in_flight: InFlight::default(), view: None, first_in_a_row: 0 })
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
                Some(done) = self.in_flight.ended() => self.finish(done?)?,
                Ok(()) = outbox.changed(), if self.has_room() => {}
                () = clock::sleep_until(wake) => {}
            }
        }
        self.in_flight.drain().await
    }

    /// One bounded piece of work: attempts what is due at `now`, up to `max_in_flight`, and records it. Returns when
    /// there is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.view = None;
        let wake = self.fill(now).await?;
        self.in_flight.drain().await?;
        Ok(wake)
    }

    /// Takes in what has ended: those that were written together end together.
    fn finish(&mut self, settled: Settled) -> Result<(), StoreError> {
        let mut as_ever = settled.is_as_ever();
        while let Some(settled) = self.in_flight.ended_by_now() {
            as_ever &= settled?.is_as_ever();
        }
        // A failure, and any success but one of many, changes how the subscriber fares.
        self.view = self.view.take().filter(|view| as_ever && view.health.is_as_ever());
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.desk.subscriber.max_in_flight as usize
    }

    /// Takes up what is due and may go; says when to look again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let soon = later(now, LOOK);
        self.desk.pulse.beat(now);
        if !self.has_room() {
            return Ok(soon);
        }
        let mut view = match self.view.take() {
            Some(view) if now.duration_since(view.at).abs() < LOOK => view,
            _ => View { at: now, health: self.health(now).await?, first: [].into(), retries: [].into() },
        };
        let gate = view.health.gate(self.desk.subscriber.max_in_flight, now);
        match gate {
            Gate::Shut { until } => return Ok(until.map_or(soon, |until| until.min(soon))),
            Gate::Probe { .. } if !self.in_flight.is_empty() => return Ok(soon),
            Gate::Probe { newest } => {
                if let Some(probe) = self.probe(newest, now).await? {
                    self.take_up(probe, true, now);
                    return Ok(soon);
                }
            }
            Gate::Open { at_once } => {
                let slots = self.slots(at_once);
                if slots.room() == 0 {
                    return Ok(soon);
                }
                if view.first.len() < slots.room() {
                    self.look_ahead(&mut view, &slots, now).await?;
                    // What a fall made due is seen with the health after it, which is read last, and is not taken up.
                    if self.health(now).await?.gate(self.desk.subscriber.max_in_flight, now) != gate {
                        return Ok(now);
                    }
                }
                let (first, retries) = slots.share(view.first.len(), view.retries.len());
                self.first_in_a_row = if retries > 0 { 0 } else { self.first_in_a_row + first };
                view.retries.drain(..retries).for_each(|delivery| self.take_up(delivery, false, now));
                view.first.drain(..first).for_each(|delivery| self.take_up(delivery, false, now));
                self.view = Some(view);
                if first + retries == slots.room() {
                    return Ok(soon);
                }
            }
        }
        let next = self.desk.store.next_attempt(&self.desk.subscriber.name, now, soon).await?;
        Ok(next.map_or(soon, |next| next.min(soon)))
    }

    /// How the subscriber fares; another process may have paused it. Where it has moved, its outbox is made ready.
    async fn health(&self, now: Timestamp) -> Result<Health, StoreError> {
        let Desk { subscriber, url_digest, store, .. } = &*self.desk;
        let health = store.subscriber_health(&subscriber.name).await?;
        match &health.url_digest {
            Some(known) if known != url_digest => store.meet(&subscriber.name, url_digest.clone(), now).await,
            // The first URL is written with the first attempt there.
            _ => Ok(health),
        }
    }

    fn slots(&self, at_once: u32) -> Slots {
        Slots {
            max_in_flight: self.desk.subscriber.max_in_flight as usize,
            at_once: at_once as usize,
            under_way: self.in_flight.len(),
            retries_under_way: self.in_flight.notes().filter(|note| note.kind == Kind::Retry).count(),
            first_in_a_row: self.first_in_a_row,
        }
    }

    /// Reads what is due; where it is done as soon as there is room for more than is known, what is new is seen in time.
    /// Only heads of lanes are due: what is read ahead stands in no other's way.
    async fn look_ahead(&self, view: &mut View, slots: &Slots, now: Timestamp) -> Result<(), StoreError> {
        let ahead = slots.max_in_flight * AHEAD;
        let busy = self.in_flight.rows();
        view.first = self.due(Kind::First, now, &busy, ahead).await?.into();
        view.retries = self.due(Kind::Retry, now, &busy, slots.most_retries()).await?.into();
        // Two looks: what was sent again between them may have put another of its lane first.
        let lanes: HashSet<i64> = view.first.iter().filter_map(|delivery| delivery.lane).collect();
        view.retries.retain(|delivery| delivery.lane.is_none_or(|lane| !lanes.contains(&lane)));
        Ok(())
    }

    /// What has failed already may be what is bad, so it comes last; by time, what was just tried lets all others be
    /// tried before it. Of what was never tried, the `newest` if it is its turn; but a ping, which has no lane, goes
    /// before anything.
    async fn probe(&self, newest: bool, now: Timestamp) -> Result<Option<DueDelivery>, StoreError> {
        let Desk { subscriber, store, .. } = &*self.desk;
        match self.due(Kind::First, now, &[], 1).await?.pop() {
            Some(first) if newest && first.lane.is_some() => {
                let newest = store.newest_due_delivery(&subscriber.name, now).await?;
                Ok(newest.or(Some(first)))
            }
            Some(first) => Ok(Some(first)),
            None => Ok(self.due(Kind::Retry, now, &[], 1).await?.pop()),
        }
    }

    async fn due(
        &self,
        kind: Kind,
        now: Timestamp,
        busy: &[i64],
        limit: usize,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let Desk { subscriber, store, .. } = &*self.desk;
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        store.due_deliveries(&subscriber.name, kind, now, busy, limit).await
    }

    /// Begins an attempt, unless another of its lane is under way: what was read ahead may be behind the times.
    fn take_up(&mut self, delivery: DueDelivery, probe: bool, now: Timestamp) {
        let (row, lane) = (delivery.row, delivery.lane);
        if self.in_flight.has(row) || lane.is_some() && self.in_flight.notes().any(|note| note.lane == lane) {
            return;
        }
        let kind = if delivery.attempts > 0 { Kind::Retry } else { Kind::First };
        self.in_flight.start(row, Note { kind, lane }, deliver(Arc::clone(&self.desk), delivery, probe, now));
    }
}

/// One attempt and its record.
async fn deliver(
    desk: Arc<Desk>,
    delivery: DueDelivery,
    probe: bool,
    now: Timestamp,
) -> Result<Settled, StoreError> {
    let number = delivery.attempts.saturating_add(1);
    let attempt = attempt(&desk.subscriber, &desk.mouth, &delivery, number, now).await;
    let at = clock::now().max(now);
    let ended = EndedAttempt {
        subscriber: Arc::clone(&desk.subscriber),
        row: delivery.row,
        lane: delivery.lane,
        course: delivery.course,
        attempt: attempt.clone(),
        probe,
        jitter: clock::jitter(),
        audience: Arc::clone(&desk.audience.borrow()),
        settled_at: at,
    };
    // If we die here, the receiver may have the message and we don't know it: it gets it again, under the same id.
    let settled = desk.store.settle(ended).await?;
    desk.pulse.beat(at);
    report(&desk.subscriber, &delivery, number, &attempt, &settled);
    Ok(settled)
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
