//! Simulation of an outbox and its courier, second by second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Action, Behaviour, History, SCHEDULE};
use crate::domain::delivery::health::{AttemptFacts, Health, HealthChange, HealthState};
use crate::domain::delivery::outbox::{
    AttemptKind, LoadedDeliveries, MemoryLimit, MessageContent, NotLoaded, Outbox, PendingDelivery,
};
use crate::domain::delivery::outcome::{AfterAttempt, Attempt, DeliverySchedule, Outcome};
use crate::domain::messages::subscriber::Format;

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(super) fn seconds(instant: Timestamp) -> i64 {
    instant.as_second() - at(0).as_second()
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) lane: usize,
    pub(super) state: State,
    pub(super) schedule: DeliverySchedule,
    pub(super) attempts: u32,
    pub(super) queued_again: bool,
    /// Seconds of failed attempts since it was queued.
    failed: Vec<i64>,
}

/// Deliveries of a lane read at once.
pub(super) const PER_LANE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    NotCreated,
    Pending,
    Delivered,
    Dead,
}

pub(super) struct InFlight {
    pub(super) message: usize,
    pub(super) ends: i64,
    pub(super) outcome: Outcome,
    pub(super) retry_after: Option<i64>,
    pub(super) probe: bool,
    pub(super) retry: bool,
}

pub(super) struct Simulation {
    pub(super) first_in_a_row: usize,
    pub(super) history: History,
    pub(super) now: i64,
    pub(super) health: Health,
    /// The table.
    pub(super) outbox: Vec<Delivery>,
    pub(super) memory: Outbox,
    /// Whether the table changed without the courier.
    pub(super) stale: bool,
    pub(super) in_flight: Vec<InFlight>,
    /// Second and message of each acceptance.
    pub(super) accepted: Vec<(i64, usize)>,
    pub(super) requests: usize,
    /// Number of failing episodes.
    pub(super) episodes: usize,
}

impl Simulation {
    pub(super) fn new(history: History) -> Self {
        let mut health = Health::default();
        health.set_url("0", at(0));
        let delivery = |(lane, _): &(usize, i64)| Delivery {
            lane: *lane,
            state: State::NotCreated,
            schedule: DeliverySchedule::first(at(0)),
            attempts: 0,
            queued_again: false,
            failed: Vec::new(),
        };
        let outbox = history.messages.iter().map(delivery).collect();
        let (in_flight, accepted) = (Vec::new(), Vec::new());
        let deliveries = history.memory;
        Self {
            first_in_a_row: 0,
            history,
            now: 0,
            health,
            outbox,
            memory: Outbox::new(MemoryLimit { deliveries, bytes: usize::MAX }),
            stale: true,
            in_flight,
            accepted,
            requests: 0,
            episodes: 0,
        }
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        let mut until = 0;
        for (lasts, behaviour) in &self.history.behaviours {
            until += lasts;
            if self.now < until {
                return behaviour.clone();
            }
        }
        Behaviour::Ok
    }

    /// Second from which on the receiver is ok and no action follows.
    pub(super) fn calm_from(&self) -> i64 {
        let behaviours: i64 = self.history.behaviours.iter().map(|(lasts, _)| lasts).sum();
        let actions = self.history.actions.iter().map(|(when, _)| *when);
        let made = self.history.messages.iter().map(|(_, when)| *when);
        actions.chain(made).max().unwrap_or(0).max(behaviours) + 1
    }

    /// Simulates one second.
    pub(super) fn tick(&mut self) {
        for message in 0..self.outbox.len() {
            if self.outbox[message].state == State::NotCreated && self.history.messages[message].1 <= self.now
            {
                self.outbox[message].state = State::Pending;
                self.outbox[message].schedule = DeliverySchedule::first(at(self.now));
                self.memory.add(self.pending(message));
            }
        }
        let now = self.now;
        let actions: Vec<Action> = self
            .history
            .actions
            .iter()
            .filter(|(when, _)| *when == now)
            .map(|(_, action)| action.clone())
            .collect();
        actions.iter().for_each(|action| self.act(action));
        if now == self.calm_from() {
            self.health.resume(at(now));
        }
        while let Some(index) = self.in_flight.iter().position(|in_flight| in_flight.ends <= now) {
            let ended = self.in_flight.remove(index);
            self.finish(ended);
        }
        self.fill();
    }

    fn act(&mut self, action: &Action) {
        let now = at(self.now);
        match action {
            Action::Pause => drop(self.health.pause(now)),
            Action::Resume => {
                self.health.resume(now);
                self.reschedule(|_, schedule| schedule.resume(now));
            }
            Action::Move(to) => {
                // The attempts to the former URL have ended by then.
                while let Some(ended) = self.in_flight.pop() {
                    self.finish(ended);
                }
                if self.health.set_url(&to.to_string(), now) {
                    self.reschedule(|_, schedule| schedule.follow_url(now));
                }
            }
            Action::Kill => {
                self.in_flight.clear();
                self.memory = Outbox::new(self.memory.limit());
            }
            Action::Replay(message) => {
                let Some(delivery) = self.outbox.get_mut(*message) else { return };
                if !matches!(delivery.state, State::Delivered | State::Dead) {
                    return;
                }
                delivery.state = State::Pending;
                delivery.schedule = DeliverySchedule::queued_again(now);
                delivery.queued_again = true;
                delivery.failed.clear();
            }
        }
        self.stale = true;
    }

    pub(super) fn earlier_pending(&self, message: usize) -> bool {
        let lane = self.outbox[message].lane;
        self.outbox[..message].iter().any(|other| other.lane == lane && other.state == State::Pending)
    }

    fn reschedule(&mut self, change: impl Fn(usize, &mut DeliverySchedule) -> bool) {
        for (message, delivery) in self.outbox.iter_mut().enumerate() {
            change(message, &mut delivery.schedule);
        }
        self.stale = true;
    }

    /// A row as read from the table.
    pub(super) fn pending(&self, message: usize) -> PendingDelivery {
        let Delivery { lane, attempts, schedule, .. } = self.outbox[message];
        let content = MessageContent {
            message_id: message.to_string(),
            kind: String::new(),
            label_id: None,
            seq: None,
            body: String::new(),
            resource_url: None,
        };
        let (key, format) = (message as i64, Format::Standard);
        let lane = Some(lane as i64);
        PendingDelivery { key, message: Arc::new(content), format, lane, position: key, attempts, schedule }
    }

    pub(super) fn of_lane(&self, lane: usize) -> impl Iterator<Item = usize> {
        (0..self.outbox.len())
            .filter(move |message| self.outbox[*message].lane == lane)
            .filter(|message| self.outbox[*message].state == State::Pending)
    }

    /// Reads the table as the store does.
    pub(super) fn read(&self) -> LoadedDeliveries {
        let pending = |message: &usize| self.outbox[*message].state == State::Pending;
        let all: Vec<usize> = (0..self.outbox.len()).filter(pending).collect();
        let read = |messages: Vec<usize>| messages.into_iter().map(|message| self.pending(message)).collect();
        if all.len() <= self.memory.limit().deliveries {
            return LoadedDeliveries { deliveries: read(all), not_loaded: None };
        }
        let most = 2 * self.history.max_in_flight as usize;
        let mut not_loaded = NotLoaded::default();
        let mut lanes = BTreeSet::new();
        for kind in [AttemptKind::First, AttemptKind::Retry] {
            let mut heads: Vec<usize> =
                all.iter().copied().filter(|message| !self.earlier_pending(*message)).collect();
            let retry = kind == AttemptKind::Retry;
            heads.retain(|message| (self.outbox[*message].attempts > 0) == retry);
            heads.sort_by_key(|message| self.outbox[*message].schedule.next.at);
            let newest = heads.last().copied().filter(|_| !retry);
            let cut = heads.get(most - 1).map(|message| self.outbox[*message].schedule.next.at);
            heads.truncate(most);
            lanes.extend(heads.into_iter().chain(newest).map(|message| self.outbox[message].lane));
            not_loaded.after[kind as usize] = cut;
        }
        let some = lanes.into_iter().flat_map(|lane| self.of_lane(lane).take(PER_LANE)).collect();
        LoadedDeliveries { deliveries: read(some), not_loaded: Some(not_loaded) }
    }

    fn finish(&mut self, ended: InFlight) {
        let (now, message) = (self.now, ended.message);
        let attempt = Attempt {
            started_at: at(now),
            duration: Duration::ZERO,
            outcome: ended.outcome,
            detail: None,
            answer: None,
            retry_after: ended.retry_after.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        };
        let finished = AttemptFacts {
            delivery: message as i64,
            progress: self.outbox[message].schedule.progress,
            attempt: &attempt,
            probe: ended.probe,
            schedule: &SCHEDULE,
            max_in_flight: self.history.max_in_flight,
            jitter: 0.0,
        };
        let was = self.health.state;
        let (decision, change) = self.health.record(&finished, at(now));
        let delivery = &mut self.outbox[message];
        delivery.attempts += 1;
        let mut pending = None;
        match decision.next {
            AfterAttempt::Delivered => {
                delivery.state = State::Delivered;
                self.accepted.push((now, message));
            }
            AfterAttempt::Retry(next) => {
                delivery.failed.push(now);
                let (progress, retry_after_until) = (decision.progress, decision.retry_after_until);
                delivery.schedule = DeliverySchedule { next, progress, retry_after_until };
                pending = Some((delivery.attempts, delivery.schedule));
            }
            AfterAttempt::Dead => {
                delivery.failed.push(now);
                delivery.state = State::Dead;
                assert_eq!(
                    (was, self.health.state),
                    (HealthState::Ok, HealthState::Ok),
                    "dead while the subscriber fails"
                );
                let failed = &delivery.failed;
                assert!(failed.len() > SCHEDULE.len(), "dead after {failed:?}");
                let others =
                    self.accepted.iter().any(|(when, other)| *other != message && *when >= failed[0]);
                assert!(others, "dead although no other was accepted");
            }
        }
        let position = message as i64;
        self.memory.finish((self.outbox[message].lane as i64, position, position), pending);
        self.episodes += usize::from(change == Some(HealthChange::Failing));
        if let Some(change) = change {
            self.reschedule(|other, schedule| other != message && schedule.hasten(change.cause(), at(now)));
        }
    }

    /// Due heads of lanes without an attempt in flight, by the table; the one due longest first.
    pub(super) fn due(&self, retry: bool) -> Vec<usize> {
        let busy = |lane| self.in_flight.iter().any(|in_flight| self.outbox[in_flight.message].lane == lane);
        let mut due: Vec<usize> = (0..self.outbox.len())
            .filter(|message| {
                let delivery = &self.outbox[*message];
                delivery.state == State::Pending
                    && (delivery.attempts > 0) == retry
                    && delivery.schedule.next.at <= at(self.now)
                    && !busy(delivery.lane)
                    && !self.earlier_pending(*message)
            })
            .collect();
        due.sort_by_key(|message| (self.outbox[*message].schedule.next.at, *message));
        due
    }
}
