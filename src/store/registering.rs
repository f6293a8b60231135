//! Registration of labels: reads the rows of a chunk, lets [`crate::domain::registration`] decide, and writes the result.
//!
//! Every transaction that changes registrations takes the next number of the counter `registry.version` and writes it
//! as the `version` of the rows it changes. So `version > N` finds the changes since N, and a poll that was sent under
//! an older version is not recorded.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::bulk::{Bulk, Values, insert};
use super::{at, ms};
use crate::domain::label::{AccountName, LabelId, LabelKey, LabelState, Metadata, Registration, Source};
use crate::domain::registration::{
    self, BeforeRemoval, RegistrationRecord, RegistrationWrite, RegistryChange, WantedRegistration,
};

/// A label to register.
#[derive(Clone, Debug)]
pub(super) struct WantedLabel {
    key: LabelKey,
    registration: WantedRegistration,
}

impl WantedLabel {
    pub(super) fn new(key: LabelKey, source: Source, metadata: &Metadata, file_key: Option<i64>) -> Self {
        let metadata = serde_json::to_string(metadata).expect("metadata is JSON");
        Self { key, registration: WantedRegistration { source, metadata, file_key } }
    }

    pub(super) fn of(registration: &Registration, file_key: Option<i64>) -> Self {
        Self::new(registration.key.clone(), registration.source, &registration.metadata, file_key)
    }
}

/// Result of registering labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RegisterResult {
    /// Removed labels that are polled again.
    pub revived: u64,
    pub inserted: u64,
}

/// The stored registration of a label.
pub(super) struct StoredRegistration {
    pub label_key: i64,
    pub record: RegistrationRecord,
}

/// Takes the next registry version, for this transaction.
pub(super) async fn next_version(tx: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!("UPDATE registry SET version = version + 1 RETURNING version")
        .fetch_one(&mut *tx)
        .await
}

/// Registers labels. Rows without a change are not written.
pub(super) async fn register(
    tx: &mut SqliteConnection,
    labels: &[WantedLabel],
    change: RegistryChange,
) -> Result<RegisterResult, sqlx::Error> {
    let keys: Vec<_> = labels.iter().map(|label| (&label.key.account, &label.key.id)).collect();
    let stored = read_by_id(tx, &keys).await?;
    let stored: HashMap<i64, StoredRegistration> = stored.into_iter().collect();
    let (mut inserts, mut updates, mut restarted) = (Vec::new(), Vec::new(), Vec::new());
    let mut result = RegisterResult::default();
    for (index, label) in (0_i64..).zip(labels) {
        let stored = stored.get(&index);
        let record = stored.map(|stored| &stored.record);
        let (after, restarts) = match registration::register(record, &label.registration, change) {
            RegistrationWrite::Nothing => continue,
            RegistrationWrite::Insert(new) => {
                inserts.push((&label.key, new));
                continue;
            }
            RegistrationWrite::Update(after) => (after, false),
            RegistrationWrite::Restart(after) => (after, true),
        };
        let Some(StoredRegistration { label_key, record }) = stored else { continue };
        result.revived += u64::from(record.state == LabelState::Removed);
        updates.push(StoredRegistration { label_key: *label_key, record: after });
        if restarts {
            restarted.push(*label_key);
        }
    }
    write(tx, &updates).await?;
    let now = ms(change.now);
    RESTART
        .execute(tx, &restarted, |label_key, values| {
            values.push(*label_key).push(now);
        })
        .await?;
    result.inserted = INSERT
        .execute(tx, &inserts, |(key, record), values| {
            values
                .push(key.account.as_str().to_owned())
                .push(key.id.as_str().to_owned())
                .push(now)
                .push(record.next_poll_at.map(ms));
            bind(record, values);
        })
        .await?;
    Ok(result)
}

/// Withdraws registrations. Returns how many there were.
pub(super) async fn withdraw(
    tx: &mut SqliteConnection,
    mut stored: Vec<StoredRegistration>,
    change: RegistryChange,
) -> Result<usize, sqlx::Error> {
    stored.retain_mut(|stored| {
        let after = registration::withdraw(&stored.record, change);
        after.map(|after| stored.record = after).is_some()
    });
    write(tx, &stored).await?;
    Ok(stored.len())
}

/// Writes the records of known labels.
async fn write(tx: &mut SqliteConnection, labels: &[StoredRegistration]) -> Result<(), sqlx::Error> {
    UPDATE
        .execute(tx, labels, |StoredRegistration { label_key, record }, values| {
            let before_removal = record.before_removal;
            values
                .push(*label_key)
                .push(record.next_poll_at.map(ms))
                .push(record.last_answer_at.map(ms))
                .push(i64::from(record.removed_by_hand))
                .push(before_removal.map(|before_removal| ms(before_removal.at)))
                .push(before_removal.map(|before_removal| before_removal.state.as_str()))
                .push(before_removal.and_then(|before_removal| before_removal.next_poll_at).map(ms));
            bind(record, values);
        })
        .await?;
    Ok(())
}

/// Pushes the columns that an insert and an update have in common.
fn bind(record: &RegistrationRecord, values: &mut Values) {
    values
        .push(record.state.as_str())
        .push(i64::from(record.by_config))
        .push(i64::from(record.by_hand))
        .push(i64::from(record.by_discovery))
        .push(record.source.as_str())
        .push(record.metadata.clone())
        .push(record.file_key)
        .push(record.version);
}

const INSERT: Bulk = insert!(
    "labels (account, label_id, registered_at, next_poll_at, state, by_config, by_hand, by_discovery,
     source, metadata, file_key, version)",
    12,
    // The same label twice in one chunk.
    " ON CONFLICT (account, label_id) DO NOTHING"
);

pub(super) const UPDATE: Bulk = Bulk {
    before: "WITH new (label_key, next_poll_at, last_answer_at, removed_by_hand, left_files_at, state_before_removal,
        next_poll_before_removal, state, by_config, by_hand, by_discovery, source, metadata, file_key, version) AS (",
    columns: 15,
    after: ") UPDATE labels SET next_poll_at = new.next_poll_at, last_answer_at = new.last_answer_at,
        removed_by_hand = new.removed_by_hand, left_files_at = new.left_files_at,
        state_before_removal = new.state_before_removal,
        next_poll_before_removal = new.next_poll_before_removal, state = new.state, by_config = new.by_config,
        by_hand = new.by_hand, by_discovery = new.by_discovery, source = new.source, metadata = new.metadata,
        file_key = new.file_key, version = new.version
     FROM new WHERE labels.label_key = new.label_key",
};

pub(super) const RESTART: Bulk = Bulk {
    before: "WITH new (label_key, now) AS (",
    columns: 2,
    after:
        ") UPDATE labels SET reason = NULL, wait_ms = 0, pace_ms = 0, last_changed_at = new.now, failures = 0,
        failing_since = NULL, refusals = 0, refused_since = NULL
     FROM new WHERE labels.label_key = new.label_key",
};

/// Columns of a [`StoredRegistration`].
macro_rules! columns {
    () => {
        "l.label_key, by_config, by_hand, by_discovery, removed_by_hand, source, metadata, file_key, version, state,
         next_poll_at, finished_at, last_answer_at, left_files_at, state_before_removal, next_poll_before_removal"
    };
}

pub(super) const READ_BY_ID: Bulk = Bulk {
    before: "WITH wanted (number, account, label_id) AS (",
    columns: 3,
    after: concat!(
        ") SELECT ",
        columns!(),
        ", number FROM wanted CROSS JOIN labels l ON l.label_id = wanted.label_id AND l.account = wanted.account"
    ),
};

pub(super) const READ_BY_KEY: Bulk = Bulk {
    before: "WITH wanted (label_key) AS (",
    columns: 1,
    after: concat!(
        ") SELECT ",
        columns!(),
        " FROM wanted CROSS JOIN labels l ON l.label_key = wanted.label_key"
    ),
};

/// Reads the registrations of labels, each with its index in `labels`.
pub(super) async fn read_by_id(
    tx: &mut SqliteConnection,
    labels: &[(&AccountName, &LabelId)],
) -> Result<Vec<(i64, StoredRegistration)>, sqlx::Error> {
    let labels: Vec<_> = (0_i64..).zip(labels).collect();
    let rows = READ_BY_ID.rows(tx, &labels, |(index, (account, id)), values| {
        values.push(*index).push(account.as_str().to_owned()).push(id.as_str().to_owned());
    });
    rows.await?.iter().map(|row| Ok((row.try_get("number")?, stored_registration(row)?))).collect()
}

/// Reads the registrations of labels.
pub(super) async fn read_by_key(
    tx: &mut SqliteConnection,
    labels: &[i64],
) -> Result<Vec<StoredRegistration>, sqlx::Error> {
    let rows = READ_BY_KEY.rows(tx, labels, |label_key, values| {
        values.push(*label_key);
    });
    rows.await?.iter().map(stored_registration).collect()
}

fn stored_registration(row: &SqliteRow) -> Result<StoredRegistration, sqlx::Error> {
    let instant = |column| Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.map(at));
    let unknown = |column: &str| sqlx::Error::Decode(format!("{column} of a label").into());
    let state = |text| LabelState::parse(text).ok_or_else(|| unknown("state"));
    let before_removal =
        match (instant("left_files_at")?, row.try_get::<Option<&str>, _>("state_before_removal")?) {
            (Some(at), Some(was)) => Some(BeforeRemoval {
                at,
                state: state(was)?,
                next_poll_at: instant("next_poll_before_removal")?,
            }),
            _ => None,
        };
    let record = RegistrationRecord {
        by_config: row.try_get("by_config")?,
        by_hand: row.try_get("by_hand")?,
        by_discovery: row.try_get("by_discovery")?,
        removed_by_hand: row.try_get("removed_by_hand")?,
        source: Source::parse(row.try_get("source")?).ok_or_else(|| unknown("source"))?,
        metadata: row.try_get("metadata")?,
        file_key: row.try_get("file_key")?,
        version: row.try_get("version")?,
        state: state(row.try_get("state")?)?,
        next_poll_at: instant("next_poll_at")?,
        finished_at: instant("finished_at")?,
        last_answer_at: instant("last_answer_at")?,
        before_removal,
    };
    Ok(StoredRegistration { label_key: row.try_get("label_key")?, record })
}
