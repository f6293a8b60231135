//! The labels of the database, and the changes of the registry.

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::{AccountName, LabelId, LabelKey, LabelState};
use trackpost::domain::polling::label_record::{LabelRecord, PollState};
use trackpost::domain::time::after;

use super::database::Database;

/// A removed label that comes back within this time keeps its schedule.
const RESUMES_WITHIN: SignedDuration = SignedDuration::from_hours(24);

impl Database {
    pub fn insert_label(&mut self, row: i64, account: &AccountName, id: &LabelId, now: Timestamp) {
        self.registry += 1;
        let record = LabelRecord {
            row,
            key: LabelKey { account: account.clone(), id: id.clone() },
            metadata: Default::default(),
            version: self.registry,
            registered_at: now,
            poll_state: PollState::new(now),
            recent_polls: "[]".to_owned(),
        };
        self.labels.insert(row, record);
    }

    pub fn remove_label(&mut self, row: i64, now: Timestamp) {
        let Some(label) = self.labels.get_mut(&row) else { return };
        let state = &mut label.poll_state;
        if state.state == LabelState::Removed {
            return;
        }
        self.registry += 1;
        label.version = self.registry;
        self.retired.insert(row, (now, state.state, state.next_poll_at));
        (state.state, state.next_poll_at) = (LabelState::Removed, None);
    }

    /// Registers a removed label again. Returns the wait until its next poll at most.
    pub fn register_label(&mut self, row: i64, now: Timestamp) -> Option<SignedDuration> {
        let (retired_at, state, next) = self.retired.remove(&row)?;
        self.registry += 1;
        let label = self.labels.get_mut(&row)?;
        label.version = self.registry;
        let after = &mut label.poll_state;
        if retired_at >= now - RESUMES_WITHIN {
            (after.state, after.next_poll_at) = (state, next);
            return after.wait.map(|wait| SignedDuration::try_from(wait).unwrap());
        }
        let finished = after.finished_at.is_some();
        after.state = if finished { LabelState::Finished } else { LabelState::Active };
        after.next_poll_at = (!finished).then_some(now);
        (after.wait, after.pace) = (None, None);
        (after.last_changed_at, after.last_answer_at) = (Some(now), None);
        (after.failures, after.failing_since, after.refusals, after.refused_since) = (0, None, 0, None);
        Some(SignedDuration::ZERO)
    }

    pub fn poll_now(&mut self, row: i64, now: Timestamp) {
        let Some(label) = self.labels.get_mut(&row) else { return };
        if label.poll_state.state == LabelState::Removed {
            return;
        }
        self.registry += 1;
        label.version = self.registry;
        label.poll_state.next_poll_at = Some(now);
        (label.poll_state.wait, label.poll_state.pace) = (None, None);
    }

    pub fn pull_in_labels(&mut self, now: Timestamp) {
        for state in self.labels.values_mut().map(|label| &mut label.poll_state) {
            if state.is_due_too_late(now) {
                state.next_poll_at = Some(after(now, state.wait.unwrap_or_default()));
            }
        }
    }
}
