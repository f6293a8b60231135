//! A tracking answer: what is new in it, what becomes of the label, and what is told of it.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::{FirstPoll, PollPlan, Terms, good, silence};
use crate::domain::cadence::guess_offset;
use crate::domain::change;
use crate::domain::digest::Digest;
use crate::domain::event::{KnownEvent, match_events};
use crate::domain::freshness;
use crate::domain::history;
use crate::domain::label::LabelState;
use crate::domain::message::Message;
use crate::domain::message::body::{compose, summarize};
use crate::domain::message::news::Change;
use crate::domain::silence::newest_scan;
use crate::domain::snapshot::{Snapshot, Standing};
use crate::domain::tracking::Tracking;

pub(super) fn answered(
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
