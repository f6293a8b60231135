//! The labels of the database, and the changes of the registry.

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::{AccountName, LabelId, LabelKey, LabelState, Source};
use trackpost::domain::polling::discovery::{DiscoveryProgress, PageResult};
use trackpost::domain::polling::label_record::{LabelRecord, PollState};
use trackpost::domain::registration::{
    self, RegisteredBy, RegistrationRecord, RegistrationWrite, RegistryChange, WantedRegistration,
};
use trackpost::domain::time::{after, signed};

use super::database::Database;

impl Database {
    pub fn insert_label(&mut self, row: i64, account: &AccountName, id: &LabelId, now: Timestamp) {
        let change = self.next_change(RegisteredBy::Config, now);
        let wanted = wanted(Source::File);
        if let RegistrationWrite::Insert(registered) = registration::register(None, &wanted, change) {
            self.insert(row, LabelKey { account: account.clone(), id: id.clone() }, registered, now);
        }
    }

    fn insert(&mut self, row: i64, key: LabelKey, registered: RegistrationRecord, now: Timestamp) {
        let record = LabelRecord {
            row,
            key,
            metadata: Default::default(),
            version: registered.version,
            registered_at: now,
            poll_state: PollState::new(now),
            recent_polls: "[]".to_owned(),
        };
        self.registrations.insert(row, registered);
        self.labels.insert(row, record);
    }

    fn next_change(&mut self, by: RegisteredBy, now: Timestamp) -> RegistryChange {
        self.registry += 1;
        RegistryChange { by, version: self.registry, now }
    }

    fn registration(&self, row: i64) -> Option<RegistrationRecord> {
        let label = self.labels.get(&row)?;
        let state = &label.poll_state;
        Some(RegistrationRecord {
            version: label.version,
            state: state.state,
            next_poll_at: state.next_poll_at,
            finished_at: state.finished_at,
            last_answer_at: state.last_answer_at,
            ..self.registrations[&row].clone()
        })
    }

    fn write_registration(&mut self, row: i64, record: RegistrationRecord) -> Option<&mut PollState> {
        let label = self.labels.get_mut(&row)?;
        label.version = record.version;
        let state = &mut label.poll_state;
        (state.state, state.next_poll_at) = (record.state, record.next_poll_at);
        state.last_answer_at = record.last_answer_at;
        self.registrations.insert(row, record);
        Some(state)
    }

    pub fn remove_label(&mut self, row: i64, now: Timestamp) {
        self.withdraw(row, RegisteredBy::Config, now);
    }

    fn withdraw(&mut self, row: i64, by: RegisteredBy, now: Timestamp) {
        let change = self.next_change(by, now);
        let registered = self.registration(row);
        if let Some(record) = registered.and_then(|record| registration::withdraw(&record, change)) {
            self.write_registration(row, record);
        }
    }

    /// Registers a removed label again. Returns the wait until its next poll at most.
    pub fn register_label(&mut self, row: i64, now: Timestamp) -> Option<SignedDuration> {
        let change = self.next_change(RegisteredBy::Config, now);
        match registration::register(Some(&self.registration(row)?), &wanted(Source::File), change) {
            RegistrationWrite::Nothing | RegistrationWrite::Insert(_) => None,
            RegistrationWrite::Update(record) => self.write_registration(row, record)?.wait.map(signed),
            RegistrationWrite::Restart(record) => {
                self.restart(row, record, now);
                Some(SignedDuration::ZERO)
            }
        }
    }

    fn restart(&mut self, row: i64, record: RegistrationRecord, now: Timestamp) {
        let Some(after) = self.write_registration(row, record) else { return };
        (after.reason, after.wait, after.pace) = (None, None, None);
        after.last_changed_at = Some(now);
        (after.failures, after.failing_since, after.refusals, after.refused_since) = (0, None, 0, None);
    }

    /// Writes a page of the list. `account` and `row`: the labels' account, and the row of each id.
    pub fn write_discovered(
        &mut self,
        page: &PageResult,
        progress: DiscoveryProgress,
        account: &AccountName,
        row: impl Fn(&LabelId) -> i64,
        now: Timestamp,
    ) {
        self.discovery = progress;
        let change = self.next_change(RegisteredBy::Discovery, now);
        for label in &page.tracked {
            let row = row(&label.id);
            let stored = self.registration(row);
            match registration::register(stored.as_ref(), &wanted(Source::Discovered), change) {
                RegistrationWrite::Nothing => continue,
                RegistrationWrite::Update(record) => {
                    self.write_registration(row, record);
                    continue;
                }
                RegistrationWrite::Insert(record) => {
                    self.insert(
                        row,
                        LabelKey { account: account.clone(), id: label.id.clone() },
                        record,
                        now,
                    );
                }
                RegistrationWrite::Restart(record) => self.restart(row, record, now),
            }
            *self.discovered.entry(row).or_default() += 1;
        }
        for id in &page.voided {
            self.withdraw(row(id), RegisteredBy::Discovery, now);
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

fn wanted(source: Source) -> WantedRegistration {
    WantedRegistration { source, metadata: "{}".to_owned(), file_key: None }
}
