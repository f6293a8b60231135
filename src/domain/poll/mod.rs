//! One poll: a reading of a label becomes a plan of all that is to be recorded.
//!
//! The plan is a value. The shell writes it in one transaction, without an `if` about the domain: the label's new
//! standing, the history, the messages and who is to get them, and what it says about the account.

mod held;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::account::{Verdict, backoff};
use super::cadence::{Cadence, Look, guess_offset};
use super::change;
use super::digest::Digest;
use super::event::{KnownEvent, match_events};
use super::freshness::{self, Notice};
use super::history::{self, EventWrites};
use super::label::LabelState;
use super::message::body::{compose, summarize};
use super::message::news::Change;
use super::message::{Message, MessageType};
use super::reading::Reading;
use super::rhythm::{Learnt, Rhythms};
use super::silence::{Patience, newest_scan};
use super::snapshot::{Snapshot, Standing};
use super::subscriber::{Format, Subscriber, SubscriberName};
use super::tracking::Tracking;

pub use held::held_carrier;

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

/// A label is given up after so many refusals in a row …
const REFUSALS: u32 = 5;
/// … over at least this long (contract 3).
const REFUSED_FOR: SignedDuration = SignedDuration::from_hours(72);

/// The row of a label that was answered with 401 or 403.
const BEHIND: &str = "behind_others";

/// Whether the history is needed to plan: the bytes differ, or an event is missing and may have to be retracted.
pub fn needs_history(standing: &Standing, digest: &Digest) -> bool {
    standing.answer_digest.as_ref() != Some(digest) || standing.missing_events > 0
}

/// Plans what a reading of `label` at `now` leads to. `known` is its history, wanted when [`needs_history`] says so.
/// `jitter` is from -1 to 1.
pub fn plan(
    terms: &Terms<'_>,
    label: &Snapshot,
    known: &[KnownEvent],
    reading: &Reading,
    now: Timestamp,
    jitter: f64,
) -> PollPlan {
    let mut plan = match reading {
        Reading::Answer { tracking, digest } => answered(terms, label, known, tracking, *digest, now),
        Reading::SameBytes => quiet(terms, label, now),
        Reading::Refused { detail, .. } => refused(label, detail, now, jitter),
        Reading::Garbled { .. }
        | Reading::ServerError { .. }
        | Reading::TimedOut
        | Reading::NoConnection { .. } => failed(terms, label, now, jitter),
        Reading::Unauthorized { .. } => stepped_back(label, now),
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
    let said = terms.patience.judge(after, label, now);
    for change in &said {
        match change {
            Change::Stalled { .. } => after.stalled_told = true,
            Change::Late { .. } => after.late_told = true,
            _ => {}
        }
    }
    said
}

fn answered(
    terms: &Terms<'_>,
    label: &Snapshot,
    known: &[KnownEvent],
    tracking: &Tracking,
    digest: Digest,
    now: Timestamp,
) -> PollPlan {
    let mut plan = good(label, now);
    let first = label.standing.first_answer_at.is_none();
    let matching = match_events(&label.key, known, &tracking.events);
    let (writes, told) = history::settle(known, &matching);
    let after = &mut plan.standing;
    take_over(after, tracking, digest, now);
    after.missing_events = writes.missing_after;
    plan.events = writes;
    plan.notices = freshness::noticed(label, &told.added, now);

    if !told.added.is_empty() {
        let scan = newest_scan(&tracking.events, after.utc_offset(), now);
        // A time that can't be is no time: then it is when we first saw the scan.
        let scan = scan.or(Some(now)).max(after.newest_scan_at);
        after.stalled_told &= scan == after.newest_scan_at;
        after.newest_scan_at = scan;
    }
    let changes = change::changes(&label.standing, after, tracking, told, first);
    after.late_told &= !changes.iter().any(|change| matches!(change, Change::Estimate { .. }));
    if changes.is_empty() {
        after.unchanged = if first { 0 } else { after.unchanged.saturating_add(1) };
    } else {
        after.unchanged = 0;
        after.last_changed_at = Some(now);
    }
    settle_state(label, after, !changes.is_empty(), now);
    let said = silence(terms, label, after, now);
    if first && terms.first_poll == FirstPoll::Baseline {
        return plan;
    }
    if !changes.is_empty() || !said.is_empty() {
        plan.messages = told_of(terms, label, &mut plan.standing, &changes, &said, tracking, now);
    }
    plan
}

/// The messages of a poll: what changed, what the clock says, and of the changes the summary, which is always last; `seq` goes on from where the label is.
fn told_of(
    terms: &Terms<'_>,
    label: &Snapshot,
    after: &mut Standing,
    changes: &[Change],
    said: &[Change],
    tracking: &Tracking,
    now: Timestamp,
) -> Vec<Message> {
    let subject = label.subject(after);
    let mut seq = after.last_seq;
    let mut next = || {
        seq += 1;
        seq
    };
    let mut messages: Vec<Message> =
        changes.iter().chain(said).map(|change| compose(&subject, next(), now, change)).collect();
    // The answer was parsed from this text: it is JSON.
    if !changes.is_empty()
        && let Ok(raw) = serde_json::from_str::<&RawValue>(&tracking.raw)
    {
        messages.push(summarize(&subject, next(), now, changes, raw, terms.resource_url.to_owned()));
    }
    after.last_seq = seq;
    messages
}

/// What the answer says becomes what is known. A status that is null says nothing: the last one holds.
fn take_over(after: &mut Standing, tracking: &Tracking, digest: Digest, now: Timestamp) {
    after.first_answer_at = after.first_answer_at.or(Some(now));
    after.answer_digest = Some(digest);
    after.tracking_number = tracking.tracking_number.clone().or(after.tracking_number.take());
    after.carrier_code = tracking.carrier_code.clone().or(after.carrier_code.take());
    if let Some(spelled) = &tracking.status_code {
        after.status_code = Some(
            tracking.status().map_or_else(|| spelled.trim().to_owned(), |code| code.as_str().to_owned()),
        );
        after.status_description = tracking.status_description.clone();
        after.status_detail_code = tracking.status_detail_code.clone();
    }
    after.estimate = tracking.estimated_delivery_date.clone();
    after.out_for_delivery = tracking.is_out_for_delivery();
    if let Some(newest) = tracking.events.first() {
        let offset = guess_offset(newest.longitude, newest.country_code.as_deref());
        after.utc_offset_minutes = Some(offset.seconds() / 60);
    }
}

/// Finished, reopened, or alive again after somebody asked by hand.
fn settle_state(label: &Snapshot, after: &mut Standing, changed: bool, now: Timestamp) {
    if after.is_terminal() {
        if label.standing.state != LabelState::Finished {
            after.finished_at = Some(now);
        }
        after.state = LabelState::Finished;
    } else {
        after.finished_at = None;
        if label.standing.state != LabelState::Expired || changed {
            after.state = LabelState::Active;
        }
    }
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
            let judged = terms.patience.next(after, label, now);
            let at =
                judged.filter(|_| after.state == LabelState::Active).map_or(next.at, |at| at.min(next.at));
            after.next_poll_at = Some(whole_ms(at));
            after.cadence_row = Some(next.row.to_owned());
            after.interval_ms = i64::try_from(next.interval.as_millis()).ok();
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
    let seq = plan.standing.last_seq + 1;
    plan.messages.push(compose(&label.subject(&plan.standing), seq, now, change));
    plan.standing.last_seq = seq;
}

fn refused(label: &Snapshot, detail: &str, now: Timestamp, jitter: f64) -> PollPlan {
    let mut plan = untouched(label);
    let after = &mut plan.standing;
    after.refusals = after.refusals.saturating_add(1);
    let since = *after.refused_since.get_or_insert(now);
    let patient = after.refusals < REFUSALS || now.duration_since(since) < REFUSED_FOR;
    if !patient && after.state == LabelState::Active {
        after.state = LabelState::Unavailable;
        after.next_poll_at = None;
        append(label, &mut plan, now, &Change::Unavailable { since, detail: detail.to_owned() });
        return plan;
    }
    let hours = match after.refusals {
        1 => 1,
        2 => 6,
        _ => 24,
    };
    retry(label, after, Duration::from_secs(hours * 3600), now, jitter);
    plan
}

/// The account's matter, most likely. But should it be this label's alone, it must not be the next probe too: it goes
/// behind the others, ever further. No failure is counted.
fn stepped_back(label: &Snapshot, now: Timestamp) -> PollPlan {
    let mut plan = untouched(label);
    let after = &mut plan.standing;
    let before = label.standing.interval_ms.filter(|_| label.standing.cadence_row.as_deref() == Some(BEHIND));
    let wait = before.map_or(Duration::from_secs(60), |ms| Duration::from_millis(ms.unsigned_abs()) * 2);
    let wait = wait.min(Duration::from_secs(24 * 3600));
    retry(label, after, wait, now, 0.0);
    after.cadence_row = Some(BEHIND.to_owned());
    after.interval_ms = i64::try_from(wait.as_millis()).ok();
    plan
}

fn failed(terms: &Terms<'_>, label: &Snapshot, now: Timestamp, jitter: f64) -> PollPlan {
    let mut plan = untouched(label);
    let after = &mut plan.standing;
    let wait = backoff(after.failures);
    if !terms.outage {
        after.failures = after.failures.saturating_add(1);
        after.failing_since = after.failing_since.or(Some(now));
    }
    retry(label, after, wait, now, jitter);
    plan
}

/// Again after `wait`. A label that is not active was asked about by hand: it goes back to where it was.
fn retry(label: &Snapshot, after: &mut Standing, wait: Duration, now: Timestamp, jitter: f64) {
    let wait = wait.mul_f64(1.0 + super::cadence::JITTER * jitter.clamp(-1.0, 1.0));
    let at = now.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX));
    let asked_by_hand = label.standing.state != LabelState::Active;
    after.next_poll_at = if asked_by_hand { None } else { at.ok().map(whole_ms) };
    after.cadence_row = None;
    after.interval_ms = None;
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
