//! Plans of answers without tracking: the wait of the label, and the end after repeated refusals (contract 3).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{PollContext, PollPlan, PollReason, append_message, empty_plan};
use crate::domain::label::LabelState;
use crate::domain::messages::change::Change;
use crate::domain::polling::account_status::{backoff, throttled_wait};
use crate::domain::polling::cadence::POLL_JITTER;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::time::{self, SHORTAGE_PAUSE, millis, whole_ms};
use crate::domain::tracking::reading::Reading;

/// Number of refusals in a row after which a label is unavailable, if [`REFUSED_FOR`] has passed too.
const REFUSALS: u32 = 5;
/// Time from the first of these refusals to the last, at least (contract 3).
const REFUSED_FOR: SignedDuration = SignedDuration::from_hours(72);

/// Plans a refusal of the label.
pub(super) fn plan_refusal(label: &LabelRecord, detail: &str, now: Timestamp, jitter: f64) -> PollPlan {
    let mut plan = empty_plan(label);
    let after = &mut plan.poll_state;
    after.refusals = after.refusals.saturating_add(1);
    let since = *after.refused_since.get_or_insert(now);
    let within_limits = after.refusals < REFUSALS || now.duration_since(since) < REFUSED_FOR;
    if !within_limits && after.state == LabelState::Active {
        after.state = LabelState::Unavailable;
        (after.next_poll_at, after.reason) = (None, None);
        append_message(label, &mut plan, now, &Change::Unavailable { since, detail: detail.to_owned() });
        return plan;
    }
    let hours = match after.refusals {
        1 => 1,
        2 => 6,
        _ => 24,
    };
    let wait = Duration::from_secs(hours * 3600);
    let reason = PollReason::Refused { refusals: after.refusals, interval_ms: millis(wait) };
    retry(label, after, wait, reason, now, jitter);
    plan
}

/// Plans a refusal that probably concerns the account. The label waits longer each time, so that another label is the
/// next probe, in case the refusal concerns only this one. No failure is counted.
pub(super) fn plan_account_refusal(label: &LabelRecord, now: Timestamp) -> PollPlan {
    let mut plan = empty_plan(label);
    let after = &mut plan.poll_state;
    let wait = match &label.poll_state.reason {
        Some(PollReason::Unauthorized { interval_ms }) => Duration::from_millis(*interval_ms) * 2,
        _ => Duration::from_secs(60),
    };
    let wait = wait.min(Duration::from_secs(24 * 3600));
    retry(label, after, wait, PollReason::Unauthorized { interval_ms: millis(wait) }, now, 0.0);
    plan
}

/// Plans a shortage of this machine: no request was sent, and nothing is counted.
pub(super) fn plan_shortage(label: &LabelRecord, now: Timestamp, jitter: f64) -> PollPlan {
    let mut plan = empty_plan(label);
    let reason = PollReason::Shortage { interval_ms: millis(SHORTAGE_PAUSE) };
    retry(label, &mut plan.poll_state, SHORTAGE_PAUSE, reason, now, jitter);
    plan
}

/// Plans a failure of the request or its answer. It counts for the label unless the account is down.
pub(super) fn plan_failure(
    context: &PollContext<'_>,
    label: &LabelRecord,
    now: Timestamp,
    jitter: f64,
) -> PollPlan {
    let mut plan = empty_plan(label);
    let after = &mut plan.poll_state;
    let wait = backoff(after.failures);
    if !context.account_not_ok {
        after.failures = after.failures.saturating_add(1);
        after.failing_since = after.failing_since.or(Some(now));
    }
    let reason = PollReason::Failed { failures: after.failures, interval_ms: millis(wait) };
    retry(label, after, wait, reason, now, jitter);
    plan
}

/// Plans an answer of a carrier that limits requests: its labels wait, other labels of the account are polled, and no
/// failure is counted. If the answer names the carrier of the label, the label stays due and waits for the carrier.
/// Otherwise it waits by itself.
pub(super) fn plan_carrier_limit(
    label: &LabelRecord,
    carrier: Option<&str>,
    retry_after: Option<Duration>,
    now: Timestamp,
) -> PollPlan {
    let mut plan = empty_plan(label);
    let own = label.poll_state.carrier_code.as_deref();
    if own.is_none() || (carrier.is_some() && carrier != own) {
        let wait = throttled_wait(retry_after);
        let reason = PollReason::CarrierThrottled { interval_ms: millis(wait) };
        retry(label, &mut plan.poll_state, wait, reason, now, 0.0);
    }
    plan
}

/// Returns the carrier that limits requests and the end of its wait.
pub fn throttled_carrier(
    reading: &Reading,
    label: &LabelRecord,
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let Reading::CarrierThrottled { carrier, retry_after } = reading else { return None };
    let carrier = carrier.as_ref().or(label.poll_state.carrier_code.as_ref())?.clone();
    Some((carrier, time::after(now, throttled_wait(*retry_after))))
}

/// Plans the next poll after `wait`. A label that is not active was polled by hand and goes back to its state.
fn retry(
    label: &LabelRecord,
    after: &mut PollState,
    wait: Duration,
    reason: PollReason,
    now: Timestamp,
    jitter: f64,
) {
    let wait = wait.mul_f64(1.0 + POLL_JITTER * jitter.clamp(-1.0, 1.0));
    let at = time::after(now, wait);
    let requested_by_hand = label.poll_state.state != LabelState::Active;
    after.next_poll_at = if requested_by_hand { None } else { Some(whole_ms(at)) };
    after.reason = Some(reason).filter(|_| !requested_by_hand);
}
