//! The instants of a label from which time without an event counts, corrected for jumps of the clock (contract 9.5).

use jiff::Timestamp;

use crate::domain::clock::Gaps;
use crate::domain::polling::label_record::{LabelRecord, PollState};

/// Returns the label with its instants moved by the gaps since each, as of `now`.
pub fn shift(gaps: &Gaps, label: &LabelRecord, now: Timestamp) -> LabelRecord {
    let mut label = label.clone();
    label.registered_at = gaps.moved(label.registered_at, now);
    for at in instants(&mut label.poll_state) {
        *at = at.map(|at| gaps.moved(at, now));
    }
    label
}

/// Restores the instants that [`shift`] moved, because the next poll moves them again. An instant in the future stays
/// at `now`.
pub fn restore(gaps: &Gaps, after: &mut PollState, before: &PollState, now: Timestamp) {
    let mut before = before.clone();
    for (after, before) in instants(after).into_iter().zip(instants(&mut before)) {
        if let Some(at) = before.filter(|at| *at <= now && Some(gaps.moved(*at, now)) == *after) {
            *after = Some(at);
        }
    }
}

/// The instants from which quiet time and failures count.
fn instants(state: &mut PollState) -> [&mut Option<Timestamp>; 6] {
    [
        &mut state.last_changed_at,
        &mut state.newest_scan_at,
        &mut state.delivered_beneath_at,
        &mut state.refused_since,
        &mut state.failing_since,
        &mut state.finished_at,
    ]
}
