//! Registration of labels: the effect of configuration, commands and discovery on a label's row.

use jiff::{SignedDuration, Timestamp};

use super::label::{LabelState, Source};

/// A label that returns to the label files within this time keeps its schedule (contract 2.2).
const RESUMES_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Origin of a registration: configuration and label files, a command, or discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisteredBy {
    Config,
    Hand,
    Discovery,
}

/// A change of registrations: its origin, its registry version and its time.
#[derive(Clone, Copy, Debug)]
pub struct RegistryChange {
    pub by: RegisteredBy,
    pub version: i64,
    pub now: Timestamp,
}

/// Values of a registration.
#[derive(Clone, Debug)]
pub struct WantedRegistration {
    pub source: Source,
    /// JSON object.
    pub metadata: String,
    /// The label file that lists the label.
    pub file_key: Option<i64>,
}

/// The part of a label's row that registrations write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationRecord {
    pub by_config: bool,
    pub by_hand: bool,
    pub by_discovery: bool,
    /// Removed by hand: discovery does not register it again.
    pub removed_by_hand: bool,
    pub source: Source,
    pub metadata: String,
    pub file_key: Option<i64>,
    /// A poll that was sent under another version is not recorded.
    pub version: i64,
    pub state: LabelState,
    pub next_poll_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub last_answer_at: Option<Timestamp>,
    pub before_removal: Option<BeforeRemoval>,
}

/// State and schedule of a label that disappeared from the label files, in case it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeforeRemoval {
    pub at: Timestamp,
    pub state: LabelState,
    pub next_poll_at: Option<Timestamp>,
}

/// Changes that a registration writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationWrite {
    Nothing,
    Insert(RegistrationRecord),
    Update(RegistrationRecord),
    /// As `Update`. The wait, the failures, the refusals and the quiet time (`give_up_after`) also start again.
    Restart(RegistrationRecord),
}

/// Decides the changes of a registration. `stored`: the label's row, if it has one.
///
/// - An unknown label is inserted, due at once.
/// - A polled label gets the origin. Configuration also sets its values, and a registration by hand sets them unless
///   the label is in the configuration.
/// - A removed label that was missing from the label files for less than a day keeps its schedule.
/// - Any other removed label restarts, except if it was removed by hand and discovery finds it. It keeps its history.
pub fn register(
    stored: Option<&RegistrationRecord>,
    wanted: &WantedRegistration,
    change: RegistryChange,
) -> RegistrationWrite {
    let new = new_record(wanted, change);
    let Some(stored) = stored else { return RegistrationWrite::Insert(new) };
    if stored.state != LabelState::Removed {
        let after = stored.with_origin(wanted, change);
        return if after == *stored { RegistrationWrite::Nothing } else { RegistrationWrite::Update(after) };
    }
    if stored.removed_by_hand && change.by == RegisteredBy::Discovery {
        return RegistrationWrite::Nothing;
    }
    let revived = RegistrationRecord { finished_at: stored.finished_at, ..new };
    let resumes =
        |before_removal: &BeforeRemoval| change.now.duration_since(before_removal.at) <= RESUMES_WITHIN;
    if let Some(before_removal) =
        stored.before_removal.filter(resumes).filter(|_| change.by == RegisteredBy::Config)
    {
        let BeforeRemoval { state, next_poll_at, .. } = before_removal;
        return RegistrationWrite::Update(RegistrationRecord { state, next_poll_at, ..revived });
    }
    let finished = stored.finished_at.is_some();
    RegistrationWrite::Restart(RegistrationRecord {
        metadata: stored.metadata_after(wanted, change.by),
        state: if finished { LabelState::Finished } else { LabelState::Active },
        next_poll_at: (!finished).then_some(change.now),
        ..revived
    })
}

/// Decides a label's row after its registration by `change.by` ends; `None`: there was none. A removal by hand
/// ends the registration by discovery too. A label without another registration is removed; its history stays.
pub fn withdraw(stored: &RegistrationRecord, change: RegistryChange) -> Option<RegistrationRecord> {
    let mut after = stored.clone();
    match change.by {
        RegisteredBy::Config => (after.by_config, after.file_key) = (false, None),
        RegisteredBy::Hand => (after.by_hand, after.by_discovery) = (false, false),
        RegisteredBy::Discovery => after.by_discovery = false,
    }
    if after == *stored {
        return None;
    }
    after.version = change.version;
    if after.by_config {
        return Some(after);
    }
    if after.by_hand {
        after.source = Source::Cli;
    } else if after.by_discovery {
        after.source = Source::Discovered;
    } else {
        let RegistrationRecord { state, next_poll_at, .. } = *stored;
        after.removed_by_hand = change.by == RegisteredBy::Hand;
        after.before_removal = (change.by == RegisteredBy::Config).then_some(BeforeRemoval {
            at: change.now,
            state,
            next_poll_at,
        });
        (after.state, after.next_poll_at) = (LabelState::Removed, None);
    }
    Some(after)
}

fn new_record(wanted: &WantedRegistration, change: RegistryChange) -> RegistrationRecord {
    RegistrationRecord {
        by_config: change.by == RegisteredBy::Config,
        by_hand: change.by == RegisteredBy::Hand,
        by_discovery: change.by == RegisteredBy::Discovery,
        removed_by_hand: false,
        source: wanted.source,
        metadata: wanted.metadata.clone(),
        file_key: wanted.file_key,
        version: change.version,
        state: LabelState::Active,
        next_poll_at: Some(change.now),
        finished_at: None,
        last_answer_at: None,
        before_removal: None,
    }
}

impl RegistrationRecord {
    /// The record of a polled label after another registration. The version changes with the origins and the metadata,
    /// so polls in flight are recorded if only the label file differs, or discovery finds a label registered otherwise.
    fn with_origin(&self, wanted: &WantedRegistration, change: RegistryChange) -> Self {
        let mut after = self.clone();
        let was_registered = match change.by {
            RegisteredBy::Config => std::mem::replace(&mut after.by_config, true),
            RegisteredBy::Hand => std::mem::replace(&mut after.by_hand, true),
            RegisteredBy::Discovery => {
                after.by_discovery = true;
                return after;
            }
        };
        if change.by == RegisteredBy::Config || !self.by_config {
            after.source = wanted.source;
            after.metadata = self.metadata_after(wanted, change.by);
        }
        if change.by == RegisteredBy::Config {
            after.file_key = wanted.file_key;
        }
        if !was_registered || after.metadata != self.metadata {
            after.version = change.version;
        }
        after
    }

    /// A registration by hand without metadata keeps the existing metadata.
    fn metadata_after(&self, wanted: &WantedRegistration, by: RegisteredBy) -> String {
        let keeps = by == RegisteredBy::Hand && wanted.metadata == "{}";
        if keeps { &self.metadata } else { &wanted.metadata }.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LabelState::{Active, Expired, Finished, Removed};
    use RegisteredBy::{Config, Discovery, Hand};

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn change(by: RegisteredBy, second: i64) -> RegistryChange {
        RegistryChange { by, version: 9, now: at(second) }
    }

    fn wanted(by: RegisteredBy, metadata: &str) -> WantedRegistration {
        let (source, file_key) = match by {
            Config => (Source::File, Some(1)),
            Hand => (Source::Cli, None),
            Discovery => (Source::Discovered, None),
        };
        WantedRegistration { source, metadata: metadata.to_owned(), file_key }
    }

    /// A label registered at second 0 by each of `by`, in order.
    fn polled(by: &[RegisteredBy]) -> RegistrationRecord {
        let record = by.iter().fold(None, |record: Option<RegistrationRecord>, by| {
            let change = RegistryChange { version: 1, ..change(*by, 0) };
            match register(record.as_ref(), &wanted(*by, r#"{"a":1}"#), change) {
                RegistrationWrite::Insert(record) | RegistrationWrite::Update(record) => Some(record),
                other => panic!("{other:?}"),
            }
        });
        record.unwrap()
    }

    #[test]
    fn each_withdrawal_leaves_the_other_origins() {
        // Registered by, withdrawn, then state and source; `None`: nothing is written.
        type Row<'a> = (&'a [RegisteredBy], RegisteredBy, Option<(LabelState, Source)>);
        let rows: [Row<'_>; 11] = [
            (&[Config], Config, Some((Removed, Source::File))),
            (&[Config], Hand, None),
            (&[Config], Discovery, None),
            (&[Hand], Config, None),
            (&[Hand], Hand, Some((Removed, Source::Cli))),
            (&[Discovery], Discovery, Some((Removed, Source::Discovered))),
            (&[Discovery], Hand, Some((Removed, Source::Discovered))),
            (&[Hand, Config], Config, Some((Active, Source::Cli))),
            (&[Hand, Config], Hand, Some((Active, Source::File))),
            (&[Discovery, Config], Config, Some((Active, Source::Discovered))),
            (&[Discovery, Hand], Discovery, Some((Active, Source::Cli))),
        ];
        for (by, withdrawn, expected) in rows {
            let after = withdraw(&polled(by), change(withdrawn, HOUR));
            assert_eq!(
                after.as_ref().map(|after| (after.state, after.source)),
                expected,
                "{by:?} {withdrawn:?}"
            );
            let Some(after) = after else { continue };
            let removed = after.state == Removed;
            assert_eq!(after.next_poll_at.is_none(), removed, "{by:?} {withdrawn:?}");
            assert_eq!(after.removed_by_hand, removed && withdrawn == Hand, "{by:?} {withdrawn:?}");
            assert_eq!(
                after.before_removal.is_some(),
                removed && withdrawn == Config,
                "{by:?} {withdrawn:?}"
            );
            assert_eq!(after.version, 9, "{by:?} {withdrawn:?}");
        }
    }

    #[test]
    fn a_registration_of_a_polled_label_adds_its_origin_and_its_values() {
        // Registered by, registered by, metadata, then source, metadata and version; `None`: nothing is written.
        type Row<'a> = (&'a [RegisteredBy], RegisteredBy, &'a str, Option<(Source, &'a str, i64)>);
        let rows: [Row<'_>; 9] = [
            (&[Config], Config, r#"{"a":1}"#, None),
            (&[Config], Config, "{}", Some((Source::File, "{}", 9))),
            (&[Config], Hand, r#"{"b":1}"#, Some((Source::File, r#"{"a":1}"#, 9))),
            (&[Config], Discovery, "{}", Some((Source::File, r#"{"a":1}"#, 1))),
            (&[Hand], Config, r#"{"a":1}"#, Some((Source::File, r#"{"a":1}"#, 9))),
            (&[Hand], Hand, r#"{"b":1}"#, Some((Source::Cli, r#"{"b":1}"#, 9))),
            (&[Hand], Hand, "{}", None),
            (&[Discovery], Hand, "{}", Some((Source::Cli, r#"{"a":1}"#, 9))),
            (&[Discovery], Discovery, "{}", None),
        ];
        for (origins, by, metadata, expected) in rows {
            let write = register(Some(&polled(origins)), &wanted(by, metadata), change(by, HOUR));
            match (write, expected) {
                (RegistrationWrite::Nothing, None) => {}
                (RegistrationWrite::Update(after), Some((source, metadata, version))) => {
                    let written = (after.source, after.metadata.as_str(), after.version);
                    assert_eq!(written, (source, metadata, version), "{origins:?} {by:?}");
                    assert_eq!(after.next_poll_at, Some(at(0)), "{origins:?} {by:?}");
                }
                (write, _) => panic!("{origins:?} {by:?}: {write:?}"),
            }
        }
    }

    #[test]
    fn only_another_label_file_keeps_the_version() {
        let moved = WantedRegistration { file_key: Some(2), ..wanted(Config, r#"{"a":1}"#) };
        let write = register(Some(&polled(&[Config])), &moved, change(Config, HOUR));
        assert_eq!(
            write,
            RegistrationWrite::Update(RegistrationRecord { file_key: Some(2), ..polled(&[Config]) })
        );
    }

    #[test]
    fn a_removed_label_resumes_within_a_day_restarts_later_or_stays_removed() {
        // Removed by, its state before, registered by, at second, then the result: state and next poll.
        let (resumed, restarted) = (Some(false), Some(true));
        let rows = [
            (Config, Expired, Config, DAY, resumed, Expired, Some(0)),
            (Config, Active, Config, DAY + 1, restarted, Active, Some(DAY + 1)),
            (Config, Finished, Config, DAY + 1, restarted, Finished, None),
            (Config, Expired, Hand, HOUR, restarted, Active, Some(HOUR)),
            (Config, Active, Discovery, HOUR, restarted, Active, Some(HOUR)),
            (Discovery, Active, Config, HOUR, restarted, Active, Some(HOUR)),
            (Hand, Active, Hand, HOUR, restarted, Active, Some(HOUR)),
            (Hand, Active, Config, HOUR, restarted, Active, Some(HOUR)),
            (Hand, Active, Discovery, HOUR, None, Removed, None),
        ];
        for (removed_by, before, by, second, expected, state, next_poll_at) in rows {
            let finished_at = (before == Finished).then(|| at(0));
            let stored = RegistrationRecord { state: before, finished_at, ..polled(&[removed_by]) };
            let removed = withdraw(&stored, change(removed_by, 0)).unwrap();
            let write = register(Some(&removed), &wanted(by, "{}"), change(by, second));
            let (restarts, after) = match write {
                RegistrationWrite::Nothing => (None, removed),
                RegistrationWrite::Update(after) => (resumed, after),
                RegistrationWrite::Restart(after) => (restarted, after),
                RegistrationWrite::Insert(after) => panic!("{after:?}"),
            };
            let row = format!("{removed_by:?} {before:?} {by:?} {second}");
            assert_eq!(restarts, expected, "{row}");
            assert_eq!((after.state, after.next_poll_at), (state, next_poll_at.map(at)), "{row}");
            assert_eq!(
                after.before_removal.is_some(),
                after.state == Removed && removed_by == Config,
                "{row}"
            );
        }
    }
}
