//! The committed state of the database, with the effects of the store's transactions.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::clock::{ClockRecord, seconds_of};
use trackpost::domain::delivery::health::{AttemptFacts, Health, HealthChange};
use trackpost::domain::delivery::outbox::{
    AttemptKind, LoadedDeliveries, MessageContent, NotLoaded, PendingDelivery,
};
use trackpost::domain::delivery::outcome::{AfterAttempt, Attempt, DeliverySchedule};
use trackpost::domain::label::{LabelId, LabelState};
use trackpost::domain::messages::fan_out::{self, PlannedDelivery};
use trackpost::domain::messages::subscriber::{Subscriber, SubscriberName};
use trackpost::domain::messages::{Message, SystemSubject, repeated_id};
use trackpost::domain::polling::account_status::{AccountChange, AccountState, due_after_outage};
use trackpost::domain::polling::adaptive_limit::AdaptiveLimit;
use trackpost::domain::polling::budget::Month;
use trackpost::domain::polling::discovery::DiscoveryProgress;
use trackpost::domain::polling::label_record::LabelRecord;
use trackpost::domain::polling::rate_limiter::EndedRequests;
use trackpost::domain::registration::RegistrationRecord;
use trackpost::domain::time::later;
use trackpost::domain::tracking::matching::KnownEvent;
use trackpost::store::accounts::AccountRecord;
use trackpost::store::outbox::PER_LANE;
use trackpost::store::polls::{PollRecord, UnchangedPoll};

/// A new delivery and its subscriber.
pub type New = (SubscriberName, PendingDelivery);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Delivered,
    Dead,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub subscriber: SubscriberName,
    pub state: State,
    pub pending: PendingDelivery,
}

#[derive(Debug, Default)]
pub struct Database {
    pub labels: BTreeMap<i64, LabelRecord>,
    /// Registrations as last written; the rest of a label's row changes with its polls.
    pub(super) registrations: BTreeMap<i64, RegistrationRecord>,
    /// Number of times that discovery began to poll a label, by row.
    pub discovered: BTreeMap<i64, usize>,
    pub discovery: DiscoveryProgress,
    pub events: BTreeMap<i64, Vec<KnownEvent>>,
    pub message_ids: HashSet<String>,
    pub deliveries: BTreeMap<i64, Delivery>,
    pub healths: BTreeMap<SubscriberName, Health>,
    pub account: Option<AccountState>,
    pub reserved: u32,
    pub requests: BTreeMap<i64, usize>,
    /// Requests of each month, by its start.
    pub months: BTreeMap<Timestamp, u64>,
    pub adaptive_limit: AdaptiveLimit,
    pub held: BTreeMap<String, Timestamp>,
    pub registry: i64,
    pub clock: Option<ClockRecord>,
    subjects: Vec<SystemSubject>,
    messages: i64,
    /// A violation found while writing.
    pub wrong: Option<String>,
}

/// An attempt to record.
#[derive(Debug)]
pub struct RecordingAttempt {
    pub subscriber: Arc<Subscriber>,
    pub key: i64,
    pub attempt: Attempt,
    pub probe: bool,
    pub jitter: f64,
    pub at: Timestamp,
}

/// A recorded attempt.
#[derive(Debug)]
pub struct AttemptResult {
    pub next: AfterAttempt,
    pub change: Option<HealthChange>,
    pub pending: Option<(u32, DeliverySchedule)>,
    pub health: Health,
}

impl Database {
    /// Begins a run after a `jump` of the clock: everything that must last for its real time is moved with it.
    pub fn begin_run(&mut self, now: ClockRecord, jump: SignedDuration) {
        self.clock = Some(now);
        self.move_requests(jump);
        let until = self.account.iter_mut().filter_map(|account| account.throttled_until.as_mut());
        let waits = until.chain(&mut self.adaptive_limit.throttled_at).chain(self.held.values_mut());
        waits.for_each(|at| *at = later(*at, jump));
    }

    fn move_requests(&mut self, jump: SignedDuration) {
        if jump.is_zero() {
            return;
        }
        let requests = std::mem::take(&mut self.requests).into_iter();
        self.requests = requests.map(|(second, count)| (second + seconds_of(jump), count)).collect();
    }

    pub fn count(
        &mut self,
        ended: &[EndedRequests],
        adaptive_limit: Option<AdaptiveLimit>,
        clock: ClockRecord,
    ) {
        let last = self.clock.replace(clock.clone());
        self.move_requests(last.map(|last| last.mark.jump_until(clock.mark)).unwrap_or_default());
        for ended in ended {
            self.add_requests(ended.at, ended.month, ended.requests);
            self.reserved = self.reserved.saturating_sub(ended.requests);
        }
        self.adaptive_limit = adaptive_limit.unwrap_or(self.adaptive_limit);
    }

    pub fn add_requests(&mut self, at: Timestamp, month: Month, requests: u32) {
        *self.requests.entry(at.as_second()).or_default() += requests as usize;
        *self.months.entry(month.start).or_default() += u64::from(requests);
    }

    pub fn write_unchanged(&mut self, polls: impl IntoIterator<Item = UnchangedPoll>) {
        for poll in polls {
            if let Some(label) = self.labels.get_mut(&poll.row).filter(|label| label.version == poll.version)
            {
                poll.apply(&mut label.poll_state);
            }
        }
    }

    /// Writes a poll; `None` if the registry changed the label meanwhile.
    pub fn record_poll(&mut self, mut record: PollRecord) -> (bool, Vec<New>) {
        let mut new = Vec::new();
        for message in &mut record.plan.messages {
            let first = message.id.clone();
            for repetition in 1.. {
                if !self.message_ids.contains(&message.id) {
                    break;
                }
                message.id = repeated_id(&first, repetition);
            }
        }
        let known = self.labels.get_mut(&record.row).filter(|label| label.version == record.version);
        let done = known.is_some();
        if let Some(label) = known {
            let last = label.poll_state.last_seq;
            label.poll_state = record.plan.poll_state.clone();
            label.recent_polls = record.recent_polls.clone();
            let label = (record.row, label.key.id.clone());
            self.write_events(&record);
            let mut before = last;
            for message in &record.plan.messages {
                let seq = message.seq.unwrap_or_default();
                if seq <= before {
                    self.wrong = Some(format!("seq {seq} of {} comes after {before}", label.1));
                }
                before = seq;
            }
            new.extend(self.write_messages(&record.plan.messages, &record.plan.deliveries, Some(&label)));
        }
        if let Some(account) = &record.account {
            new.extend(self.write_account(account));
        }
        (done, new)
    }

    fn write_events(&mut self, record: &PollRecord) {
        let events = self.events.entry(record.row).or_default();
        if events.len() != record.known_events {
            self.wrong = Some(format!("{} was planned with another history", record.label_id));
        }
        for update in &record.plan.events.updated {
            let known = events.iter_mut().find(|event| event.event_id == update.record.event_id);
            known.into_iter().for_each(|known| *known = update.record.clone());
        }
        for event in &record.plan.events.added {
            if events.iter().any(|known| known.event_id == event.event_id) {
                self.wrong = Some(format!("{} has the event {} twice", record.label_id, event.event_id));
            }
            events.push(event.clone());
        }
    }

    pub fn write_account(&mut self, record: &AccountRecord) -> Vec<New> {
        let state = &record.state;
        self.account = Some(AccountState {
            status: state.status,
            since: state.since,
            probes: state.probes,
            probe_at: state.probe_at,
            throttled_until: state.throttled_until,
            detail: state.detail.clone(),
            ..AccountState::new(record.now)
        });
        if record.change == Some(AccountChange::CameBack) {
            for label in self.labels.values_mut().map(|label| &mut label.poll_state) {
                if label.state == LabelState::Active && label.failures > 0 {
                    (label.failures, label.failing_since) = (0, None);
                    label.next_poll_at = label.next_poll_at.map(|at| due_after_outage(at, record.now));
                }
            }
        }
        self.write_messages(&record.messages, &record.deliveries, None)
    }

    fn write_messages(
        &mut self,
        messages: &[Message],
        deliveries: &[PlannedDelivery],
        label: Option<&(i64, LabelId)>,
    ) -> Vec<New> {
        let mut written = Vec::new();
        for message in messages {
            self.messages += 1;
            if !self.message_ids.insert(message.id.clone()) {
                self.wrong = Some(format!("{} ({}) exists already", message.id, message.kind.as_str()));
            }
            let lane = match (&message.subject, label) {
                (Some(subject), _) => {
                    let index = self.subjects.iter().position(|known| known == subject);
                    let index = index.unwrap_or_else(|| {
                        self.subjects.push(subject.clone());
                        self.subjects.len() - 1
                    });
                    -1 - index as i64
                }
                (None, Some((row, _))) => *row,
                (None, None) => continue,
            };
            let content = MessageContent {
                message_id: message.id.clone(),
                kind: message.kind.as_str().to_owned(),
                label_id: label.map(|(_, id)| id.to_string()),
                seq: message.seq,
                body: message.body.clone(),
                resource_url: message.resource_url.clone(),
            };
            written.push((Arc::new(content), lane, message.seq.unwrap_or(self.messages), message.created_at));
        }
        let mut new = Vec::new();
        for planned in deliveries {
            let (content, lane, position, at) = &written[planned.message];
            let key = self.deliveries.len() as i64 + 1;
            let pending = PendingDelivery {
                key,
                message: Arc::clone(content),
                format: planned.format,
                lane: Some(*lane),
                position: *position,
                attempts: 0,
                schedule: DeliverySchedule::first(*at),
            };
            let subscriber = planned.subscriber.clone();
            new.push((subscriber.clone(), pending.clone()));
            self.deliveries.insert(key, Delivery { subscriber, state: State::Pending, pending });
        }
        new
    }

    /// Decides and writes the result of an attempt.
    pub fn record_attempt(
        &mut self,
        recording: &RecordingAttempt,
        subscribers: &[Subscriber],
    ) -> (AttemptResult, Vec<New>) {
        let name = &recording.subscriber.name;
        let mut health = self.healths.get(name).cloned().unwrap_or_default();
        if health.url_digest.is_none() {
            health.set_url(&recording.subscriber.url_digest(), recording.at);
        }
        let delivery = &self.deliveries[&recording.key];
        let was_pending = delivery.state == State::Pending;
        let finished = AttemptFacts {
            delivery: recording.key,
            progress: delivery.pending.schedule.progress,
            attempt: &recording.attempt,
            probe: recording.probe,
            schedule: &recording.subscriber.retry,
            max_in_flight: recording.subscriber.max_in_flight,
            jitter: recording.jitter,
        };
        let episode_at = health.episode_at;
        let (decision, change) = health.record(&finished, recording.at);
        let mut pending = None;
        let mut new = Vec::new();
        let row = self.deliveries.get_mut(&recording.key).expect("deliveries are not pruned");
        row.pending.attempts += 1;
        if was_pending {
            row.pending.schedule.progress = decision.progress;
            match decision.next {
                AfterAttempt::Delivered => row.state = State::Delivered,
                AfterAttempt::Dead => row.state = State::Dead,
                AfterAttempt::Retry(next) => {
                    let (progress, retry_after_until) = (decision.progress, decision.retry_after_until);
                    row.pending.schedule = DeliverySchedule { next, progress, retry_after_until };
                    pending = Some((row.pending.attempts, row.pending.schedule));
                }
            }
        }
        if let Some(change) = change {
            let episode_at = episode_at.or(health.episode_at).unwrap_or(recording.at);
            new = self.follow(recording, change, &health, episode_at, subscribers);
        }
        self.healths.insert(name.clone(), health.clone());
        (AttemptResult { next: decision.next, change, pending, health }, new)
    }

    fn follow(
        &mut self,
        recording: &RecordingAttempt,
        change: HealthChange,
        health: &Health,
        episode_at: Timestamp,
        subscribers: &[Subscriber],
    ) -> Vec<New> {
        let (name, now) = (&recording.subscriber.name, recording.at);
        self.reschedule(name, |key, schedule| key != recording.key && schedule.hasten(change.cause(), now));
        let messages = Vec::from_iter(change.message(name, health, episode_at, now));
        let deliveries = fan_out::of_system(&messages, None, subscribers);
        self.write_messages(&messages, &deliveries, None)
    }

    pub fn reschedule(&mut self, name: &SubscriberName, change: impl Fn(i64, &mut DeliverySchedule) -> bool) {
        for (key, delivery) in &mut self.deliveries {
            if delivery.subscriber == *name && delivery.state == State::Pending {
                change(*key, &mut delivery.pending.schedule);
            }
        }
    }

    pub fn pull_in(&mut self, name: &SubscriberName, by: Option<SignedDuration>, now: Timestamp) {
        let mut by = by;
        if let Some(health) = self.healths.get_mut(name) {
            by = by.or(health.ahead_of(now));
            health.shorten_waits(now);
        }
        self.reschedule(name, |_, schedule| schedule.shorten_waits(by, now));
    }

    pub fn record_url(&mut self, name: &SubscriberName, digest: &str, now: Timestamp) {
        let health = self.healths.entry(name.clone()).or_default();
        if health.set_url(digest, now) {
            self.reschedule(name, |_, schedule| schedule.follow_url(now));
        }
    }

    fn of<'a>(&'a self, name: &'a SubscriberName) -> impl Iterator<Item = &'a PendingDelivery> {
        let pending = |delivery: &&Delivery| delivery.state == State::Pending && delivery.subscriber == *name;
        self.deliveries.values().filter(pending).map(|delivery| &delivery.pending)
    }

    pub fn pending(&self, name: &SubscriberName) -> usize {
        self.of(name).count()
    }

    /// The first deliveries of a lane, and whether there may be more.
    pub fn read_lane(&self, name: &SubscriberName, lane: i64) -> (Vec<PendingDelivery>, bool) {
        let mut all: Vec<_> = self.of(name).filter(|delivery| delivery.lane == Some(lane)).cloned().collect();
        all.sort_by_key(|delivery| delivery.position);
        all.truncate(PER_LANE);
        let more = all.len() == PER_LANE;
        (all, more)
    }

    /// Reads the outbox as the store does.
    pub fn read_outbox(&self, name: &SubscriberName, limit: usize, most: usize) -> LoadedDeliveries {
        if self.of(name).count() <= limit {
            return LoadedDeliveries { deliveries: self.of(name).cloned().collect(), not_loaded: None };
        }
        let mut heads: BTreeMap<i64, &PendingDelivery> = BTreeMap::new();
        for delivery in self.of(name) {
            let head = heads.entry(delivery.lane.unwrap_or_default()).or_insert(delivery);
            if delivery.position < head.position {
                *head = delivery;
            }
        }
        let mut not_loaded = NotLoaded::default();
        let mut lanes = Vec::new();
        for kind in [AttemptKind::First, AttemptKind::Retry] {
            let mut chosen: Vec<_> = heads.iter().filter(|(_, head)| head.kind() == kind).collect();
            chosen.sort_by_key(|(_, head)| (head.schedule.next.at, head.key));
            let newest = chosen.last().copied().filter(|_| kind == AttemptKind::First);
            let cut = chosen.get(most - 1).map(|(_, head)| head.schedule.next.at);
            chosen.truncate(most);
            lanes.extend(chosen.into_iter().chain(newest).map(|(lane, _)| *lane));
            not_loaded.after[kind as usize] = cut;
        }
        lanes.sort_unstable();
        lanes.dedup();
        let deliveries = lanes.iter().flat_map(|lane| self.read_lane(name, *lane).0).collect();
        LoadedDeliveries { deliveries, not_loaded: Some(not_loaded) }
    }
}
