//! One poll: from the reading of an answer to a plan of everything that is recorded.
//!
//! The plan is a value: the new state of the label, the history, the messages and their deliveries, and the meaning for
//! the account. The store writes it in one transaction.

mod answer;
mod diff;
mod failing;
pub mod gaps;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, NextPoll, Suggestion};
use super::freshness::{self, Measurement};
use super::pace::Pace;
use super::reason::PollReason;
use super::schedule::Entry;
use crate::domain::clock::Gaps;
use crate::domain::label::LabelState;
use crate::domain::messages::body::compose;
use crate::domain::messages::change::Change;
use crate::domain::messages::fan_out::{self, PlannedDelivery};
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::messages::{Message, next_seq};
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::polling::learning::LearnedRates;
use crate::domain::time::{elapsed, whole_ms};
use crate::domain::tracking::history::EventWrites;
use crate::domain::tracking::matching::KnownEvent;
use crate::domain::tracking::reading::Reading;

pub use failing::throttled_carrier;

/// Whether a label's first answer makes messages or is only recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstPoll {
    Deliver,
    Baseline,
}

/// Configuration and circumstances of a plan.
#[derive(Clone, Copy, Debug)]
pub struct PollContext<'a> {
    pub cadence: &'a Cadence,
    /// Learned change rates.
    pub rates: &'a LearnedRates,
    pub first_poll: FirstPoll,
    pub alerts: &'a AlertSettings,
    pub subscribers: &'a [Subscriber],
    /// The URL of the poll.
    pub resource_url: &'a str,
    /// Whether the account is not ok: failures and refusals then do not count for the label.
    pub account_not_ok: bool,
    /// When the request was sent.
    pub sent_at: Timestamp,
    /// Wall time that did not pass: no alert comes due in it.
    pub gaps: &'a Gaps,
}

/// Everything that follows from one poll.
#[derive(Clone, Debug, Default)]
pub struct PollPlan {
    pub poll_state: PollState,
    pub events: EventWrites,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    pub measurements: Vec<Measurement>,
    pub summary: PollSummary,
}

/// Summary of one poll, for `explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollSummary {
    /// Milliseconds since 1970.
    pub at: i64,
    pub outcome: String,
    pub status: Option<u16>,
    pub detail: Option<String>,
    /// Number of messages.
    pub messages: usize,
}

/// Number of summaries that are kept with a label.
pub const POLLS_KEPT: usize = 5;

/// Plans everything that follows from a reading of `label` at `now`. `known`: its history, needed for an answer.
/// `jitter`: from -1 to 1.
pub fn plan(
    context: &PollContext<'_>,
    label: &LabelRecord,
    known: &[KnownEvent],
    reading: &Reading,
    now: Timestamp,
    jitter: f64,
) -> PollPlan {
    let stored = label;
    let label = &gaps::shift(context.gaps, label, now);
    let mut plan = match reading {
        Reading::Answer { tracking, digest } => {
            answer::plan_answer(context, label, known, tracking, *digest, now)
        }
        Reading::SameBytes => plan_of_unchanged_answer(context, label, now),
        // Other labels got the same refusal, or the account is not ok: the refusal concerns the account.
        Reading::Refused { .. } if context.account_not_ok => failing::plan_account_refusal(label, now),
        Reading::Refused { detail, .. } => failing::plan_refusal(label, detail, now, jitter),
        Reading::Garbled { .. }
        | Reading::ServerError { .. }
        | Reading::TimedOut
        | Reading::NoConnection { .. } => failing::plan_failure(context, label, now, jitter),
        Reading::Shortage { .. } => failing::plan_shortage(label, now, jitter),
        Reading::Unauthorized { .. } => failing::plan_account_refusal(label, now),
        Reading::CarrierThrottled { carrier, retry_after } => {
            failing::plan_carrier_limit(label, carrier.as_deref(), *retry_after, now)
        }
        // It concerns the account. The label stays due until the account may be polled.
        Reading::WrongEndpoint { .. } | Reading::Throttled { .. } => empty_plan(label),
    };
    let good = matches!(reading, Reading::Answer { .. } | Reading::SameBytes);
    let pace = if good { plan_next_poll(context, label, &mut plan, now, jitter) } else { None };
    if plan.poll_state.next_poll_at != label.poll_state.next_poll_at {
        plan.poll_state.wait = planned_wait(plan.poll_state.next_poll_at, now);
        plan.poll_state.pace = plan.poll_state.wait.map(|wait| pace.unwrap_or(wait));
    }
    gaps::restore(context.gaps, &mut plan.poll_state, &stored.poll_state, now);
    plan.measurements.extend(freshness::lateness(label.poll_state.planned_poll_at(), context.sent_at));
    plan.deliveries = fan_out::of_poll(&plan.messages, context.subscribers, &label.key.account);
    plan.summary = PollSummary {
        at: now.as_millisecond(),
        outcome: reading.as_str().to_owned(),
        status: reading.status(),
        detail: reading.detail().map(|detail| detail.chars().take(200).collect()),
        messages: plan.messages.len(),
    };
    plan
}

/// The next poll after an unchanged answer without further effects.
#[derive(Clone, Debug, PartialEq)]
pub struct UnchangedPlan {
    pub next_poll_at: Timestamp,
    /// The wait from this poll to the next, in milliseconds.
    pub wait_ms: u32,
    pub pace: Pace,
    pub reason: PollReason,
}

/// Plans the next poll after an unchanged answer, from memory alone. Returns `None` if more may follow (an alert is
/// due, or the label expires); then [`plan`] decides with the whole row.
pub fn plan_unchanged(
    cadence: &Cadence,
    suggestion: Option<Suggestion>,
    entry: &Entry,
    now: Timestamp,
    jitter: f64,
) -> Option<UnchangedPlan> {
    let alert_at = entry.alert_at();
    if alert_at.is_some_and(|at| at <= now) {
        return None;
    }
    let NextPoll::At(next) = cadence.next(&entry.unchanged_situation(), suggestion, now, jitter) else {
        return None;
    };
    let alert = alert_at.filter(|at| *at < next.at);
    let next_poll_at = whole_ms(alert.unwrap_or(next.at));
    let wait = planned_wait(Some(next_poll_at), now)?;
    Some(UnchangedPlan {
        next_poll_at,
        wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        pace: Pace::of(next.pace),
        reason: next.reason.brought_forward(alert.is_some()),
    })
}

/// Returns the wait from this poll to the next.
fn planned_wait(next_poll_at: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let wait = elapsed(now, next_poll_at?);
    Some(wait.max(Duration::from_millis(1)))
}

fn empty_plan(label: &LabelRecord) -> PollPlan {
    PollPlan { poll_state: label.poll_state.clone(), ..PollPlan::default() }
}

/// Plan in which the answer resets the failures and refusals of the label.
fn plan_of_good_answer(label: &LabelRecord, now: Timestamp) -> PollPlan {
    let mut plan = empty_plan(label);
    plan.poll_state.last_answer_at = Some(now);
    plan.poll_state.failures = 0;
    plan.poll_state.failing_since = None;
    plan.poll_state.refusals = 0;
    plan.poll_state.refused_since = None;
    plan
}

/// Plans an answer with the same bytes as the last one.
fn plan_of_unchanged_answer(context: &PollContext<'_>, label: &LabelRecord, now: Timestamp) -> PollPlan {
    let mut plan = plan_of_good_answer(label, now);
    plan.poll_state.unchanged = plan.poll_state.unchanged.saturating_add(1);
    answer::update_state(label, &mut plan.poll_state, false, now);
    for change in take_due_alerts(context, label, &mut plan.poll_state, now) {
        append_message(label, &mut plan, now, &change);
    }
    plan
}

/// Returns the alerts that are due, and marks them as sent. Each is returned once per episode.
fn take_due_alerts(
    context: &PollContext<'_>,
    label: &LabelRecord,
    after: &mut PollState,
    now: Timestamp,
) -> Vec<Change> {
    if after.state != LabelState::Active {
        return Vec::new();
    }
    let alerts = context.alerts.due_changes(after, label, context.gaps, now);
    for change in &alerts {
        match change {
            Change::Stalled { .. } => after.stalled_sent = true,
            Change::Late { .. } => after.late_sent = true,
            _ => {}
        }
    }
    alerts
}

/// Plans the next poll. Returns the expected interval between polls at that time.
fn plan_next_poll(
    context: &PollContext<'_>,
    label: &LabelRecord,
    plan: &mut PollPlan,
    now: Timestamp,
    jitter: f64,
) -> Option<Duration> {
    let after = &mut plan.poll_state;
    after.reason = None;
    if after.state == LabelState::Expired {
        after.next_poll_at = None;
        return None;
    }
    let first = label.poll_state.first_answer_at.is_none();
    let situation = after.situation(&label.key, label.registered_at, first);
    let carrier = after.carrier_code.as_deref();
    let suggestion = context.rates.suggest(context.cadence, &situation, carrier, label.service(), now);
    match context.cadence.next(&situation, suggestion, now, jitter) {
        NextPoll::At(next) => {
            // An alert is judged when it is due, and only at a fresh answer.
            let alert = context.alerts.next(after, label, context.gaps, now);
            let alert = alert.filter(|at| after.state == LabelState::Active && *at < next.at);
            after.next_poll_at = Some(whole_ms(alert.unwrap_or(next.at)));
            after.reason = Some(next.reason.brought_forward(alert.is_some()));
            Some(next.pace)
        }
        NextPoll::Never => {
            after.next_poll_at = None;
            None
        }
        NextPoll::GiveUp => {
            after.state = LabelState::Expired;
            after.next_poll_at = None;
            append_message(label, plan, now, &Change::Expired { quiet_since: situation.quiet_since });
            None
        }
    }
}

fn append_message(label: &LabelRecord, plan: &mut PollPlan, now: Timestamp, change: &Change) {
    let seq = next_seq(plan.poll_state.last_seq, now);
    plan.messages.push(compose(&label.message_fields(&plan.poll_state), seq, now, change));
    plan.poll_state.last_seq = seq;
}

#[cfg(test)]
mod tests;
