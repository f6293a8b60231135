//! The invariants, checked after each event, and the audit at the end.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::delivery::health::HealthState;
use trackpost::domain::delivery::outbox::PendingDelivery;
use trackpost::domain::delivery::outcome::AfterAttempt;
use trackpost::domain::label::{LabelId, LabelState};
use trackpost::domain::messages::subscriber::{Subscriber, SubscriberName};
use trackpost::domain::polling::adaptive_limit::AdaptiveLimit;
use trackpost::domain::polling::label_record::LabelRecord;
use trackpost::sandbox::ledger::{self, DeliveryRow, EventRow, Follows, Rows, ViolationKind};

use super::daemon::Daemon;
use super::database::{AttemptResult, RecordingAttempt, State};
use super::limits::Limits;
use super::settings::NAMES;
use super::world::World;

/// A label is polled at most this long after its promised time.
pub const LATE: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Default)]
pub struct Checks {
    wrong: Option<String>,
    /// Real time until which each label must be polled.
    pub(super) promised: BTreeMap<i64, Timestamp>,
    /// Labels without a promise, with the real time since which they have none.
    unpromised: BTreeMap<i64, Timestamp>,
    pub(super) waits: BTreeMap<i64, SignedDuration>,
    /// Whether the clock was set back since the last step of the poller.
    set_back: bool,
    /// Last real time at which something held up all polls.
    pub(super) disturbed_until: Option<Timestamp>,
    pub(super) disturbed: bool,
    /// Real time before which no attempt may be made, by `Retry-After`.
    held: BTreeMap<SubscriberName, Timestamp>,
    /// Subscribers that were disabled, or that never accepted a message.
    pub absent: BTreeSet<&'static str>,
    /// A list lost events. They cause no message when they come back.
    pub lists_changed: bool,
    began: Option<Timestamp>,
    last_success: BTreeMap<SubscriberName, Timestamp>,
    first_failure: BTreeMap<i64, (Timestamp, usize)>,
    polled_at: BTreeMap<i64, Timestamp>,
    calm_since: Option<Timestamp>,
    pub limits: Limits,
}

impl Checks {
    pub fn new(began: Timestamp) -> Self {
        Self { began: Some(began), ..Self::default() }
    }

    pub fn wrong(&mut self, text: String) {
        self.wrong.get_or_insert(text);
    }

    /// Time passes until `now`.
    pub fn pass(&mut self, now: Timestamp) {
        if self.disturbed {
            self.disturbed_until = Some(now);
        }
    }

    /// A label was polled. `wait_ms`: the promised wait until the next poll.
    pub fn polled(&mut self, row: i64, now: Timestamp, wait_ms: Option<i64>) {
        self.promise(row, now, SignedDuration::from_millis(wait_ms.unwrap_or(0)));
        self.polled_at.insert(row, now);
    }

    pub fn promise(&mut self, row: i64, now: Timestamp, wait: SignedDuration) {
        self.promised.insert(row, now + wait);
        self.waits.insert(row, wait);
    }

    pub fn calm_since(&mut self, now: Timestamp) {
        self.calm_since = Some(now);
    }

    pub fn polled_since_calm(&self, row: i64) -> bool {
        self.polled_at.get(&row).copied() > self.calm_since
    }

    /// The wall clock jumped: due times are at most one wait away.
    pub fn jumped(&mut self, seconds: i32, now: Timestamp) {
        self.held.clear();
        self.limits.jumped(now);
        self.set_back |= seconds < 0;
        self.pull_in(now);
    }

    /// After the clock was set back, each label is due within its wait, at the latest from the next step of the poller.
    fn pull_in(&mut self, now: Timestamp) {
        for (row, at) in self.promised.iter_mut().filter(|_| self.set_back) {
            *at = (*at).max(now + self.waits[row]);
        }
    }

    /// A start after the clock was set back knows only the stored waits.
    pub fn started(&mut self, labels: &BTreeMap<i64, LabelRecord>) {
        for (row, label) in labels.iter().filter(|_| self.set_back) {
            let stored = label.poll_state.wait.and_then(|wait| SignedDuration::try_from(wait).ok());
            let wait = self.waits.entry(*row).or_default();
            *wait = stored.unwrap_or_default().max(*wait);
        }
    }

    /// The poller has applied that the clock was set back.
    pub fn pulled_in(&mut self, now: Timestamp) {
        self.pull_in(now);
        self.set_back = false;
    }

    /// A subscriber was resumed or moved: its `Retry-After` is void.
    pub fn released(&mut self, name: &SubscriberName) {
        self.held.remove(name);
    }

    /// A poll made messages. Each alert needs a minimum of real time since the registration.
    pub fn messages<'a>(&mut self, id: &LabelId, kinds: impl Iterator<Item = &'a str>, now: Timestamp) {
        let passed = now.duration_since(self.began.unwrap_or(now));
        for kind in kinds {
            let least = match kind {
                "tracking.stalled" => SignedDuration::from_hours(60),
                "tracking.expired" => SignedDuration::from_hours(24 * 59),
                "tracking.unavailable" => SignedDuration::from_hours(71),
                _ => continue,
            };
            if passed < least {
                self.wrong.get_or_insert(format!("{kind} of {id} after {passed:#} of real time"));
            }
        }
    }

    /// An attempt was recorded.
    pub fn attempt_recorded(&mut self, recording: &RecordingAttempt, result: &AttemptResult, now: Timestamp) {
        let name = &recording.subscriber.name;
        let attempt = &recording.attempt;
        if let (Some(wait), Some(429 | 503)) = (attempt.retry_after, attempt.outcome.status()) {
            let until = now + SignedDuration::try_from(wait).unwrap() - SignedDuration::from_secs(60);
            let held = self.held.entry(name.clone()).or_insert(until);
            *held = until.max(*held);
        }
        let failed = self.first_failure.entry(recording.key).or_insert((now, 0));
        if result.next == AfterAttempt::Dead {
            if result.health.state != HealthState::Ok {
                self.wrong.get_or_insert(format!("{} is dead while {name} fails", recording.key));
            }
            if failed.1 < recording.subscriber.retry.len() {
                self.wrong.get_or_insert(format!(
                    "{} to {name} is dead after {} failures",
                    recording.key, failed.1
                ));
            }
            if self.last_success.get(name).is_none_or(|at| *at < failed.0) {
                self.wrong
                    .get_or_insert(format!("{} to {name} is dead, but no other was accepted", recording.key));
            }
            self.absent.extend(NAMES.iter().filter(|known| **known == name.as_str()));
        }
        failed.1 += 1;
        if attempt.outcome.is_accepted() {
            self.last_success.insert(name.clone(), now);
        }
    }
}

impl World {
    /// Checks an attempt before it starts.
    pub fn check_attempt(&mut self, daemon: &Daemon, subscriber: &Subscriber, delivery: &PendingDelivery) {
        let name = &subscriber.name;
        let id = &delivery.message.message_id;
        let in_flight: Vec<_> =
            daemon.attempts.values().filter(|attempt| attempt.subscriber.name == *name).collect();
        if in_flight.iter().any(|attempt| attempt.delivery.lane == delivery.lane) {
            self.checks.wrong(format!("two attempts of the lane of {id} to {name} at once"));
        }
        if in_flight.len() >= subscriber.max_in_flight as usize {
            self.checks.wrong(format!("{} attempts to {name} at once", in_flight.len() + 1));
        }
        if self.db.deliveries[&delivery.key].state != State::Pending {
            self.checks.wrong(format!("{id} to {name} is attempted after it ended"));
        }
        let earlier = self.db.deliveries.values().any(|other| {
            let known = &other.pending;
            other.subscriber == *name
                && other.state == State::Pending
                && known.lane == delivery.lane
                && known.position < delivery.position
        });
        if earlier {
            self.checks.wrong(format!("{id} to {name} overtakes another of its lane"));
        }
        if self.checks.held.get(name).is_some_and(|until| self.now < *until) {
            self.checks.wrong(format!("{id} to {name} is attempted before Retry-After has passed"));
        }
    }

    /// Checks everything that can be checked at any time.
    pub fn check(&mut self) -> Result<(), String> {
        self.checks.disturbed = self.is_disturbed();
        if self.checks.disturbed {
            self.checks.disturbed_until = Some(self.now);
        }
        if let Some(wrong) = self.checks.wrong.take().or(self.db.wrong.take()) {
            return Err(wrong);
        }
        if let Some(violation) = self.receivers.accepted.violations().first() {
            return Err(format!("{}: {violation}", violation.kind.as_str()));
        }
        let limit = self.account.requests_per_minute as usize;
        let busiest = self.api.served.busiest().filter(|(_, requests)| *requests > limit);
        if let Some((_, requests)) = busiest {
            return Err(format!("{requests} requests in 60 s, the limit is {limit}"));
        }
        self.check_budget()?;
        self.check_discovery()?;
        // With a budget, the delay has no bound.
        if self.account.requests_per_month > 0 {
            return Ok(());
        }
        self.note_unpromised();
        // After answers of 429 the adaptive limit grows slowly from its smallest share.
        let wall = self.wall();
        let smallest = AdaptiveLimit { shrunk: Some((wall, 0.0)), ..AdaptiveLimit::default() };
        let minutes = self.db.labels.len() as i64 / i64::from(smallest.of(limit as u32, wall)) + 1;
        let latest = |row: i64| {
            let registered = || self.checks.unpromised.get(&row).copied();
            let promised = self.checks.promised.get(&row).copied().or_else(registered);
            promised.max(self.checks.disturbed_until).map(|at| at + LATE + SignedDuration::from_mins(minutes))
        };
        let late = self.polled_labels().find(|row| latest(*row).is_some_and(|at| self.now > at));
        if let Some(row) = late {
            let label = &self.db.labels[&row];
            return Err(format!(
                "{} is not polled: promised at {:?}, due at {:?} by the wall clock, which is {} ahead",
                label.key.id,
                self.checks.promised.get(&row),
                label.poll_state.next_poll_at,
                self.skew
            ));
        }
        Ok(())
    }

    /// Records since when labels have no promise: they are new or registered again, and due at once.
    fn note_unpromised(&mut self) {
        let before = std::mem::take(&mut self.checks.unpromised);
        let labels = self.db.labels.values().filter(|label| label.poll_state.next_poll_at.is_some());
        let unpromised = labels.map(|label| label.row).filter(|row| !self.checks.promised.contains_key(row));
        let since = |row: i64| (row, before.get(&row).copied().unwrap_or(self.now));
        self.checks.unpromised = unpromised.map(since).collect();
    }

    /// Compares the ledgers and the database.
    pub fn final_audit(&self) -> Result<(), String> {
        let delivered = self.db.deliveries.values().filter(|delivery| delivery.state == State::Delivered);
        let deliveries = delivered.map(|delivery| DeliveryRow {
            subscriber: delivery.subscriber.to_string(),
            message_id: delivery.pending.message.message_id.clone(),
        });
        let events = self.db.events.iter().flat_map(|(row, events)| {
            let label_id = self.db.labels[row].key.id.to_string();
            events.iter().filter(|event| !event.retracted).map(move |event| EventRow {
                label_id: label_id.clone(),
                event_id: event.event_id.to_string(),
                raw: event.raw.to_string(),
            })
        });
        let rows = Rows { deliveries: deliveries.collect(), events: Some(events.collect()) };
        let follows = [Follows::Events, Follows::Answers, Follows::Events];
        let complete: Vec<_> =
            NAMES.into_iter().zip(follows).filter(|(name, _)| !self.checks.absent.contains(name)).collect();
        let found = ledger::audit(&self.api.served, &self.receivers.accepted, &complete, Some(&rows), None);
        let dead = |text: &str| {
            let rows = self.db.deliveries.values().filter(|delivery| delivery.state == State::Dead);
            rows.into_iter().any(|delivery| text.contains(&delivery.pending.message.message_id))
        };
        let found = found.iter().find(|violation| {
            // A dead message that was accepted without an answer.
            let about_answer = violation.text.contains("does not have the last answer");
            // The same holds for the answer about a parcel without a scan, if its only message is an alert.
            let unscanned = |label: &str| {
                let known = self.db.labels.values().find(|known| known.key.id.as_str() == label);
                known.is_some_and(|known| self.db.events.get(&known.row).is_none_or(Vec::is_empty))
            };
            let not_reported = self.checks.lists_changed || violation.label.as_deref().is_some_and(unscanned);
            let of_a_dead_message = violation.kind == ViolationKind::Invented && dead(&violation.text);
            !(of_a_dead_message || about_answer && not_reported)
        });
        let Some(violation) = found else { return Ok(()) };
        let row =
            self.db.labels.values().find(|label| Some(label.key.id.as_str()) == violation.label.as_deref());
        let events = row.and_then(|label| self.db.events.get(&label.row)).into_iter().flatten();
        let events: Vec<String> = events
            .map(|event| {
                let (id, raw) = (event.event_id, &event.raw);
                format!(
                    "{id} revision {} off {} retracted {}: {raw}",
                    event.revision, event.fell_off, event.retracted
                )
            })
            .collect();
        Err(format!("{}: {violation}\nhistory:\n{}", violation.kind.as_str(), events.join("\n")))
    }

    pub fn is_disturbed(&self) -> bool {
        let closed = |daemon: &Daemon| {
            let state = &daemon.limiter.state;
            state.probing() || state.open_at(self.wall()).is_some()
        };
        let held = || self.db.held.values().any(|until| *until > self.wall());
        self.api.is_disturbed(self.now)
            || self.slow_store.1 > self.now
            || self.daemon.as_ref().is_none_or(closed)
            || held()
    }

    /// Labels that are polled, by row.
    pub fn polled_labels(&self) -> impl Iterator<Item = i64> {
        let in_flight = |row: i64| {
            self.daemon.iter().flat_map(|daemon| daemon.polls.values()).any(|poll| poll.entry.row == row)
        };
        let labels = self.db.labels.values();
        let labels = labels.filter(|label| {
            label.poll_state.state == LabelState::Active && label.poll_state.next_poll_at.is_some()
        });
        labels.map(|label| label.row).filter(move |row| !in_flight(*row))
    }

    /// Whether the label was polled since the last fault ended, or is not polled any more because it was voided.
    pub fn is_polled_since_calm(&self, row: i64) -> bool {
        let registered = (self.api.ids.len() - self.api.listed.len()) as i64;
        let removed = self.db.labels[&row].poll_state.state == LabelState::Removed;
        row > registered && removed || self.checks.polled_since_calm(row)
    }

    /// Describes the unfinished deliveries.
    pub fn unfinished(&self) -> String {
        let pending = NAMES.map(|name| {
            let name = SubscriberName::new(name);
            (name.to_string(), self.db.pending(&name), self.db.healths.get(&name).map(|health| health.state))
        });
        let unpolled = self.db.labels.keys().filter(|row| !self.is_polled_since_calm(**row));
        let state = self.daemon().map(|daemon| daemon.limiter.state.clone());
        let all = self.is_all_discovered();
        format!(
            "{pending:?}, labels not polled: {:?}, all discovered: {all}, account: {state:?}",
            unpolled.collect::<Vec<_>>()
        )
    }
}
