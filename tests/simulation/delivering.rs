//! The simulated couriers: the loop of `workers::courier` with the same decisions, over the database in memory.

use std::sync::Arc;

use trackpost::domain::clock::set_back_by;
use trackpost::domain::delivery::concurrency::Concurrency;
use trackpost::domain::delivery::health::{Allowed, Health};
use trackpost::domain::delivery::outbox::{AttemptKind, NextRead, PendingDelivery};
use trackpost::domain::delivery::outcome::Attempt;
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::domain::time::later;
use trackpost::workers::heartbeat::IDLE_INTERVAL;

use super::daemon::{Courier, Daemon, InFlight, Job};
use super::database::{AttemptResult, RecordingAttempt};
use super::script::Moment;
use super::world::{Arrival, Crash, World};

impl Courier {
    fn take_in(&mut self) {
        for delivery in std::mem::take(&mut self.inbox) {
            if !self.stale {
                self.outbox.add(delivery);
            }
        }
    }

    fn read(&mut self, world: &mut World) -> Result<(), Crash> {
        self.health = Some(self.read_health(world)?);
        let (limit, heads) = (self.outbox.limit().deliveries, self.subscriber.max_in_flight as usize * 2);
        self.outbox.load(world.db.read_outbox(&self.subscriber.name, limit, heads));
        Ok(())
    }

    fn read_health(&self, world: &mut World) -> Result<Health, Crash> {
        let (name, digest) = (&self.subscriber.name, self.subscriber.url_digest());
        let known = world.db.healths.get(name).and_then(|health| health.url_digest.clone());
        if known.is_some_and(|known| known != digest) {
            let now = world.wall();
            world.commit_now(|db| db.record_url(name, &digest, now))?;
            world.checks.released(name);
        }
        Ok(world.db.healths.get(name).cloned().unwrap_or_default())
    }

    fn read_missing(&mut self, world: &mut World) -> Result<(), Crash> {
        for round in 0.. {
            if round > 100 {
                world.checks.wrong(format!("reading the outbox of {} does not end", self.subscriber.name));
                return Ok(());
            }
            match self.outbox.next_read(world.wall()) {
                NextRead::Nothing => return Ok(()),
                NextRead::Heads => self.read(world)?,
                NextRead::Lanes(lanes) => {
                    for lane in lanes {
                        let (deliveries, more) = world.db.read_lane(&self.subscriber.name, lane);
                        self.outbox.load_lane(lane, deliveries, more);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Daemon {
    pub fn courier_step(&mut self, world: &mut World, name: &SubscriberName) -> Result<(), Crash> {
        let Some(mut courier) = self.couriers.remove(name) else { return Ok(()) };
        let filled = self.fill(world, &mut courier);
        self.couriers.insert(name.clone(), courier);
        filled
    }

    fn fill(&mut self, world: &mut World, courier: &mut Courier) -> Result<(), Crash> {
        let now = world.wall();
        let name = courier.subscriber.name.clone();
        if courier.leaves {
            courier.wake = jiff::Timestamp::MAX;
            return Ok(());
        }
        courier.wake = world.real(later(now, IDLE_INTERVAL));
        let last = courier.stepped_at.replace(now);
        let back = set_back_by(last, now);
        if last.is_none() || back.is_some() {
            world.commit_now(|db| db.pull_in(&name, back, now))?;
            courier.health = None;
            courier.stale = true;
        }
        courier.take_in();
        if courier.stale {
            courier.read(world)?;
            courier.stale = false;
        }
        let health = match courier.health.take() {
            Some(health) => health,
            None => courier.read_health(world)?,
        };
        let max_in_flight = courier.subscriber.max_in_flight;
        let gate = courier.health.insert(health).allowed(max_in_flight, now);
        let in_flight = || self.attempts.values().filter(|attempt| attempt.subscriber.name == name);
        let busy = in_flight().count();
        let retries_in_flight = in_flight().filter(|attempt| attempt.kind == AttemptKind::Retry).count();
        match gate {
            Allowed::Nothing { until } => {
                let until = until.map_or(jiff::Timestamp::MAX, |until| world.real(until));
                courier.wake = until.max(world.now);
                return Ok(());
            }
            Allowed::Probe { .. } if busy > 0 => return Ok(()),
            Allowed::Probe { newest } => {
                if !courier.outbox.is_complete() {
                    courier.read(world)?;
                }
                if let Some(probe) = courier.outbox.take_probe(newest, now) {
                    return self.attempt(world, courier, probe, true);
                }
            }
            Allowed::Attempts { at_once } => {
                courier.read_missing(world)?;
                let concurrency = Concurrency {
                    max_in_flight: max_in_flight as usize,
                    allowed: at_once as usize,
                    in_flight: busy,
                    retries_in_flight,
                    first_in_a_row: courier.first_in_a_row,
                };
                let free = concurrency.free();
                let due = |kind| courier.outbox.due_count(kind, now, free);
                let split = concurrency.split(due(AttemptKind::First), due(AttemptKind::Retry));
                courier.first_in_a_row = concurrency.in_a_row_after(split);
                for (kind, count) in [(AttemptKind::Retry, split.1), (AttemptKind::First, split.0)] {
                    for _ in 0..count {
                        let Some(delivery) = courier.outbox.take(kind, now) else { break };
                        self.attempt(world, courier, delivery, false)?;
                    }
                }
            }
        }
        if let Some(next) = courier.outbox.next_due(now) {
            courier.wake = world.real(next).max(world.now);
        } else {
            courier.wake = jiff::Timestamp::MAX;
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        world: &mut World,
        courier: &Courier,
        delivery: PendingDelivery,
        probe: bool,
    ) -> Result<(), Crash> {
        let subscriber = Arc::clone(&courier.subscriber);
        world.check_attempt(self, &subscriber, &delivery);
        world.reached(Moment::AttemptSent)?;
        let (id, kind) = (world.next_id(), delivery.kind());
        let name = subscriber.name.to_string();
        world.send(id, Arrival::Callback { subscriber: name, delivery: Box::new(delivery.clone()) });
        let started_at = world.wall();
        let attempt = InFlight { subscriber, delivery, kind, probe, started_at, reply: None, ended: false };
        self.attempts.insert(id, attempt);
        Ok(())
    }

    /// Queues the record of an attempt that has ended.
    pub fn attempt_ended(&mut self, world: &mut World, id: u64) -> Result<(), Crash> {
        world.reached(Moment::AttemptAnswered)?;
        let attempt = self.attempts.get_mut(&id).expect("it is in flight");
        let Some((reply, _)) = attempt.reply.take() else { return Ok(()) };
        attempt.ended = true;
        let recording = RecordingAttempt {
            subscriber: Arc::clone(&attempt.subscriber),
            key: attempt.delivery.key,
            attempt: Attempt {
                started_at: attempt.started_at,
                duration: reply.takes,
                outcome: reply.outcome,
                detail: None,
                answer: None,
                retry_after: reply.retry_after,
            },
            probe: attempt.probe,
            jitter: world.jitter(),
            at: world.wall(),
        };
        self.write(world, Job::Attempt { recording: Box::new(recording), id });
        Ok(())
    }

    /// Applies a recorded attempt.
    pub fn attempt_recorded(&mut self, world: &World, id: u64, result: AttemptResult) {
        let Some(attempt) = self.attempts.remove(&id) else { return };
        let delivery = &attempt.delivery;
        if let Some(courier) = self.couriers.get_mut(&attempt.subscriber.name) {
            courier.take_in();
            if let Some(lane) = delivery.lane {
                courier.outbox.finish((lane, delivery.position, delivery.key), result.pending);
            }
            courier.health = Some(result.health);
            courier.stale |= result.change.is_some();
            courier.wake = world.now;
        }
        self.follow_subscribers(world);
    }
}
