//! The run: from one due label to the next, until all journeys have ended.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::journey::SimulatedJourney;
use crate::domain::polling::cadence::{Cadence, NextPoll, Situation};
use crate::domain::polling::learning::{LearnedRates, Wait};
use crate::domain::polling::pace::Pace;
use crate::domain::polling::quota::{Quota, WINDOW};
use crate::domain::polling::reason::PollReason;
use crate::domain::polling::schedule::Queues;
use crate::domain::time::elapsed;

/// Settings of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunSettings<'a> {
    pub cadence: &'a Cadence,
    /// Requests in any 60 s.
    pub requests_per_minute: u32,
    /// Whether the run learns rates, as the daemon does. It begins without any.
    pub learn: bool,
    /// Seed of the jitter.
    pub seed: u64,
    /// The run ends after this many polls.
    pub most_polls: u64,
}

/// Result of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunResult {
    pub polls: u64,
    /// All changes, including those after the end of polling.
    pub changes: u64,
    /// Delay of each detected change.
    pub delays: Vec<Duration>,
    /// Delay of each detected delivery.
    pub delivered_delays: Vec<Duration>,
    pub max_requests_in_60s: usize,
    /// Sum of the times in which labels were polled.
    pub polled: Duration,
    /// Polls by the row of the cadence.
    pub rows: BTreeMap<Cow<'static, str>, u64>,
}

/// A label during the run.
struct RunLabel<'a> {
    journey: &'a SimulatedJourney,
    situation: Situation,
    /// Number of detected answers.
    seen: usize,
    /// Row of the next poll.
    row: Cow<'static, str>,
    polled_at: Option<Timestamp>,
}

/// Polls between two reports of progress.
const PROGRESS_INTERVAL: u64 = 4_096;

/// Row name of a label's first poll.
const FIRST_ROW: &str = "first";

/// Polls all journeys until each has ended: at DE or SP, or after `give_up_after` without a change.
pub fn run(journeys: &[SimulatedJourney], settings: RunSettings<'_>) -> RunResult {
    run_with(journeys, settings, &mut |_| {})
}

/// As [`run`]; now and then `progress` gets the number of journeys that have ended.
pub fn run_with(
    journeys: &[SimulatedJourney],
    settings: RunSettings<'_>,
    progress: &mut dyn FnMut(u64),
) -> RunResult {
    let mut ended = 0;
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let mut quota = Quota::new(settings.requests_per_minute);
    // The daemon's order; labels go by their number.
    let mut queues = Queues::default();
    let mut rates = LearnedRates::default();
    let mut recent = VecDeque::new();
    let changes =
        journeys.iter().flat_map(|journey| &journey.answers).filter(|answer| answer.is_change).count();
    let mut outcome = RunResult { changes: changes as u64, ..RunResult::default() };
    let mut labels: Vec<RunLabel<'_>> = journeys.iter().map(RunLabel::new).collect();
    for (index, label) in (0..).zip(&labels) {
        queues.insert(0, Pace::NONE, label.journey.registered_at.as_millisecond(), index);
    }
    let mut now = Timestamp::MIN;
    while let Some(due_ms) = queues.next_due_ms() {
        if outcome.polls == settings.most_polls {
            break;
        }
        now = now.max(Timestamp::from_millisecond(due_ms).unwrap_or(now));
        if let Err(free_at) = quota.take(now) {
            // Answers arrive at once, so permits are never in flight.
            now = free_at.unwrap_or(now);
            continue;
        }
        quota.release(now);
        let Some(index) = queues.pop(now) else { continue };
        outcome.count(&mut recent, now);
        let label = &mut labels[index as usize];
        let before = label.situation.clone();
        *outcome.rows.entry(label.row.clone()).or_default() += 1;
        label.poll(now, &mut outcome);
        let carrier = label.journey.carrier.as_deref();
        if let Some(from) = label.polled_at.replace(now) {
            let changed = label.situation.quiet_since == now;
            rates.learn(Wait { carrier, service: None, situation: &before, from, until: now, changed });
        }
        let rates = settings.learn.then_some(&rates);
        let suggestion =
            rates.and_then(|rates| rates.suggest(settings.cadence, &label.situation, carrier, None, now));
        let jitter = rng.f64() * 2.0 - 1.0;
        if let NextPoll::At(next) = settings.cadence.next(&label.situation, suggestion, now, jitter)
            && let PollReason::Cadence(reason) = next.reason
        {
            queues.insert(0, Pace::of(next.pace), next.at.as_millisecond(), index);
            label.row = reason.row;
        } else {
            ended += 1;
        }
        if outcome.polls.is_multiple_of(PROGRESS_INTERVAL) {
            progress(ended);
        }
        label.situation.phase = None;
    }
    let polled = |label: &RunLabel<'_>| Some(elapsed(label.journey.registered_at, label.polled_at?));
    outcome.polled = labels.iter().filter_map(polled).sum();
    outcome
}

impl<'a> RunLabel<'a> {
    fn new(journey: &'a SimulatedJourney) -> Self {
        Self {
            journey,
            situation: Situation::of_new(&journey.label_id, journey.registered_at),
            seen: 0,
            row: FIRST_ROW.into(),
            polled_at: None,
        }
    }

    /// Applies a poll at `now`.
    fn poll(&mut self, now: Timestamp, outcome: &mut RunResult) {
        let fresh = &self.journey.answers[self.seen..];
        let fresh = &fresh[..fresh.partition_point(|answer| answer.at <= now)];
        self.seen += fresh.len();
        let mut is_change = false;
        for answer in fresh.iter().filter(|answer| answer.is_change) {
            is_change = true;
            // A change before the registration counts from the registration.
            let delay = elapsed(answer.at.max(self.journey.registered_at), now);
            outcome.delays.push(delay);
            if answer.is_terminal() && self.situation.finished_at.is_none() {
                outcome.delivered_delays.push(delay);
                self.situation.finished_at = Some(now);
            }
        }
        let (quiet_since, unchanged) = (self.situation.quiet_since, self.situation.unchanged);
        if let Some(latest) = fresh.last() {
            self.situation.update(&latest.fields, now);
        }
        if !is_change {
            self.situation.quiet_since = quiet_since;
            self.situation.unchanged = if self.situation.phase.is_some() { 0 } else { unchanged + 1 };
        }
    }
}

impl RunResult {
    fn count(&mut self, recent: &mut VecDeque<Timestamp>, now: Timestamp) {
        self.polls += 1;
        recent.push_back(now);
        while recent.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            recent.pop_front();
        }
        self.max_requests_in_60s = self.max_requests_in_60s.max(recent.len());
    }
}
