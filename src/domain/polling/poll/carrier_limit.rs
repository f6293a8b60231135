//! Plan for a carrier that limits requests: its labels wait, other labels of the account are polled, and no failure is
//! counted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::failing::retry;
use super::{PollPlan, PollReason, empty_plan};
use crate::domain::polling::account_status::{DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER};
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::time::millis;
use crate::domain::tracking::reading::Reading;

/// Plans the next poll. If the answer names the carrier of the label, the label stays due and waits for the carrier.
/// Otherwise it waits by itself.
pub(super) fn plan(
    label: &LabelRecord,
    carrier: Option<&str>,
    retry_after: Option<Duration>,
    now: Timestamp,
) -> PollPlan {
    let mut plan = empty_plan(label);
    let own = label.poll_state.carrier_code.as_deref();
    if own.is_none() || (carrier.is_some() && carrier != own) {
        let wait = carrier_wait(retry_after);
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
    let until = now.saturating_add(SignedDuration::try_from(carrier_wait(*retry_after)).ok()?);
    Some((carrier, until.unwrap_or(Timestamp::MAX)))
}

fn carrier_wait(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(DEFAULT_RETRY_AFTER).clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER)
}
