//! One poll: a reading of a label becomes a plan of all that is to be recorded.
//!
//! The plan is a value. The shell writes it in one transaction, without an `if` about the domain: the label's new
//! standing, the history, the messages and who is to get them, and what it says about the account.

mod answer;
mod failing;
mod held;
mod reason;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::account::Verdict;
use super::cadence::{Cadence, Look};
use super::clock::Gaps;
use super::event::KnownEvent;
use super::freshness::{self, Notice};
use super::history::EventWrites;
use super::label::LabelState;
use super::message::body::compose;
use super::message::news::Change;
use super::message::{Message, MessageType, next_seq};
use super::pace::Pace;
use super::reading::Reading;
use super::rhythm::{Learnt, Rhythms};
use super::schedule::Entry;
use super::silence::Patience;
use super::snapshot::{Snapshot, Standing};
use super::subscriber::{Format, Subscriber, SubscriberName};

pub use held::held_carrier;
pub use reason::{Cadenced, Learned, Reason};

/// Whether a label's first answer is told or only recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPoll {
    Deliver,
    Baseline,
}

/// What a plan is made under: the configuration, as far as it decides.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub cadence: &'a Cadence,
    /// What was learnt of the carriers' rhythms.
    pub rhythms: &'a Rhythms,
    pub first_poll: FirstPoll,
    pub patience: &'a Patience,
    pub subscribers: &'a [Subscriber],
    /// Where the label was read.
    pub resource_url: &'a str,
    /// The account is down: no label's failures count.
    pub outage: bool,
    /// When the call went out.
    pub sent_at: Timestamp,
    /// Wall time that did not pass: no patience runs out in it.
    pub gaps: &'a Gaps,
}

/// All that one poll leads to.
#[derive(Clone, Debug)]
pub struct PollPlan {
    pub standing: Standing,
    pub events: EventWrites,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    pub notices: Vec<Notice>,
    pub verdict: Verdict,
    pub glance: Glance,
}

/// A message of the plan, to one subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedDelivery {
    /// An index into the plan's messages.
    pub message: usize,
    pub subscriber: SubscriberName,
    pub format: Format,
}

/// One poll in short, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glance {
    /// Milliseconds since 1970.
    pub at: i64,
    pub outcome: String,
    pub status: Option<u16>,
    pub detail: Option<String>,
    pub changes: usize,
}

/// How many glances are kept with a label.
pub const GLANCES: usize = 5;

/// Plans what a reading of `label` at `now` leads to. `known` is its history, wanted if it answered.
/// `jitter` is from -1 to 1.
pub fn plan(
    terms: &Terms<'_>,
    label: &Snapshot,
    known: &[KnownEvent],
    reading: &Reading,
    now: Timestamp,
    jitter: f64,
) -> PollPlan {
    let written = label;
    let label = &terms.gaps.heal(label, now);
    let mut plan = match reading {
        Reading::Answer { tracking, digest } => answer::answered(terms, label, known, tracking, *digest, now),
        Reading::SameBytes => quiet(terms, label, now),
        // Refused alike with the others, or while the account is not well: the account's matter.
        Reading::Refused { .. } if terms.outage => failing::stepped_back(label, now),
        Reading::Refused { detail, .. } => failing::refused(label, detail, now, jitter),
        Reading::Garbled { .. }
        | Reading::ServerError { .. }
        | Reading::TimedOut
        | Reading::NoConnection { .. } => failing::failed(terms, label, now, jitter),
        Reading::OurFault { .. } => failing::ours(label, now, jitter),
        Reading::Unauthorized { .. } => failing::stepped_back(label, now),
        Reading::CarrierThrottled { carrier, retry_after } => {
            held::plan(label, carrier.as_deref(), *retry_after, now)
        }
        // The account's matter: the label stays due, and is asked about when the account may be.
        Reading::WrongEndpoint { .. } | Reading::Throttled { .. } => untouched(label),
    };
    let good = matches!(reading, Reading::Answer { .. } | Reading::SameBytes);
    let pace = if good { schedule(terms, label, &mut plan, now, jitter) } else { None };
    if plan.standing.next_poll_at != label.standing.next_poll_at {
        plan.standing.wait = planned_wait(plan.standing.next_poll_at, now);
        plan.standing.pace = plan.standing.wait.map(|wait| pace.unwrap_or(wait));
    }
    terms.gaps.restore(&mut plan.standing, &written.standing, now);
    plan.notices.extend(freshness::behind(label, terms.sent_at));
    plan.deliveries = fan_out(&plan.messages, terms.subscribers, label);
    plan.verdict = reading.verdict();
    plan.glance = Glance {
        at: now.as_millisecond(),
        outcome: reading.as_str().to_owned(),
        status: reading.status(),
        detail: reading.detail().map(|detail| detail.chars().take(200).collect()),
        changes: plan.messages.len(),
    };
    plan
}

/// The next poll after an unchanged answer that leads to nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Unchanged {
    pub next_poll_at: Timestamp,
    /// From this poll to the next, in milliseconds.
    pub wait_ms: u32,
    pub pace: Pace,
    pub reason: Reason,
}

/// Plans what an unchanged answer about a label leads to, from memory alone. `None` if more may follow than the next
/// poll (an alert is due, or the label is given up): then [`plan`] decides, over the whole row.
pub fn unchanged(
    cadence: &Cadence,
    learnt: Learnt<'_>,
    entry: &Entry,
    now: Timestamp,
    jitter: f64,
) -> Option<Unchanged> {
    let alert_at = entry.alert_at();
    if alert_at.is_some_and(|at| at <= now) {
        return None;
    }
    let Look::Again(next) = cadence.next(&entry.unchanged_situation(), learnt, now, jitter) else {
        return None;
    };
    let alert = alert_at.filter(|at| *at < next.at);
    let next_poll_at = whole_ms(alert.unwrap_or(next.at));
    let wait = planned_wait(Some(next_poll_at), now)?;
    Some(Unchanged {
        next_poll_at,
        wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        pace: Pace::of(next.pace),
        reason: Reason::of(&next, alert.is_some()),
    })
}

/// From this poll to the next.
fn planned_wait(next_poll_at: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
    let wait = Duration::try_from(next_poll_at?.duration_since(now)).unwrap_or_default();
    Some(wait.max(Duration::from_millis(1)))
}

fn untouched(label: &Snapshot) -> PollPlan {
    PollPlan {
        standing: label.standing.clone(),
        events: EventWrites::default(),
        messages: Vec::new(),
        deliveries: Vec::new(),
        notices: Vec::new(),
        verdict: Verdict::Fine,
        glance: Glance { at: 0, outcome: String::new(), status: None, detail: None, changes: 0 },
    }
}

fn good(label: &Snapshot, now: Timestamp) -> PollPlan {
    let mut plan = untouched(label);
    plan.standing.last_answer_at = Some(now);
    plan.standing.failures = 0;
    plan.standing.failing_since = None;
    plan.standing.refusals = 0;
    plan.standing.refused_since = None;
    plan
}

fn quiet(terms: &Terms<'_>, label: &Snapshot, now: Timestamp) -> PollPlan {
    let mut plan = good(label, now);
    plan.standing.unchanged = plan.standing.unchanged.saturating_add(1);
    if plan.standing.state == LabelState::Unavailable {
        plan.standing.state = LabelState::Active;
    }
    answer::finish_if_settled(&mut plan.standing, now);
    for change in silence(terms, label, &mut plan.standing, now) {
        append(label, &mut plan, now, &change);
    }
    plan
}

/// What the silence says; once per episode.
fn silence(terms: &Terms<'_>, label: &Snapshot, after: &mut Standing, now: Timestamp) -> Vec<Change> {
    if after.state != LabelState::Active {
        return Vec::new();
    }
    let said = terms.patience.judge(after, label, terms.gaps, now);
    for change in &said {
        match change {
            Change::Stalled { .. } => after.stalled_told = true,
            Change::Late { .. } => after.late_told = true,
            _ => {}
        }
    }
    said
}

/// Plans the next look; gives the time between two looks around then.
fn schedule(
    terms: &Terms<'_>,
    label: &Snapshot,
    plan: &mut PollPlan,
    now: Timestamp,
    jitter: f64,
) -> Option<Duration> {
    let after = &mut plan.standing;
    after.reason = None;
    if after.state == LabelState::Expired {
        after.next_poll_at = None;
        return None;
    }
    let first = label.standing.first_answer_at.is_none();
    let situation = after.situation(&label.key, label.registered_at, first);
    let learnt = Learnt {
        rhythms: Some(terms.rhythms),
        carrier: after.carrier_code.as_deref(),
        service: label.service(),
    };
    match terms.cadence.next(&situation, learnt, now, jitter) {
        Look::Again(next) => {
            // A silence is to be judged when it is due, and only over a fresh answer.
            let alert = terms.patience.next(after, label, terms.gaps, now);
            let alert = alert.filter(|at| after.state == LabelState::Active && *at < next.at);
            after.next_poll_at = Some(whole_ms(alert.unwrap_or(next.at)));
            after.reason = Some(Reason::of(&next, alert.is_some()));
            Some(next.pace)
        }
        Look::Never => {
            after.next_poll_at = None;
            None
        }
        Look::GiveUp => {
            after.state = LabelState::Expired;
            after.next_poll_at = None;
            append(label, plan, now, &Change::Expired { quiet_since: situation.quiet_since });
            None
        }
    }
}

fn append(label: &Snapshot, plan: &mut PollPlan, now: Timestamp, change: &Change) {
    let seq = next_seq(plan.standing.last_seq, now);
    plan.messages.push(compose(&label.subject(&plan.standing), seq, now, change));
    plan.standing.last_seq = seq;
}

fn whole_ms(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Who gets what. In the vendor's own forms at most one callback per poll, under the id of its summary.
pub fn fan_out(messages: &[Message], subscribers: &[Subscriber], label: &Snapshot) -> Vec<PlannedDelivery> {
    let summary = messages.iter().position(|message| message.kind == MessageType::Updated);
    let mut planned = Vec::new();
    for subscriber in subscribers {
        let wanted = |kind| subscriber.wants(kind, Some(&label.key.account));
        let plan = |message| PlannedDelivery {
            message,
            subscriber: subscriber.name.clone(),
            format: subscriber.format,
        };
        if subscriber.format == Format::Standard {
            planned.extend((0..messages.len()).filter(|index| wanted(messages[*index].kind)).map(plan));
        } else if let Some(summary) = summary
            && messages.iter().any(|message| message.kind.is_made_by_polls() && wanted(message.kind))
        {
            planned.push(plan(summary));
        }
    }
    planned
}

#[cfg(test)]
mod tests;
