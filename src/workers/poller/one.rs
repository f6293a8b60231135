//! One poll: a request and the result of its answer.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::PollPolicy;
use crate::clock::{self, StepClock};
use crate::crash::CrashPoint;
use crate::domain::label::LabelId;
use crate::domain::polling::freshness::{FreshnessKind, Measurement};
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::polling::learning::{LearnedRates, Wait};
use crate::domain::polling::poll;
use crate::domain::polling::poll::{PollContext, PollPlan, UnchangedPlan};
use crate::domain::polling::schedule::{Entry, EntryIndex};
use crate::domain::tracking::reading::Reading;
use crate::domain::words::counted;
use crate::metrics::metrics;
use crate::store::StoreError;
use crate::store::polls::{PollRecord, RecordResult, UnchangedPoll};
use crate::workers::account_access::{AccountAccess, AccountUpdate, AllowedRequest, Permit};
use crate::workers::heartbeat::Heartbeat;
use crate::workers::learned_rates::SharedRates;

/// Values that the polls of an account share.
pub(super) struct PollerShared {
    pub access: Arc<AccountAccess>,
    pub policy: watch::Receiver<Arc<PollPolicy>>,
    pub learned_rates: SharedRates,
    pub heartbeat: Heartbeat,
}

/// A label in flight, as it was when its poll started.
pub(super) struct LabelInFlight {
    pub index: EntryIndex,
    pub entry: Entry,
    pub id: LabelId,
    pub carrier: Option<Arc<str>>,
    pub service: Option<Arc<str>>,
    /// Its last poll, if that is not written yet.
    pub unwritten: Option<UnchangedPoll>,
    pub sent_at: Timestamp,
}

/// A poll that has ended.
pub(super) struct EndedPoll {
    pub polled: LabelInFlight,
    /// A carrier whose labels wait, with the end of the wait.
    pub held: Option<(String, Timestamp)>,
    pub found: PollResult,
    pub at: Timestamp,
}

/// Result of a poll that has ended.
pub(super) enum PollResult {
    /// The only result is the time of the next poll, in memory.
    Unchanged(Box<UnchangedPlan>),
    /// The result was written, except the measurements; the label as it is now.
    Recorded(Box<LabelRecord>, Vec<Measurement>),
    /// The registry changed or removed the label during the poll; nothing was written.
    Superseded,
}

/// Sends the request and applies the answer.
pub(super) async fn poll(
    shared: Arc<PollerShared>,
    permit: Permit,
    polled: LabelInFlight,
    now: Timestamp,
) -> Result<EndedPoll, StoreError> {
    let (access, allowed) = (&shared.access, permit.allowed);
    let running = StepClock::since(now);
    let reading = access.client.read(&access.account, &polled.id, polled.entry.plain_digest(), now).await;
    drop(permit);
    // The time of the recording step, read once after the request.
    let at = running.now();
    let observed = access.observe(Some(polled.entry.row), &reading.signal(), allowed, at);
    shared.heartbeat.beat(at);
    if matches!(reading, Reading::SameBytes)
        && observed.is_none()
        && let Some(next) = plan_unchanged(&shared, &polled, at)
    {
        debug!(label_id = %polled.id, account = %access.account.name, "poll: unchanged");
        metrics().polled(access.account.name.as_str(), "unchanged", false);
        return Ok(EndedPoll { polled, held: None, found: PollResult::Unchanged(Box::new(next)), at });
    }
    let (found, held) = record(&shared, &polled, reading, observed, allowed, at).await?;
    Ok(EndedPoll { polled, held, found, at })
}

/// Returns the next poll after an unchanged answer, if nothing else follows.
fn plan_unchanged(shared: &PollerShared, polled: &LabelInFlight, now: Timestamp) -> Option<UnchangedPlan> {
    let policy = Arc::clone(&shared.policy.borrow());
    let (carrier, service) = (polled.carrier.as_deref(), polled.service.as_deref());
    let next = shared.learned_rates.with(|rates| {
        let situation = &polled.entry.unchanged_situation();
        let suggestion = rates.suggest(&policy.cadence, situation, carrier, service, now);
        poll::plan_unchanged(&policy.cadence, suggestion, &polled.entry, now, clock::jitter())
    })?;
    if let Some(from) = polled.answered_at() {
        let situation = &polled.entry.situation();
        shared.learned_rates.learn_wait(Wait {
            carrier,
            service,
            situation,
            from,
            until: now,
            changed: false,
        });
    }
    Some(next)
}

impl LabelInFlight {
    /// Time of the good answer before this one.
    fn answered_at(&self) -> Option<Timestamp> {
        self.unwritten.as_ref().map(|poll| poll.polled_at).or(self.entry.answered_at())
    }
}

/// Reads the label's row and history, plans the result of the answer, and writes it.
async fn record(
    shared: &PollerShared,
    polled: &LabelInFlight,
    reading: Reading,
    observed: Option<AccountUpdate>,
    allowed: AllowedRequest,
    now: Timestamp,
) -> Result<(PollResult, Option<(String, Timestamp)>), StoreError> {
    let access = &shared.access;
    let policy = Arc::clone(&shared.policy.borrow());
    let account = observed.map(|observed| access.account_record(observed, &policy.subscribers, now));
    let (label, known) = access.store.label_with_history(polled.entry.row, &reading).await?;
    let current = label.filter(|label| label.version == i64::from(polled.entry.version));
    let Some(mut label) = current else {
        debug!(label_id = %polled.id, "the label changed during the poll; it is polled again");
        if let Some(account) = account {
            access.store.record_account(account).await?;
        }
        return Ok((PollResult::Superseded, None));
    };
    if let Some(unwritten) = &polled.unwritten {
        unwritten.apply(&mut label.poll_state);
    }
    let url = access.account.tracking_url(&label.key.id);
    let context = PollContext {
        cadence: &policy.cadence,
        rates: &LearnedRates::default(),
        alerts: &policy.alerts,
        first_poll: policy.first_poll,
        subscribers: &policy.subscribers,
        resource_url: &url,
        account_not_ok: access.probing(),
        sent_at: allowed.sent_at,
        gaps: &clock::gaps(),
    };
    let plan = |reading: &Reading| {
        shared.learned_rates.with(|rates| {
            poll::plan(&PollContext { rates, ..context }, &label, &known, reading, now, clock::jitter())
        })
    };
    let found = plan(&reading);
    let (mut after, mut effect) = (found.poll_state.clone(), PollEffect::of(&found));
    let mut reading = reading;
    // Crash point: the label is still due, and the API returns the same answer again.
    CrashPoint::AnswerRead.reached();
    let held = poll::throttled_carrier(&reading, &label, now);
    let record = PollRecord::new(&label, known.len(), found, now, account.clone());
    let recorded = match access.store.record_poll(record).await {
        Err(error) if error.is_refusal() => {
            // An answer that violates a constraint of the database is a failure of this label only.
            error!(label_id = %label.key.id, %error, "the database rejected the answer; the label is polled again later");
            let detail = format!("the answer cannot be recorded: {error}");
            let garbled = Reading::Garbled { status: 200, detail };
            let found = plan(&garbled);
            (after, effect, reading) = (found.poll_state.clone(), PollEffect::of(&found), garbled);
            access.store.record_poll(PollRecord::new(&label, known.len(), found, now, account)).await
        }
        recorded => recorded,
    };
    match recorded? {
        RecordResult::Done => {
            if matches!(reading, Reading::Answer { .. } | Reading::SameBytes) {
                shared.learned_rates.learn(&label, &after, now);
            }
            log_poll(&label, &reading, &effect);
            count_poll(&label, &reading, &effect, now);
            label.poll_state = after;
            Ok((PollResult::Recorded(Box::new(label), effect.measurements), held))
        }
        RecordResult::Superseded => {
            debug!(label_id = %label.key.id, "the label changed during the poll; it is polled again");
            Ok((PollResult::Superseded, held))
        }
    }
}

/// Effect of a recorded poll, for logs and metrics.
struct PollEffect {
    status: String,
    messages: usize,
    measurements: Vec<Measurement>,
}

impl PollEffect {
    fn of(plan: &PollPlan) -> Self {
        let status = plan.poll_state.status_code.clone().unwrap_or_default();
        Self { status, messages: plan.messages.len(), measurements: plan.measurements.clone() }
    }
}

fn log_poll(label: &LabelRecord, reading: &Reading, effect: &PollEffect) {
    let (id, account) = (&label.key.id, &label.key.account);
    match reading.detail() {
        None if effect.messages == 0 => debug!(label_id = %id, account = %account, "poll: unchanged"),
        None => {
            let PollEffect { status, messages, .. } = effect;
            info!(label_id = %id, account = %account, status_code = status, messages,
                "poll: changed: {id}, status {status}, {}", counted(*messages as u64, "message"));
        }
        Some(detail) => {
            let outcome = reading.as_str();
            warn!(label_id = %id, account = %account, outcome, detail, "poll: failed: {id}: {outcome}: {detail}");
        }
    }
}

fn count_poll(label: &LabelRecord, reading: &Reading, effect: &PollEffect, now: Timestamp) {
    let account = label.key.account.as_str();
    let changed = effect.messages > 0;
    let outcome = match reading {
        Reading::Answer { .. } | Reading::SameBytes if changed => "changed",
        Reading::Answer { .. } | Reading::SameBytes => "unchanged",
        failed => failed.as_str(),
    };
    metrics().polled(account, outcome, changed);
    let Some(answered_at) = label.poll_state.last_answer_at else { return };
    let after = now.duration_since(answered_at).try_into().unwrap_or_default();
    let noticed = effect.measurements.iter().filter(|noticed| noticed.kind == FreshnessKind::SinceLastPoll);
    noticed.for_each(|noticed| metrics().noticed(account, noticed.delivered, after));
}
