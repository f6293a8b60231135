//! The simulated poller: the loop of `workers::poller` with the same decisions, over the database in memory.

use jiff::Timestamp;
use trackpost::domain::clock::set_back_by;
use trackpost::domain::polling::account_status::AccountChange;
use trackpost::domain::polling::label_record::LabelRecord;
use trackpost::domain::polling::learning::LearnedRates;
use trackpost::domain::polling::poll::{self, PollContext, UnchangedPlan};
use trackpost::domain::polling::rate_limiter::{Demand, RequestKind};
use trackpost::domain::time::later;
use trackpost::domain::tracking::reading::Reading;
use trackpost::store::accounts::AccountRecord;
use trackpost::store::polls::PollRecord;
use trackpost::workers::heartbeat::IDLE_INTERVAL;
use trackpost::workers::poller::DEMAND_INTERVAL;

use super::daemon::{Daemon, Job, Poll};
use super::script::Moment;
use super::world::{Arrival, Crash, World};

impl Daemon {
    pub fn poller_step(&mut self, world: &mut World) -> Result<(), Crash> {
        let now = world.wall();
        if self.version != world.db.registry {
            self.take_changes(world)?;
        }
        if let Some(by) = set_back_by(self.stepped_at.replace(now), now) {
            self.schedule.set_back(by, now);
            self.batch.set_back(now);
            world.commit_now(|db| db.pull_in_labels(now))?;
            world.checks.pulled_in(world.now);
        }
        if std::mem::take(&mut self.came_back) {
            self.schedule.make_failing_due(now);
        }
        if self.compared_at.is_none_or(|at| now.duration_since(at).abs() >= DEMAND_INTERVAL) {
            self.compared_at = Some(now);
            self.limiter.set_demand(Demand::of(&self.schedule, now), now);
        }
        self.write_batch(world);
        let next = self.start_polls(world)?;
        self.next_due = self.schedule.next_due();
        let next = next.unwrap_or_else(|| later(now, IDLE_INTERVAL));
        self.wake = world.real(next).max(world.now);
        Ok(())
    }

    pub fn take_changes(&mut self, world: &mut World) -> Result<(), Crash> {
        let (now, known) = (world.wall(), self.version);
        let changed = |label: &&LabelRecord| label.version > known;
        let labels: Vec<_> = world.db.labels.values().filter(changed).cloned().collect();
        if labels.iter().any(|label| label.poll_state.is_due_too_late(now)) {
            world.commit_now(|db| db.pull_in_labels(now))?;
        }
        labels.iter().for_each(|label| self.put(world, label, now));
        self.version = world.db.registry;
        Ok(())
    }

    fn write_batch(&mut self, world: &mut World) {
        if self.batch.due_at().is_some_and(|at| at <= world.wall()) && !self.is_flushing() {
            self.flush(world);
        }
    }

    pub fn flush(&mut self, world: &mut World) {
        let unchanged = self.batch.take().map(|(unchanged, _)| unchanged).unwrap_or_default();
        let clock = self.clock(world);
        self.limiter.set_skew(self.skew, clock.mark.wall);
        let (ended, adaptive_limit) = (self.limiter.take_ended(), self.limiter.take_changed_limit());
        self.write(world, Job::Flush { unchanged, ended, adaptive_limit, clock });
    }

    fn start_polls(&mut self, world: &mut World) -> Result<Option<Timestamp>, Crash> {
        let now = world.wall();
        self.limiter.set_skew(self.skew, now);
        if let Some(open_at) = self.limiter.state.open_at(now) {
            return Ok(Some(open_at));
        }
        let probing = self.limiter.state.probing();
        let limit = if probing { 1 } else { world.account.max_in_flight as usize };
        while self.polls.len() < limit {
            let next = if probing {
                self.schedule.pop_probe(self.limiter.state.status_changed_by, now)
            } else {
                self.schedule.pop(now)
            };
            let Some(index) = next else {
                if self.polls.is_empty() {
                    self.limiter.catching_up = false;
                }
                return Ok(self.schedule.next_due());
            };
            let allowed = match self.acquire(world, RequestKind::Poll)? {
                Ok(allowed) => allowed,
                Err(free_at) => {
                    self.schedule.end(index);
                    return Ok(free_at);
                }
            };
            let entry = *self.schedule.entry(index);
            world.count_passed_over(entry.row);
            let id = world.next_id();
            let unwritten = self.batch.withdraw(entry.row);
            let label = self.number(world, index);
            let last = entry.plain_digest();
            self.polls.insert(id, Poll { index, entry, unwritten, allowed, reply: None });
            world.send(id, Arrival::Poll { label, last });
            world.reached(Moment::PollSent)?;
        }
        Ok(None)
    }

    /// Applies an answer.
    pub fn answered(&mut self, world: &mut World, id: u64) -> Result<(), Crash> {
        let now = world.wall();
        let poll = self.polls.get_mut(&id).expect("it is in flight");
        let Some((reading, _)) = poll.reply.take() else { return Ok(()) };
        let (entry, allowed) = (poll.entry, poll.allowed);
        self.limiter.set_skew(self.skew, now);
        self.limiter.end_request(allowed.sent_at, now);
        let seen = self.limiter.observe(Some(entry.row), &reading.signal(), allowed, now);
        self.came_back |= seen.change == Some(AccountChange::CameBack);
        self.wake = world.now;
        if matches!(reading, Reading::SameBytes)
            && !seen.changed
            && let jitter = world.jitter()
            && let Some(next) = poll::plan_unchanged(&world.policy.cadence, None, &entry, now, jitter)
        {
            self.end_unchanged(world, id, next);
            return Ok(());
        }
        world.reached(Moment::AnswerRead)?;
        let (state, subscribers) = (self.limiter.state.clone(), &world.policy.subscribers);
        let account = || AccountRecord::new(&world.account.name, state, seen.change, subscribers, now);
        let account = seen.changed.then(account);
        let poll = &self.polls[&id];
        let label = world.db.labels.get(&entry.row).filter(|label| label.version == i64::from(entry.version));
        let Some(mut label) = label.cloned() else {
            account.into_iter().for_each(|account| self.write(world, Job::Account(Box::new(account))));
            self.superseded(world, id);
            return Ok(());
        };
        if let Some(unwritten) = &poll.unwritten {
            unwritten.apply(&mut label.poll_state);
        }
        let known = world.db.events.get(&entry.row).cloned().unwrap_or_default();
        let url = world.account.tracking_url(&label.key.id);
        let jitter = world.jitter();
        let context = PollContext {
            cadence: &world.policy.cadence,
            rates: &LearnedRates::default(),
            first_poll: world.policy.first_poll,
            alerts: &world.policy.alerts,
            subscribers: &world.policy.subscribers,
            resource_url: &url,
            account_not_ok: self.limiter.state.probing(),
            sent_at: allowed.sent_at,
            gaps: &self.gaps,
        };
        let plan = poll::plan(&context, &label, &known, &reading, now, jitter);
        let held = poll::throttled_carrier(&reading, &label, now);
        let record = Box::new(PollRecord::new(&label, known.len(), plan, now, account));
        label.poll_state = record.plan.poll_state.clone();
        if let Some((carrier, until)) = held {
            world.commit_now(|db| {
                let at = db.held.entry(carrier.clone()).or_insert(until);
                *at = until.max(*at);
            })?;
            self.schedule.hold(&carrier, until);
        }
        self.write(world, Job::Poll { record, label: Box::new(label), id });
        Ok(())
    }

    fn end_unchanged(&mut self, world: &mut World, id: u64, next: UnchangedPlan) {
        let now = world.wall();
        let Poll { index, entry, .. } = self.polls.remove(&id).expect("it is in flight");
        self.batch.touch(now);
        if self.schedule.entry(index).version != entry.version {
            self.schedule.end(index);
            return;
        }
        self.schedule.end_unchanged(index, next.next_poll_at, next.wait_ms, next.pace, now);
        world.checks.polled(entry.row, world.now, Some(next.wait_ms.into()));
        self.batch.add_unchanged(&entry, next, now);
    }

    pub fn superseded(&mut self, world: &World, id: u64) {
        let poll = self.polls.remove(&id).expect("it is in flight");
        self.batch.touch(world.wall());
        self.schedule.end(poll.index);
        self.wake = world.now;
    }
}
