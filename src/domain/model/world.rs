//! The outbox and its courier, one second after the other.

use std::time::Duration;

use jiff::Timestamp;

use super::{Deed, History, LONGEST_ASKED, Mood, SCHEDULE};
use crate::domain::breaker::{Ended, Gate, Health, HealthChange, State};
use crate::domain::delivery::{Attempt, RetryProgress, NextStep, Outcome};
use crate::domain::slots::Slots;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn seconds(instant: Timestamp) -> i64 {
    instant.as_second() - at(0).as_second()
}

#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) lane: usize,
    pub(super) state: Done,
    /// Only of the head of a lane.
    due: Option<i64>,
    progress: RetryProgress,
    asked_until: Option<i64>,
    attempts: u32,
    queued_again: bool,
    /// Instants of failed attempts since it was queued.
    failed: Vec<i64>,
}

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
    pub(super) outbox: Vec<Delivery>,
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
            due: None,
            progress: RetryProgress::default(),
            asked_until: None,
            attempts: 0,
            queued_again: false,
            failed: Vec::new(),
        };
        let outbox = history.messages.iter().map(delivery).collect();
        let (under_way, accepted) = (Vec::new(), Vec::new());
        Self {
            first_in_a_row: 0,
            history,
            now: 0,
            health,
            outbox,
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
                self.promote(self.outbox[message].lane);
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
                self.hasten(None);
            }
            Deed::Move(to) => {
                // Its predecessor's calls have ended by then.
                while let Some(ended) = self.under_way.pop() {
                    self.settle(ended);
                }
                if self.health.meet(&to.to_string(), now) {
                    for delivery in &mut self.outbox {
                        (delivery.progress, delivery.asked_until) = (RetryProgress::default(), None);
                    }
                    self.hasten(None);
                }
            }
            Deed::Die => self.under_way.clear(),
            Deed::Replay(message) => {
                let Some(delivery) = self.outbox.get_mut(*message) else { return };
                if !matches!(delivery.state, Done::Delivered | Done::Dead) {
                    return;
                }
                delivery.state = Done::Pending;
                (delivery.progress, delivery.asked_until) = (RetryProgress::default(), None);
                delivery.queued_again = true;
                delivery.failed.clear();
                let lane = delivery.lane;
                for other in 0..self.outbox.len() {
                    if self.outbox[other].lane == lane && self.earlier_pending(other) {
                        self.outbox[other].due = None;
                    }
                }
                self.promote(lane);
            }
        }
    }

    fn earlier_pending(&self, message: usize) -> bool {
        let lane = self.outbox[message].lane;
        self.outbox[..message].iter().any(|other| other.lane == lane && other.state == Done::Pending)
    }

    fn promote(&mut self, lane: usize) {
        let now = self.now;
        let head = self.outbox.iter_mut().find(|other| other.lane == lane && other.state == Done::Pending);
        if let Some(head) = head.filter(|head| head.due.is_none()) {
            let planned = head.progress.planned_at.map(seconds);
            head.due = Some(now).max(head.asked_until).max(planned);
        }
    }

    /// What waits for a time of our own is due.
    fn hasten(&mut self, tried: Option<usize>) {
        for (message, delivery) in self.outbox.iter_mut().enumerate() {
            let due = self.now.max(delivery.asked_until.unwrap_or(self.now));
            if Some(message) != tried && delivery.due.is_some_and(|before| before > due) {
                delivery.due = Some(due);
            }
        }
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
            progress: self.outbox[message].progress,
            attempt: &attempt,
            probe: ended.probe,
            schedule: &SCHEDULE,
            max_in_flight: self.history.max_in_flight,
            jitter: 0.0,
        };
        let was = self.health.state;
        let (settlement, change) = self.health.settle(&judged, at(now));
        let behind = self.earlier_pending(message);
        let delivery = &mut self.outbox[message];
        delivery.attempts += 1;
        delivery.progress = settlement.progress;
        delivery.asked_until = settlement.asked_until.map(seconds);
        delivery.due = None;
        match settlement.next {
            NextStep::Delivered => {
                delivery.state = Done::Delivered;
                self.accepted.push((now, message));
            }
            NextStep::Again { at } => {
                delivery.failed.push(now);
                delivery.due = Some(seconds(at)).filter(|_| !behind);
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
        self.promote(self.outbox[message].lane);
        self.falls += usize::from(change == Some(HealthChange::Fell));
        if change.is_some() {
            self.hasten(Some(message));
        }
    }

    fn due(&self, retry: bool) -> Vec<usize> {
        let busy = |lane| self.under_way.iter().any(|under_way| self.outbox[under_way.message].lane == lane);
        let mut due: Vec<usize> = (0..self.outbox.len())
            .filter(|message| {
                let delivery = &self.outbox[*message];
                (delivery.attempts > 0) == retry
                    && delivery.due.is_some_and(|due| due <= self.now)
                    && !busy(delivery.lane)
            })
            .collect();
        due.sort_by_key(|message| (self.outbox[*message].due, *message));
        due
    }

    fn fill(&mut self) {
        let max = self.history.max_in_flight;
        let (mut first, mut retries) = (self.due(false), self.due(true));
        match self.health.gate(max, at(self.now)) {
            Gate::Shut { .. } => {}
            Gate::Probe { newest } if self.under_way.is_empty() => {
                if newest {
                    first.reverse();
                }
                if let Some(probe) = first.into_iter().chain(retries).next() {
                    self.start(probe, true);
                }
            }
            Gate::Probe { .. } => {}
            Gate::Open { at_once } => {
                let slots = Slots {
                    max_in_flight: max as usize,
                    at_once: at_once as usize,
                    under_way: self.under_way.len(),
                    retries_under_way: self.under_way.iter().filter(|under_way| under_way.retry).count(),
                    first_in_a_row: self.first_in_a_row,
                };
                let share = slots.share(first.len(), retries.len());
                self.first_in_a_row = if share.1 > 0 { 0 } else { self.first_in_a_row + share.0 };
                first.truncate(share.0);
                retries.truncate(share.1);
                first.into_iter().chain(retries).for_each(|message| self.start(message, false));
            }
        }
        let probes = self.under_way.iter().filter(|under_way| under_way.probe).count();
        assert!(self.under_way.len() <= max as usize && probes <= 1);
    }

    fn start(&mut self, message: usize, probe: bool) {
        let lane = self.outbox[message].lane;
        let twice = self.under_way.iter().any(|under_way| self.outbox[under_way.message].lane == lane);
        assert!(!twice, "two of lane {lane} are under way");
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
        let waits = self.outbox.iter().filter_map(|delivery| delivery.due);
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
