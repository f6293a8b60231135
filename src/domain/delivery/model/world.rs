//! The outbox and its courier, one second after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Deed, History, LONGEST_ASKED, Mood, SCHEDULE};
use crate::domain::delivery::capacity::Capacity;
use crate::domain::delivery::health::{Ended, Gate, Health, HealthChange, State};
use crate::domain::delivery::outbox::{
    Kind, LeftOut, Limit, Loaded, MessageContent, Outbox, PendingDelivery, Wanted,
};
use crate::domain::delivery::outcome::{Attempt, DeliverySchedule, HastenedBy, NextStep, Outcome};
use crate::domain::messages::subscriber::Format;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn seconds(instant: Timestamp) -> i64 {
    instant.as_second() - at(0).as_second()
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) lane: usize,
    pub(super) state: Done,
    schedule: DeliverySchedule,
    attempts: u32,
    queued_again: bool,
    /// Instants of failed attempts since it was queued.
    failed: Vec<i64>,
}

/// Of a lane, so many are read at once.
const OF_A_LANE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    NotYet,
    Pending,
    Delivered,
    Dead,
}

struct UnderWay {
    message: usize,
    ends: i64,
    outcome: Outcome,
    retry_after: Option<i64>,
    probe: bool,
    retry: bool,
}

pub(super) struct World {
    first_in_a_row: usize,
    pub(super) history: History,
    pub(super) now: i64,
    health: Health,
    /// The table.
    pub(super) outbox: Vec<Delivery>,
    memory: Outbox,
    /// The table was changed behind the courier's back.
    stale: bool,
    under_way: Vec<UnderWay>,
    /// Second and message of each acceptance.
    pub(super) accepted: Vec<(i64, usize)>,
    requests: usize,
    /// How often the subscriber began to fail.
    pub(super) falls: usize,
}

impl World {
    pub(super) fn new(history: History) -> Self {
        let mut health = Health::default();
        health.meet("0", at(0));
        let delivery = |(lane, _): &(usize, i64)| Delivery {
            lane: *lane,
            state: Done::NotYet,
            schedule: DeliverySchedule::first(at(0)),
            attempts: 0,
            queued_again: false,
            failed: Vec::new(),
        };
        let outbox = history.messages.iter().map(delivery).collect();
        let (under_way, accepted) = (Vec::new(), Vec::new());
        let deliveries = history.memory;
        Self {
            first_in_a_row: 0,
            history,
            now: 0,
            health,
            outbox,
            memory: Outbox::new(Limit { deliveries, bytes: usize::MAX }),
            stale: true,
            under_way,
            accepted,
            requests: 0,
            falls: 0,
        }
    }

    fn mood(&self) -> Mood {
        let mut until = 0;
        for (lasts, mood) in &self.history.moods {
            until += lasts;
            if self.now < until {
                return mood.clone();
            }
        }
        Mood::Well
    }

    /// When the receiver is well for good and nobody interferes any more.
    fn calm_from(&self) -> i64 {
        let moods: i64 = self.history.moods.iter().map(|(lasts, _)| lasts).sum();
        let deeds = self.history.deeds.iter().map(|(when, _)| *when);
        let made = self.history.messages.iter().map(|(_, when)| *when);
        deeds.chain(made).max().unwrap_or(0).max(moods) + 1
    }

    /// All that happens in this second, in turn.
    pub(super) fn tick(&mut self) {
        for message in 0..self.outbox.len() {
            if self.outbox[message].state == Done::NotYet && self.history.messages[message].1 <= self.now {
                self.outbox[message].state = Done::Pending;
                self.outbox[message].schedule = DeliverySchedule::first(at(self.now));
                self.memory.add(self.pending(message));
            }
        }
        let now = self.now;
        let deeds: Vec<Deed> = self
            .history
            .deeds
            .iter()
            .filter(|(when, _)| *when == now)
            .map(|(_, deed)| deed.clone())
            .collect();
        deeds.iter().for_each(|deed| self.act(deed));
        if now == self.calm_from() {
            self.health.resume(at(now));
        }
        while let Some(place) = self.under_way.iter().position(|under_way| under_way.ends <= now) {
            let ended = self.under_way.remove(place);
            self.settle(ended);
        }
        self.fill();
    }

    fn act(&mut self, deed: &Deed) {
        let now = at(self.now);
        match deed {
            Deed::Pause => drop(self.health.pause(now)),
            Deed::Resume => {
                self.health.resume(now);
                self.reschedule(|_, schedule| {
                    schedule.overrule_retry_after();
                    schedule.hasten(HastenedBy::Resume, now);
                });
            }
            Deed::Move(to) => {
                // Its predecessor's calls have ended by then.
                while let Some(ended) = self.under_way.pop() {
                    self.settle(ended);
                }
                if self.health.meet(&to.to_string(), now) {
                    self.reschedule(|_, schedule| {
                        schedule.forget_receiver();
                        schedule.hasten(HastenedBy::Move, now);
                    });
                }
            }
            Deed::Die => {
                self.under_way.clear();
                self.memory = Outbox::new(self.memory.limit());
            }
            Deed::Replay(message) => {
                let Some(delivery) = self.outbox.get_mut(*message) else { return };
                if !matches!(delivery.state, Done::Delivered | Done::Dead) {
                    return;
                }
                delivery.state = Done::Pending;
                delivery.schedule = DeliverySchedule::queued_again(now);
                delivery.queued_again = true;
                delivery.failed.clear();
            }
        }
        self.stale = true;
    }

    fn earlier_pending(&self, message: usize) -> bool {
        let lane = self.outbox[message].lane;
        self.outbox[..message].iter().any(|other| other.lane == lane && other.state == Done::Pending)
    }

    fn reschedule(&mut self, change: impl Fn(usize, &mut DeliverySchedule)) {
        for (message, delivery) in self.outbox.iter_mut().enumerate() {
            change(message, &mut delivery.schedule);
        }
        self.stale = true;
    }

    /// A row as it is read.
    fn pending(&self, message: usize) -> PendingDelivery {
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
        PendingDelivery { key, message: Arc::new(content), format, lane, place: key, attempts, schedule }
    }

    fn of_lane(&self, lane: usize) -> impl Iterator<Item = usize> {
        (0..self.outbox.len())
            .filter(move |message| self.outbox[*message].lane == lane)
            .filter(|message| self.outbox[*message].state == Done::Pending)
    }

    /// Reads the table as the store does.
    fn read(&self) -> Loaded {
        let pending = |message: &usize| self.outbox[*message].state == Done::Pending;
        let all: Vec<usize> = (0..self.outbox.len()).filter(pending).collect();
        let read = |messages: Vec<usize>| messages.into_iter().map(|message| self.pending(message)).collect();
        if all.len() <= self.memory.limit().deliveries {
            return Loaded { deliveries: read(all), left_out: None };
        }
        let most = 2 * self.history.max_in_flight as usize;
        let mut left_out = LeftOut::default();
        let mut lanes = BTreeSet::new();
        for retry in [false, true] {
            let mut heads: Vec<usize> =
                all.iter().copied().filter(|message| !self.earlier_pending(*message)).collect();
            heads.retain(|message| (self.outbox[*message].attempts > 0) == retry);
            heads.sort_by_key(|message| self.outbox[*message].schedule.next.at);
            let newest = heads.last().copied().filter(|_| !retry);
            let cut = heads.get(most - 1).map(|message| self.outbox[*message].schedule.next.at);
            heads.truncate(most);
            lanes.extend(heads.into_iter().chain(newest).map(|message| self.outbox[message].lane));
            *if retry { &mut left_out.retries_after } else { &mut left_out.first_after } = cut;
        }
        let some = lanes.into_iter().flat_map(|lane| self.of_lane(lane).take(OF_A_LANE)).collect();
        Loaded { deliveries: read(some), left_out: Some(left_out) }
    }

    fn settle(&mut self, ended: UnderWay) {
        let (now, message) = (self.now, ended.message);
        let attempt = Attempt {
            started_at: at(now),
            duration: Duration::ZERO,
            outcome: ended.outcome,
            detail: None,
            answer: None,
            retry_after: ended.retry_after.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        };
        let judged = Ended {
            delivery: message as i64,
            progress: self.outbox[message].schedule.progress,
            attempt: &attempt,
            probe: ended.probe,
            schedule: &SCHEDULE,
            max_in_flight: self.history.max_in_flight,
            jitter: 0.0,
        };
        let was = self.health.state;
        let (settlement, change) = self.health.settle(&judged, at(now));
        let delivery = &mut self.outbox[message];
        delivery.attempts += 1;
        let mut pending = None;
        match settlement.next {
            NextStep::Delivered => {
                delivery.state = Done::Delivered;
                self.accepted.push((now, message));
            }
            NextStep::Again(next) => {
                delivery.failed.push(now);
                let (progress, asked_until) = (settlement.progress, settlement.asked_until);
                delivery.schedule = DeliverySchedule { next, progress, asked_until };
                pending = Some((delivery.attempts, delivery.schedule));
            }
            NextStep::Dead => {
                delivery.failed.push(now);
                delivery.state = Done::Dead;
                assert_eq!((was, self.health.state), (State::Ok, State::Ok), "given up while it fails");
                let failed = &delivery.failed;
                assert!(failed.len() > SCHEDULE.len(), "given up after {failed:?}");
                let others = self.accepted.iter().any(|(when, who)| *who != message && *when >= failed[0]);
                assert!(others, "given up though nobody was accepted meanwhile");
            }
        }
        let place = message as i64;
        self.memory.settled((self.outbox[message].lane as i64, place, place), pending);
        self.falls += usize::from(change == Some(HealthChange::Fell));
        if let Some(change) = change {
            let by = match change {
                HealthChange::Recovered => HastenedBy::Recovery,
                HealthChange::Fell | HealthChange::Paused => HastenedBy::Fall,
            };
            self.reschedule(|other, schedule| {
                if other != message {
                    schedule.hasten(by, at(now));
                }
            });
        }
    }

    /// What may be attempted by the table: the heads that are due and whose lanes are free, the longest due first.
    fn due(&self, retry: bool) -> Vec<usize> {
        let busy = |lane| self.under_way.iter().any(|under_way| self.outbox[under_way.message].lane == lane);
        let mut due: Vec<usize> = (0..self.outbox.len())
            .filter(|message| {
                let delivery = &self.outbox[*message];
                delivery.state == Done::Pending
                    && (delivery.attempts > 0) == retry
                    && delivery.schedule.next.at <= at(self.now)
                    && !busy(delivery.lane)
                    && !self.earlier_pending(*message)
            })
            .collect();
        due.sort_by_key(|message| (self.outbox[*message].schedule.next.at, *message));
        due
    }

    /// Takes from memory what `expected` says, which is what the table says; of a memory that does not hold everything
    /// it is asked only that it may be taken.
    fn take(&mut self, kind: Kind, expected: &[usize], count: usize, probe: Option<bool>) {
        for next in &expected[..count] {
            let taken = match probe {
                Some(newest) => self.memory.take_probe(newest, at(self.now)),
                None => self.memory.take(kind, at(self.now)),
            };
            let taken = taken.expect("as many are due in memory as in the table").key as usize;
            if self.memory.is_complete() {
                assert_eq!(taken, *next);
            }
            self.start(taken, probe.is_some());
        }
    }

    fn read_what_is_wanted(&mut self) {
        for round in 0.. {
            assert!(round < 100, "reading finds no end");
            match self.memory.wanted(at(self.now)) {
                Wanted::Nothing => return,
                Wanted::Heads => self.memory.load(self.read()),
                Wanted::Lanes(lanes) => {
                    for lane in lanes {
                        let read: Vec<usize> = self.of_lane(lane as usize).take(OF_A_LANE).collect();
                        let more = read.len() == OF_A_LANE;
                        let read = read.into_iter().map(|message| self.pending(message)).collect();
                        self.memory.load_lane(lane, read, more);
                    }
                }
            }
        }
    }

    fn fill(&mut self) {
        let max = self.history.max_in_flight;
        if std::mem::take(&mut self.stale) {
            self.memory.load(self.read());
        }
        let (mut first, retries) = (self.due(false), self.due(true));
        match self.health.gate(max, at(self.now)) {
            Gate::Shut { .. } => {}
            Gate::Probe { newest } if self.under_way.is_empty() => {
                if !self.memory.is_complete() {
                    self.memory.load(self.read());
                }
                if newest {
                    first.reverse();
                }
                let any = first.len() + retries.len();
                let expected = [first, retries].concat();
                self.take(Kind::First, &expected, any.min(1), Some(newest));
            }
            Gate::Probe { .. } => {}
            Gate::Open { at_once } => {
                self.read_what_is_wanted();
                let capacity = Capacity {
                    max_in_flight: max as usize,
                    at_once: at_once as usize,
                    under_way: self.under_way.len(),
                    retries_under_way: self.under_way.iter().filter(|under_way| under_way.retry).count(),
                    first_in_a_row: self.first_in_a_row,
                };
                let due = |kind| self.memory.due(kind, at(self.now), usize::MAX);
                let due = (due(Kind::First), due(Kind::Retry));
                if self.memory.is_complete() {
                    assert_eq!(due, (first.len(), retries.len()));
                }
                assert!((due.0 == 0) == first.is_empty() || capacity.room() == 0, "{due:?}, but {first:?}");
                let share = capacity.share(due.0, due.1);
                self.first_in_a_row = if share.1 > 0 { 0 } else { self.first_in_a_row + share.0 };
                self.take(Kind::Retry, &retries, share.1, None);
                self.take(Kind::First, &first, share.0, None);
            }
        }
        let probes = self.under_way.iter().filter(|under_way| under_way.probe).count();
        assert!(self.under_way.len() <= max as usize && probes <= 1);
    }

    fn start(&mut self, message: usize, probe: bool) {
        let lane = self.outbox[message].lane;
        let twice = self.under_way.iter().any(|under_way| self.outbox[under_way.message].lane == lane);
        assert!(!twice, "two of lane {lane} are under way");
        assert!(!self.earlier_pending(message), "{message} goes before another of its lane");
        self.requests += 1;
        let (outcome, takes, retry_after) = match self.mood() {
            Mood::Fails(outcome, takes) => (outcome, takes, None),
            Mood::Throttles(status, wait) => (Outcome::Refused { status }, 0, Some(wait)),
            Mood::Refuses(refused) if refused.contains(&lane) => (Outcome::Refused { status: 422 }, 1, None),
            Mood::Flaky if self.requests.is_multiple_of(3) => (Outcome::Refused { status: 500 }, 0, None),
            _ => (Outcome::Accepted { status: 200 }, 1, None),
        };
        let retry = self.outbox[message].attempts > 0;
        self.under_way.push(UnderWay { message, ends: self.now + takes, outcome, retry_after, probe, retry });
    }

    /// The next second in which anything happens.
    fn next(&self) -> i64 {
        let pending = self.outbox.iter().filter(|delivery| delivery.state == Done::Pending);
        let waits = pending.map(|delivery| seconds(delivery.schedule.next.at));
        let ends = self.under_way.iter().map(|under_way| under_way.ends);
        let made = self.history.messages.iter().map(|(_, when)| *when);
        let deeds = self.history.deeds.iter().map(|(when, _)| *when);
        let open = [self.health.probe_at, self.health.held_until].into_iter().flatten();
        let open = open.map(seconds);
        let all = waits.chain(ends).chain(made).chain(deeds).chain(open).chain([self.calm_from()]);
        all.filter(|when| *when > self.now).min().unwrap_or(self.now + 1)
    }

    pub(super) fn run(&mut self) {
        // All that may be waited for, one after the other: a hold, the slowest probe, the whole schedule.
        let wait: i64 = SCHEDULE.iter().map(|wait| wait.as_secs() as i64).sum();
        let end = self.calm_from() + LONGEST_ASKED + 300 + wait + 60;
        while self.now <= end {
            self.tick();
            // What is due and found no place waits for an end, or for the gate.
            let ended = self.under_way.iter().any(|under_way| under_way.ends <= self.now);
            self.now = if ended { self.now + 1 } else { self.next() };
        }
    }

    pub(super) fn judge(&self) {
        for (message, delivery) in self.outbox.iter().enumerate() {
            assert!(
                matches!(delivery.state, Done::Delivered | Done::Dead),
                "{message} is {:?} in the end: {delivery:?}, {:?}",
                delivery.state,
                self.health
            );
        }
        let again = |message: usize| self.outbox[message].queued_again;
        for lane in 0..8 {
            let of_lane = self.accepted.iter().filter(|(_, message)| self.outbox[*message].lane == lane);
            let order: Vec<usize> = of_lane.map(|(_, message)| *message).filter(|who| !again(*who)).collect();
            assert!(order.is_sorted(), "lane {lane} was accepted as {order:?}");
        }
        let mut once: Vec<usize> =
            self.accepted.iter().map(|(_, who)| *who).filter(|who| !again(*who)).collect();
        let all = once.len();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all, "accepted twice");
        assert_eq!(self.health.state, State::Ok);
    }
}
