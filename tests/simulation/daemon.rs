//! Memory of the simulated daemon, and its start and end.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::clock::{ClockRecord, Clocks, Gaps};
use trackpost::domain::delivery::health::Health;
use trackpost::domain::delivery::outbox::{AttemptKind, MemoryLimit, Outbox, PendingDelivery};
use trackpost::domain::label::LabelId;
use trackpost::domain::messages::subscriber::{Subscriber, SubscriberName};
use trackpost::domain::polling::account_status::AccountState;
use trackpost::domain::polling::adaptive_limit::AdaptiveLimit;
use trackpost::domain::polling::budget::{Budget, Month};
use trackpost::domain::polling::label_record::LabelRecord;
use trackpost::domain::polling::quota::{Quota, ended_by};
use trackpost::domain::polling::rate_limiter::{
    AllowedRequest, Denied, EndedRequests, RateLimiter, RequestKind,
};
use trackpost::domain::polling::schedule::{Entry, EntryIndex, Schedule};
use trackpost::domain::retry_after::LONGEST_RETRY_AFTER;
use trackpost::domain::time::{later, signed};
use trackpost::domain::tracking::reading::Reading;
use trackpost::store::accounts::AccountRecord;
use trackpost::store::polls::{PollRecord, UnchangedPoll};
use trackpost::store::usage::KEPT_SECONDS;
use trackpost::workers::poller::batch::UnwrittenPolls;

use super::database::RecordingAttempt;
use super::discovering::Discoverer;
use super::script::Moment;
use super::world::{Crash, World};

/// A poll in flight.
pub struct Poll {
    pub index: EntryIndex,
    pub entry: Entry,
    pub unwritten: Option<UnchangedPoll>,
    pub allowed: AllowedRequest,
    /// The answer and the real time at which it arrives; `None` until the API has the request.
    pub reply: Option<(Reading, Timestamp)>,
}

/// A callback in flight.
pub struct InFlight {
    pub subscriber: Arc<Subscriber>,
    pub delivery: PendingDelivery,
    pub kind: AttemptKind,
    pub probe: bool,
    pub started_at: Timestamp,
    pub reply: Option<(super::outside::HookReply, Timestamp)>,
    /// Waits for its record.
    pub ended: bool,
}

/// A write that waits for the next commit.
pub enum Job {
    Poll {
        record: Box<PollRecord>,
        label: Box<LabelRecord>,
        id: u64,
    },
    Flush {
        unchanged: Vec<UnchangedPoll>,
        ended: Vec<EndedRequests>,
        adaptive_limit: Option<AdaptiveLimit>,
        clock: ClockRecord,
    },
    Attempt {
        recording: Box<RecordingAttempt>,
        id: u64,
    },
    Account(Box<AccountRecord>),
}

pub struct Courier {
    pub subscriber: Arc<Subscriber>,
    pub outbox: Outbox,
    pub inbox: Vec<PendingDelivery>,
    pub stale: bool,
    pub health: Option<Health>,
    pub first_in_a_row: usize,
    pub stepped_at: Option<Timestamp>,
    /// The configuration has changed: it ends with its attempts in flight.
    pub leaves: bool,
    /// Real time of the next step.
    pub wake: Timestamp,
}

impl Courier {
    pub fn new(subscriber: Arc<Subscriber>, memory: usize, real: Timestamp) -> Self {
        let limit = MemoryLimit { deliveries: memory, bytes: usize::MAX };
        Self {
            subscriber,
            outbox: Outbox::new(limit),
            inbox: Vec::new(),
            stale: true,
            health: None,
            first_in_a_row: 0,
            stepped_at: None,
            leaves: false,
            wake: real,
        }
    }
}

pub struct Daemon {
    clocks: Clocks,
    /// Skew of the wall clock since the start.
    pub skew: SignedDuration,
    pub gaps: Arc<Gaps>,
    pub limiter: RateLimiter,
    pub schedule: Schedule,
    pub batch: UnwrittenPolls,
    pub polls: BTreeMap<u64, Poll>,
    pub came_back: bool,
    pub compared_at: Option<Timestamp>,
    pub stepped_at: Option<Timestamp>,
    /// Registry version that the schedule has.
    pub version: i64,
    pub attempts: BTreeMap<u64, InFlight>,
    pub couriers: BTreeMap<SubscriberName, Courier>,
    pub discoverer: Option<Discoverer>,
    /// Time at which the next label is due, as the poller said last.
    pub next_due: Option<Timestamp>,
    pub jobs: Vec<Job>,
    /// Real time of the next commit.
    pub commit_at: Option<Timestamp>,
    /// Real time of the poller's next step.
    pub wake: Timestamp,
}

impl Daemon {
    /// Opens the database, as `AccountAccess::open` and the poller do.
    pub fn start(world: &mut World) -> Result<Self, Crash> {
        let now = world.wall();
        let mark = world.mark();
        let mut clock = world.db.clock.clone().unwrap_or_else(|| ClockRecord { mark, gaps: Arc::default() });
        let jump = clock.mark.jump_between_runs(mark);
        clock.continue_at(mark, jump);
        let gaps = Arc::clone(&clock.gaps);
        world.commit_now(|db| db.begin_run(clock, jump))?;
        let last_request_at =
            world.db.requests.last_key_value().map(|(second, _)| Timestamp::from_second(*second).unwrap());
        let mut state = world.db.account.clone().unwrap_or_else(|| AccountState::new(now));
        world.checks.started(&world.db.labels);
        if world.db.reserved > 0 {
            world.checks.limits.counted_reserved(world.now);
        }
        world.commit_now(|db| {
            let reserved = std::mem::take(&mut db.reserved);
            if reserved > 0 {
                db.add_requests(now, Month::of(now), reserved);
            }
        })?;
        let lately = world.db.requests.range(now.as_second() - KEPT_SECONDS + 1..);
        let lately: Vec<(Timestamp, usize)> =
            lately.map(|(second, requests)| (ended_by(*second, now), *requests)).collect();
        let adaptive_limit = world.db.adaptive_limit;
        state.continue_at(last_request_at, adaptive_limit.throttled_at, now);
        let per_minute = world.account.requests_per_minute;
        let month = Month::of(now).start;
        let this_month = world.db.months.get(&month).copied().unwrap_or(0);
        let quota = Quota::new(per_minute).with_used(lately.clone());
        let months = world.db.months.iter().map(|(start, requests)| (*start, *requests));
        let budget = Budget::new(world.account.requests_per_month, this_month, now)
            .with_lately(lately)
            .with_months(months);
        let limiter = RateLimiter::new(quota, budget, adaptive_limit, state, per_minute, 0.0);
        let mut daemon = Self {
            clocks: Clocks::new(now, mark.uptime),
            skew: SignedDuration::ZERO,
            gaps,
            limiter,
            schedule: Schedule::default(),
            batch: UnwrittenPolls::default(),
            polls: BTreeMap::new(),
            came_back: false,
            compared_at: None,
            stepped_at: None,
            version: world.db.registry,
            attempts: BTreeMap::new(),
            couriers: BTreeMap::new(),
            discoverer: Discoverer::new(world),
            next_due: None,
            jobs: Vec::new(),
            commit_at: None,
            wake: world.now,
        };
        for (carrier, until) in world.db.held.iter().filter(|(_, until)| **until > now) {
            daemon.schedule.hold(carrier, (*until).min(later(now, signed(LONGEST_RETRY_AFTER))));
        }
        world.commit_now(|db| db.pull_in_labels(now))?;
        world.checks.pulled_in(world.now);
        for label in world.db.labels.values() {
            daemon.put(world, label, now);
        }
        daemon.follow_subscribers(world);
        Ok(daemon)
    }

    /// Compares the clocks, as `clock::now` does.
    pub fn read_clock(&mut self, world: &World) {
        if let Some(jump) = self.clocks.read(world.wall(), world.mark().uptime) {
            self.skew += jump.by();
            Arc::make_mut(&mut self.gaps).add_jump(jump);
        }
    }

    /// Reads the clock and returns the record for the next run.
    pub fn clock(&mut self, world: &World) -> ClockRecord {
        self.read_clock(world);
        ClockRecord { mark: world.mark(), gaps: Arc::clone(&self.gaps) }
    }

    pub fn put(&mut self, world: &World, label: &LabelRecord, now: Timestamp) {
        let alert_at = world.policy.alerts.due_at(&label.poll_state, label);
        self.schedule.put(label, alert_at, now);
    }

    /// Returns a permit, or when to try again.
    pub fn acquire(
        &mut self,
        world: &mut World,
        kind: RequestKind,
    ) -> Result<Result<AllowedRequest, Option<Timestamp>>, Crash> {
        let now = world.wall();
        loop {
            self.limiter.set_skew(self.skew, now);
            self.limiter.limit_recovered(now);
            match self.limiter.acquire(kind, now) {
                Ok(allowed) => return Ok(Ok(allowed)),
                Err(Denied { reserve: Some(requests), .. }) => {
                    world.reached(Moment::Reserving)?;
                    world.commit_now(|db| db.reserved += requests)?;
                    self.limiter.add_reserved(requests);
                }
                Err(Denied { free_at, .. }) => return Ok(Err(free_at)),
            }
        }
    }

    /// Starts a courier for each subscriber; couriers of others end.
    pub fn follow_subscribers(&mut self, world: &World) {
        for courier in self.couriers.values_mut() {
            courier.leaves |= !world
                .policy
                .subscribers
                .iter()
                .any(|subscriber| *subscriber == *courier.subscriber && subscriber.enabled);
            courier.wake = world.now;
        }
        let busy =
            |name: &SubscriberName| self.attempts.values().any(|attempt| attempt.subscriber.name == *name);
        let ended: Vec<SubscriberName> = self
            .couriers
            .values()
            .filter(|courier| courier.leaves)
            .map(|courier| courier.subscriber.name.clone())
            .filter(|name| !busy(name))
            .collect();
        ended.iter().for_each(|name| drop(self.couriers.remove(name)));
        for subscriber in world.policy.subscribers.iter().filter(|subscriber| subscriber.enabled) {
            let new = || Courier::new(Arc::new(subscriber.clone()), world.memory, world.now);
            self.couriers.entry(subscriber.name.clone()).or_insert_with(new);
        }
    }

    /// Queues a write. All that have arrived are committed together.
    pub fn write(&mut self, world: &mut World, job: Job) {
        self.jobs.push(job);
        let takes = world.commit_takes();
        self.commit_at.get_or_insert(world.now + takes);
    }

    pub fn is_flushing(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job, Job::Flush { .. }))
    }

    /// Real time of the next event.
    pub fn next(&self, world: &World) -> Timestamp {
        let ends = self.polls.values().filter_map(|poll| poll.reply.as_ref().map(|(_, at)| *at));
        let attempts = self.attempts.values().filter(|attempt| !attempt.ended);
        let attempts = attempts.filter_map(|attempt| attempt.reply.as_ref().map(|(_, at)| *at));
        let couriers = self.couriers.values().map(|courier| courier.wake);
        let batch = self.batch.due_at().filter(|_| !self.is_flushing()).map(|at| world.real(at));
        let discoverer = self.discoverer.as_ref().map(Discoverer::next);
        let rest = [Some(self.wake), self.commit_at, batch, discoverer].into_iter().flatten();
        ends.chain(attempts).chain(couriers).chain(rest).min().unwrap_or(Timestamp::MAX)
    }

    /// The number of the label at an index.
    pub fn number(&self, world: &World, index: EntryIndex) -> usize {
        let id: LabelId = self.schedule.id(index);
        world.api.ids.iter().position(|known| *known == id).expect("only known labels are registered")
    }
}
