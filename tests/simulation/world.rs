//! The loop: real time, the wall clock, everything in flight, and the effects of the script.

use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use trackpost::domain::account::Account;
use trackpost::domain::clock::Mark;
use trackpost::domain::delivery::outbox::PendingDelivery;
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::domain::polling::discovery::ListRequest;
use trackpost::domain::time::earlier;
use trackpost::workers::poller::PollPolicy;

use super::checks::Checks;
use super::daemon::{Daemon, Job};
use super::database::Database;
use super::outside::{Api, Receivers, after};
use super::script::{Moment, Script};
use super::settings::{NAMES, configured};

/// The daemon dies, and starts again after some seconds. Meanwhile the wall clock may jump.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    pub down: u32,
    pub jump: i32,
}

/// A request on its way.
pub enum Arrival {
    Poll { label: usize, last: Option<u64> },
    List(ListRequest),
    Callback { subscriber: String, delivery: Box<PendingDelivery> },
}

pub struct World {
    pub(super) began: Timestamp,
    /// Real time.
    pub now: Timestamp,
    /// Wall time minus real time.
    pub skew: SignedDuration,
    pub account: Account,
    pub policy: PollPolicy,
    /// Deliveries that a courier holds in memory.
    pub memory: usize,
    pub api: Api,
    pub receivers: Receivers,
    pub db: Database,
    pub checks: Checks,
    rng: Rng,
    ids: u64,
    on_the_way: Vec<(Timestamp, u64, Arrival)>,
    pub(super) daemon: Option<Daemon>,
    pub(super) start_at: Option<Timestamp>,
    pub(super) crash_at: Option<(Moment, u32)>,
    pub(super) store_fails: Option<u32>,
    pub(super) slow_store: (SignedDuration, Timestamp),
    pub(super) moves: u32,
    /// Log of the run, if it is wanted.
    pub story: Option<Vec<String>>,
}

/// Longest time that a run may need to finish: `Retry-After` of the account, then of a subscriber, then its backlog.
const FINISHES_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 5);

impl World {
    pub fn new(script: &Script) -> Self {
        let (mut account, mut policy) = configured();
        account.requests_per_minute = script.requests_per_minute;
        for subscriber in &mut policy.subscribers {
            subscriber.max_in_flight = script.max_in_flight;
        }
        account.requests_per_month = script.requests_per_month;
        account.discover.enabled = !script.listed.is_empty();
        let month: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let now = month + SignedDuration::from_hours(script.begins_in.into());
        let mut db = Database::default();
        let api = Api::new(&script.parcels, &script.listed, script.noise, now);
        for (row, id) in (1..).zip(api.ids.iter().take(script.parcels.len())) {
            db.insert_label(row, &account.name, id, now);
        }
        Self {
            began: now,
            now,
            skew: SignedDuration::ZERO,
            account,
            policy,
            memory: script.memory,
            api,
            receivers: Receivers::default(),
            db,
            checks: Checks::new(now),
            rng: Rng::with_seed(script.noise),
            ids: 0,
            on_the_way: Vec::new(),
            daemon: None,
            start_at: Some(now),
            crash_at: None,
            store_fails: None,
            slow_store: (SignedDuration::ZERO, now),
            moves: 0,
            story: None,
        }
    }

    /// Runs a script to its end. Returns the virtual time that passed, or the first violation.
    pub fn run(&mut self, script: &Script) -> Result<SignedDuration, String> {
        let mut due = self.began;
        for (wait, action) in &script.steps {
            due = after(due, *wait);
            self.run_until(due)?;
            self.now = due;
            self.log(|| format!("{action:?}"));
            self.act(action);
        }
        self.run_until(due)?;
        self.heal();
        // With a budget, the rest of this month may have no request left, and the next one few.
        let months =
            SignedDuration::from_hours(if self.account.requests_per_month > 0 { 24 * 62 } else { 0 });
        let end = self.now + FINISHES_WITHIN + months;
        while !self.is_finished() {
            if self.now > end {
                return Err(format!("not finished by {end}: {}", self.unfinished()));
            }
            self.run_until((self.now + SignedDuration::from_mins(10)).min(self.next()))?;
            self.now = self.now.max(self.next().min(self.now + SignedDuration::from_mins(10)));
        }
        self.final_audit()?;
        Ok(self.now.duration_since(self.began))
    }

    /// Real time of the next event.
    fn next(&self) -> Timestamp {
        let arrivals = self.on_the_way.iter().map(|(at, ..)| *at);
        let daemon = self.daemon.as_ref().map(|daemon| daemon.next(self));
        arrivals.chain(daemon).chain(self.start_at).min().unwrap_or(Timestamp::MAX)
    }

    fn run_until(&mut self, end: Timestamp) -> Result<(), String> {
        let mut at_once = 0;
        loop {
            let next = self.next().max(self.now);
            if next > end {
                return Ok(());
            }
            at_once = if next == self.now { at_once + 1 } else { 0 };
            if at_once > 5_000 {
                return Err(format!("spins at {}", self.now));
            }
            self.checks.pass(next);
            self.now = next;
            if let Err(crash) = self.step() {
                self.log(|| format!("{crash:?}"));
                self.die(crash);
            }
            self.check()?;
        }
    }

    fn step(&mut self) -> Result<(), Crash> {
        if self.start_at.is_some_and(|at| at <= self.now) {
            self.start_at = None;
            self.daemon = Some(Daemon::start(self)?);
        }
        while let Some(index) = self.on_the_way.iter().position(|(at, ..)| *at <= self.now) {
            let (_, id, arrival) = self.on_the_way.remove(index);
            self.arrive(id, arrival);
        }
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        let done = self.work(&mut daemon);
        self.daemon = Some(daemon);
        done
    }

    fn work(&mut self, daemon: &mut Daemon) -> Result<(), Crash> {
        daemon.read_clock(self);
        let now = self.now;
        let ended = |at: Timestamp| at <= now;
        let polls =
            daemon.polls.iter().filter(|(_, poll)| poll.reply.as_ref().is_some_and(|(_, at)| ended(*at)));
        for id in polls.map(|(id, _)| *id).collect::<Vec<_>>() {
            daemon.answered(self, id)?;
        }
        let attempts = daemon.attempts.iter();
        let attempts =
            attempts.filter(|(_, attempt)| attempt.reply.as_ref().is_some_and(|(_, at)| ended(*at)));
        for id in attempts.map(|(id, _)| *id).collect::<Vec<_>>() {
            daemon.attempt_ended(self, id)?;
        }
        if daemon.commit_at.is_some_and(ended) {
            self.commit(daemon)?;
        }
        daemon.discoverer_step(self)?;
        let batch = daemon.batch.due_at().map(|at| self.real(at));
        if ended(daemon.wake) || batch.is_some_and(ended) {
            daemon.poller_step(self)?;
        }
        let due = daemon.couriers.values().filter(|courier| ended(courier.wake));
        for name in due.map(|courier| courier.subscriber.name.clone()).collect::<Vec<_>>() {
            daemon.courier_step(self, &name)?;
        }
        Ok(())
    }

    fn arrive(&mut self, id: u64, arrival: Arrival) {
        let late = |takes: Duration| SignedDuration::try_from(takes).unwrap();
        match arrival {
            Arrival::Poll { label, last } => {
                let reply = self.api.answer(label, last, self.now, &mut self.rng);
                let ends = self.now + late(reply.takes);
                self.log(|| format!("poll of {label}: {}", reply.reading.as_str()));
                let poll = self.daemon.as_mut().and_then(|daemon| daemon.polls.get_mut(&id));
                poll.into_iter().for_each(|poll| poll.reply = Some((reply.reading.clone(), ends)));
            }
            Arrival::List(request) => {
                let reply = self.api.list(request, self.now, &mut self.rng);
                let ends = self.now + late(reply.takes);
                self.log(|| format!("list from {}: {:?}", request.created_from, reply.reading));
                let discoverer = self.daemon.as_mut().and_then(|daemon| daemon.discoverer.as_mut());
                let listing = discoverer.and_then(|discoverer| discoverer.listing.as_mut());
                let listing = listing.filter(|listing| listing.id == id);
                listing.into_iter().for_each(|listing| listing.reply = Some((reply.reading.clone(), ends)));
            }
            Arrival::Callback { subscriber, delivery } => {
                let reply = self.receivers.receive(&subscriber, &delivery, self.now, &mut self.rng);
                let ends = self.now + late(reply.takes);
                self.log(|| {
                    let message = &delivery.message;
                    let (id, kind) = (&message.message_id, &message.kind);
                    let (seq, attempt) = (message.seq, delivery.attempts + 1);
                    format!(
                        "{id} ({kind}, seq {seq:?}) to {subscriber}, attempt {attempt}: {:?}",
                        reply.outcome
                    )
                });
                let attempt = self.daemon.as_mut().and_then(|daemon| daemon.attempts.get_mut(&id));
                if let Some(attempt) = attempt {
                    attempt.reply = Some((reply, ends));
                }
            }
        }
    }

    /// Commits everything that waits, in one transaction.
    pub(super) fn commit(&mut self, daemon: &mut Daemon) -> Result<(), Crash> {
        daemon.commit_at = None;
        let jobs = std::mem::take(&mut daemon.jobs);
        if let Some(down) = self.store_fails.take() {
            return Err(Crash { down, jump: 0 });
        }
        self.reached(Moment::BeforeCommit)?;
        let (mut new, mut results, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job {
                Job::Flush { unchanged, ended, adaptive_limit, clock } => {
                    self.db.write_unchanged(unchanged);
                    self.db.count(&ended, adaptive_limit, clock);
                }
                Job::Poll { record, label, id } => {
                    let kinds: Vec<String> =
                        record.plan.messages.iter().map(|message| message.kind.as_str().to_owned()).collect();
                    let (done, deliveries) = self.db.record_poll(*record);
                    new.extend(deliveries);
                    if done {
                        let kinds = kinds.iter().map(String::as_str);
                        self.checks.messages(&label.key.id, kinds, self.now);
                        let wait = label.poll_state.wait.unwrap_or_default();
                        self.checks.polled(label.row, self.now, i64::try_from(wait.as_millis()).ok());
                    }
                    recorded.push((done, label, id));
                }
                Job::Attempt { recording, id } => {
                    let (result, deliveries) = self.db.record_attempt(&recording, &self.policy.subscribers);
                    new.extend(deliveries);
                    self.checks.attempt_recorded(&recording, &result, self.now);
                    results.push((id, result));
                }
                Job::Account(record) => new.extend(self.db.write_account(&record)),
            }
        }
        self.reached(Moment::AfterCommit)?;
        for (name, delivery) in new {
            if let Some(courier) = daemon.couriers.get_mut(&name) {
                courier.inbox.push(delivery);
                courier.wake = self.now;
            }
        }
        for (done, label, id) in recorded {
            if !done {
                daemon.superseded(self, id);
                continue;
            }
            let poll = daemon.polls.remove(&id).expect("it was in flight");
            daemon.batch.touch(self.wall());
            self.log(|| {
                let state = &label.poll_state;
                format!("recorded {}: next {:?}, {:?}", label.key.id, state.next_poll_at, state.reason)
            });
            daemon.schedule.end(poll.index);
            daemon.put(self, &label, self.wall());
            daemon.wake = self.now;
        }
        for (id, result) in results {
            daemon.attempt_recorded(self, id, result);
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        let idle = self.daemon.as_ref().is_some_and(|daemon| {
            let listing = daemon.discoverer.as_ref().is_some_and(|discoverer| discoverer.listing.is_some());
            daemon.polls.is_empty() && daemon.attempts.is_empty() && daemon.jobs.is_empty() && !listing
        });
        idle && self.on_the_way.is_empty()
            && self.is_all_discovered()
            && NAMES.iter().all(|name| self.db.pending(&SubscriberName::new(name)) == 0)
            && self.db.labels.keys().all(|row| self.is_polled_since_calm(*row))
    }

    /// Adds a line to the story.
    pub fn log(&mut self, line: impl FnOnce() -> String) {
        let (now, wall) = (self.now, self.wall());
        if let Some(story) = &mut self.story {
            story.push(format!("{now:.3} wall {wall:.3}: {}", line()));
        }
    }

    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    pub fn wall(&self) -> Timestamp {
        self.now + self.skew
    }

    /// Both clocks, of a machine that is never started again.
    pub fn mark(&self) -> Mark {
        let uptime = self.now.duration_since(self.began).try_into().expect("time does not run back");
        Mark { wall: self.wall(), uptime, machine: Some([1; 32]) }
    }

    pub fn real(&self, wall: Timestamp) -> Timestamp {
        earlier(wall, self.skew)
    }

    pub fn jitter(&mut self) -> f64 {
        self.rng.f64().mul_add(2.0, -1.0)
    }

    pub fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub fn send(&mut self, id: u64, arrival: Arrival) {
        if !matches!(arrival, Arrival::Callback { .. }) {
            let now = self.wall();
            self.checks.limits.requested(self.now, now);
        }
        let at = self.now + SignedDuration::from_millis(self.rng.i64(1..300));
        self.on_the_way.push((at, id, arrival));
    }

    pub fn commit_takes(&mut self) -> SignedDuration {
        let slow = if self.slow_store.1 > self.now { self.slow_store.0 } else { SignedDuration::ZERO };
        slow + SignedDuration::from_millis(self.rng.i64(1..80))
    }

    /// Whether the daemon dies at this moment.
    pub fn reached(&mut self, moment: Moment) -> Result<(), Crash> {
        match self.crash_at {
            Some((at, down)) if at == moment => {
                self.crash_at = None;
                Err(Crash { down, jump: 0 })
            }
            _ => Ok(()),
        }
    }

    /// A transaction whose caller waits for it.
    pub fn commit_now(&mut self, write: impl FnOnce(&mut Database)) -> Result<(), Crash> {
        if let Some(down) = self.store_fails.take() {
            return Err(Crash { down, jump: 0 });
        }
        self.reached(Moment::BeforeCommit)?;
        write(&mut self.db);
        self.reached(Moment::AfterCommit)
    }
}
