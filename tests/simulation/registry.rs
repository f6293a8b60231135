//! The labels of the database, and the changes of the registry.

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::{AccountName, LabelId, LabelKey, LabelState, Source};
use trackpost::domain::polling::label_record::{LabelRecord, PollState};
use trackpost::domain::registration::{
    self, Origin, RegistrationRecord, RegistrationWrite, RegistryChange, WantedRegistration,
};
use trackpost::domain::time::{after, signed};

use super::database::Database;

impl Database {
    pub fn insert_label(&mut self, row: i64, account: &AccountName, id: &LabelId, now: Timestamp) {
        let record = LabelRecord {
            row,
            key: LabelKey { account: account.clone(), id: id.clone() },
            metadata: Default::default(),
            version: self.next_change(now).version,
            registered_at: now,
            poll_state: PollState::new(now),
            recent_polls: "[]".to_owned(),
        };
        self.labels.insert(row, record);
    }

    fn next_change(&mut self, now: Timestamp) -> RegistryChange {
        self.registry += 1;
        RegistryChange { by: Origin::Config, version: self.registry, now }
    }

    fn registration(&self, row: i64) -> Option<RegistrationRecord> {
        let label = self.labels.get(&row)?;
        let state = &label.poll_state;
        Some(RegistrationRecord {
            by_config: state.state != LabelState::Removed,
            by_hand: false,
            by_discovery: false,
            dismissed: false,
            source: Source::File,
            metadata: "{}".to_owned(),
            file_key: None,
            version: label.version,
            state: state.state,
            next_poll_at: state.next_poll_at,
            finished_at: state.finished_at,
            last_answer_at: state.last_answer_at,
            retired: self.retired.get(&row).copied(),
        })
    }

    fn write_registration(&mut self, row: i64, record: RegistrationRecord) -> Option<&mut PollState> {
        self.retired.remove(&row);
        self.retired.extend(record.retired.map(|retired| (row, retired)));
        let label = self.labels.get_mut(&row)?;
        label.version = record.version;
        let state = &mut label.poll_state;
        (state.state, state.next_poll_at) = (record.state, record.next_poll_at);
        state.last_answer_at = record.last_answer_at;
        Some(state)
    }

    pub fn remove_label(&mut self, row: i64, now: Timestamp) {
        let change = self.next_change(now);
        let registered = self.registration(row);
        if let Some(record) = registered.and_then(|record| registration::withdraw(&record, change)) {
            self.write_registration(row, record);
        }
    }

    /// Registers a removed label again. Returns the wait until its next poll at most.
    pub fn register_label(&mut self, row: i64, now: Timestamp) -> Option<SignedDuration> {
        let wanted = WantedRegistration { source: Source::File, metadata: "{}".to_owned(), file_key: None };
        let change = self.next_change(now);
        match registration::register(Some(&self.registration(row)?), &wanted, change) {
            RegistrationWrite::Nothing | RegistrationWrite::Insert(_) => None,
            RegistrationWrite::Update(record) => self.write_registration(row, record)?.wait.map(signed),
            RegistrationWrite::Restart(record) => {
                let after = self.write_registration(row, record)?;
                (after.reason, after.wait, after.pace) = (None, None, None);
                after.last_changed_at = Some(now);
                (after.failures, after.failing_since, after.refusals, after.refused_since) =
                    (0, None, 0, None);
                Some(SignedDuration::ZERO)
            }
        }
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
