//! Plan of a tracking answer: new events, the label's new state, and the messages.

use jiff::Timestamp;

use super::diff::{self, BeforeAfter};
use super::{FirstPoll, PollContext, PollPlan, plan_of_good_answer, take_due_alerts};
use crate::domain::digest::Digest;
use crate::domain::label::LabelState;
use crate::domain::messages::body::{compose, summarize};
use crate::domain::messages::change::Change;
use crate::domain::messages::{Message, next_seq};
use crate::domain::polling::alerts::newest_scan;
use crate::domain::polling::cadence::guess_offset;
use crate::domain::polling::freshness;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::tracking::history;
use crate::domain::tracking::matching::{KnownEvent, match_events};
use crate::domain::tracking::{DeliveryScans, Tracking, TrackingEvent};

/// Plans a changed answer: its events, its messages, and the label's state and fields.
pub(super) fn plan_answer(
    context: &PollContext<'_>,
    label: &LabelRecord,
    known: &[KnownEvent],
    tracking: &Tracking,
    digest: Digest,
    now: Timestamp,
) -> PollPlan {
    let mut plan = plan_of_good_answer(label, now);
    let first = label.poll_state.first_answer_at.is_none();
    let matching = match_events(&label.key, known, &tracking.events);
    let (writes, changed) = history::plan(known, &matching);
    let after = &mut plan.poll_state;
    copy_fields(after, tracking, digest, now);
    after.missing_events = writes.missing_after;
    plan.events = writes;
    plan.measurements = freshness::delays_of_events(label, &changed.added, &tracking.events, now);
    let deliveries = DeliveryScans::of(&tracking.events);
    let kept =
        known.iter().enumerate().filter(|(at, event)| !event.retracted && !matching.retracted.contains(at));
    let kept = kept.map(|(_, event)| event);
    let is_delivered_beneath =
        !after.is_terminal() && is_delivered_by_scan(&label.poll_state, deliveries, kept, tracking);
    after.delivered_beneath_at =
        is_delivered_beneath.then(|| label.poll_state.delivered_beneath_at.unwrap_or(now));

    let mut new_scan = None;
    if !changed.added.is_empty() {
        let is_new = |index| changed.added.iter().any(|event| event.index == Some(index));
        let scan = newest_scan(&tracking.events, is_new, after.utc_offset(), now);
        // For this poll the instant is moved by the gaps, as all instants of the label are. It is stored unmoved.
        let moved = scan.map(|at| context.gaps.moved(at, now)).max(after.newest_scan_at);
        if moved != after.newest_scan_at {
            (after.newest_scan_at, after.stalled_sent, new_scan) = (moved, false, scan);
        }
    }
    let step = BeforeAfter { before: &label.poll_state, after, tracking, deliveries, first };
    let changes = diff::changes(&step, changed);
    after.late_sent &= !changes.iter().any(|change| matches!(change, Change::Estimate { .. }));
    if changes.is_empty() {
        after.unchanged = if first { 0 } else { after.unchanged.saturating_add(1) };
    } else {
        after.unchanged = 0;
        after.last_changed_at = Some(now);
    }
    update_state(label, after, !changes.is_empty(), now);
    let alerts = take_due_alerts(context, label, after, now);
    after.newest_scan_at = new_scan.or(after.newest_scan_at);
    if first && context.first_poll == FirstPoll::Baseline {
        return plan;
    }
    if !changes.is_empty() || !alerts.is_empty() {
        plan.messages =
            compose_messages(context, label, &mut plan.poll_state, &changes, &alerts, tracking, now);
    }
    plan
}

/// Composes the messages of a poll: changes, alerts, and the summary of the changes last. `seq` continues from the label's
/// last one.
fn compose_messages(
    context: &PollContext<'_>,
    label: &LabelRecord,
    after: &mut PollState,
    changes: &[Change],
    alerts: &[Change],
    tracking: &Tracking,
    now: Timestamp,
) -> Vec<Message> {
    let subject = label.message_fields(after);
    let mut seq = after.last_seq;
    let mut next = || {
        seq = next_seq(seq, now);
        seq
    };
    let mut messages: Vec<Message> =
        changes.iter().chain(alerts).map(|change| compose(&subject, next(), now, change)).collect();
    if !changes.is_empty() {
        messages.push(summarize(&subject, next(), now, changes, tracking, context.resource_url.to_owned()));
    }
    after.last_seq = seq;
    messages
}

/// Takes the fields of the answer into the state. A null status keeps the last one.
fn copy_fields(after: &mut PollState, tracking: &Tracking, digest: Digest, now: Timestamp) {
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
        let offset = guess_offset(newest.longitude(), newest.country_code());
        after.utc_offset_minutes = Some(offset.seconds() / 60);
    }
}

/// Whether the parcel is delivered although its status differs: a delivery among the scans of this answer, or among
/// earlier scans that dropped out of the list, after which it did not move.
fn is_delivered_by_scan<'k>(
    before: &PollState,
    deliveries: DeliveryScans,
    kept: impl Iterator<Item = &'k KnownEvent>,
    tracking: &Tracking,
) -> bool {
    if deliveries != DeliveryScans::default() || !before.is_delivered() {
        return deliveries.current.is_some();
    }
    let earlier = kept.filter_map(|event| TrackingEvent::parse(&event.raw).ok());
    // Scans of both lists appear twice, which changes nothing.
    let scans: Vec<_> = tracking.events.iter().cloned().chain(earlier).collect();
    DeliveryScans::of(&scans).current.is_some()
}

/// Finishes the label, reopens it, or activates it again after a poll by hand. An expired label becomes active only with
/// a change, because only a change ends the quiet time for which it expired.
pub(super) fn update_state(label: &LabelRecord, after: &mut PollState, changed: bool, now: Timestamp) {
    let was_finished = label.poll_state.state == LabelState::Finished;
    if after.is_terminal() {
        if !was_finished {
            after.finished_at = Some(now);
        }
        after.state = LabelState::Finished;
        return;
    }
    // A poll by hand or for `settle`: the label stays finished unless it moved.
    if was_finished && label.poll_state.delivered_beneath_at.is_some() && !changed && after.is_delivered() {
        return;
    }
    after.finished_at = None;
    if label.poll_state.state != LabelState::Expired || changed {
        after.state = LabelState::Active;
    }
    // The delivery has been under a newer scan for long enough, for any status.
    if after.finishes_at().is_some_and(|at| at <= now) {
        after.state = LabelState::Finished;
        after.finished_at = Some(now);
    }
}
