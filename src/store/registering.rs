//! Registration of labels: what configuration, hand and discovery have in common.
//!
//! Every transaction that changes registrations takes the next number of the counter `registry.changes` and writes it
//! as the `version` of each row it changes. So `version > N` finds the changes since N, and a poll that was sent under
//! an older version is not recorded.

use jiff::{SignedDuration, Timestamp};
use sqlx::SqliteConnection;

use super::bulk::{Bulk, Values};
use super::ms;
use crate::domain::label::{AccountName, LabelId, LabelKey, Metadata, Registration, Source};

/// A label that returns to the label files within this time keeps its schedule (contract 2.2).
const RESUMES_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Origin of a registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RegisteredBy {
    Config,
    Hand,
    Discovery,
}

impl RegisteredBy {
    /// Returns `by_config`, `by_hand` and `by_discovery` of a label registered only by this origin.
    fn flags(self) -> [i64; 3] {
        [Self::Config, Self::Hand, Self::Discovery].map(|origin| i64::from(origin == self))
    }
}

/// A label to register, as the statements take it.
#[derive(Clone, Debug)]
pub(super) struct RegistrationRow {
    account: AccountName,
    id: LabelId,
    source: Source,
    metadata: String,
    /// The label file that lists it.
    file_key: Option<i64>,
}

impl RegistrationRow {
    pub(super) fn new(
        account: &AccountName,
        id: &LabelId,
        source: Source,
        metadata: &Metadata,
        file_key: Option<i64>,
    ) -> Self {
        let metadata = serde_json::to_string(metadata).expect("metadata is JSON");
        Self { account: account.clone(), id: id.clone(), source, metadata, file_key }
    }

    pub(super) fn label_id(&self) -> &str {
        self.id.as_str()
    }

    pub(super) fn of(registration: &Registration, file_key: Option<i64>) -> Self {
        let LabelKey { account, id } = &registration.key;
        Self::new(account, id, registration.source, &registration.metadata, file_key)
    }
}

/// Values that a transaction writes to all registrations it changes.
#[derive(Clone, Copy)]
pub(super) struct RegistryChange {
    pub by: RegisteredBy,
    pub version: i64,
    pub now: Timestamp,
}

/// Result of registering rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RegisterResult {
    pub taken_over: u64,
    pub revived: u64,
    pub inserted: u64,
}

/// Takes the next registry version, for this transaction.
pub(super) async fn next_version(tx: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!("UPDATE registry SET changes = changes + 1 RETURNING changes")
        .fetch_one(&mut *tx)
        .await
}

/// Registers labels of the configuration or by hand: inserts new labels, updates polled labels, and revives removed
/// labels. Discovery has its own statements, because it does not update polled labels.
pub(super) async fn register(
    tx: &mut SqliteConnection,
    rows: &[RegistrationRow],
    change: RegistryChange,
) -> Result<RegisterResult, sqlx::Error> {
    let taken_over = update(tx, rows, change).await?;
    let revived = revive(tx, rows, change).await?;
    let inserted = insert(tx, rows, change).await?;
    Ok(RegisterResult { taken_over, revived, inserted })
}

/// Columns of `wanted` in the statements: 1 account, 2 label_id, 3 source, 4 metadata, 5 file_key, 6 version, 7 now, 8
/// to 10 the flags.
const COLUMNS: usize = 10;

fn bind(change: RegistryChange) -> impl Fn(&RegistrationRow, &mut Values) {
    let [by_config, by_hand, by_discovery] = change.by.flags();
    let now = ms(change.now);
    move |row, values| {
        values
            .push(row.account.as_str().to_owned())
            .push(row.id.as_str().to_owned())
            .push(row.source.as_str())
            .push(row.metadata.clone())
            .push(row.file_key)
            .push(change.version)
            .push(now)
            .push(by_config)
            .push(by_hand)
            .push(by_discovery);
    }
}

/// Updates labels that are polled already: adds the origin, or changes its values. A registration by hand without
/// metadata keeps the existing metadata. If only the label file differs, the version stays, so polls in flight are
/// recorded.
async fn update(
    tx: &mut SqliteConnection,
    rows: &[RegistrationRow],
    change: RegistryChange,
) -> Result<u64, sqlx::Error> {
    const BY_CONFIG: Bulk = Bulk {
        before: "UPDATE labels SET by_config = 1, source = wanted.column3, metadata = wanted.column4,
            file_key = wanted.column5,
            version = CASE WHEN by_config = 1 AND metadata = wanted.column4 THEN version ELSE wanted.column6 END
         FROM (",
        columns: COLUMNS,
        after: ") AS wanted
         WHERE labels.account = wanted.column1 AND labels.label_id = wanted.column2 AND labels.state <> 'removed'",
    };
    const BY_HAND: Bulk = Bulk {
        before: "UPDATE labels SET by_hand = 1, version = wanted.column6,
            source = CASE WHEN by_config = 0 THEN wanted.column3 ELSE source END,
            metadata = CASE WHEN by_config = 0 AND wanted.column4 <> '{}' THEN wanted.column4 ELSE metadata END
         FROM (",
        columns: COLUMNS,
        after: ") AS wanted
         WHERE labels.account = wanted.column1 AND labels.label_id = wanted.column2 AND labels.state <> 'removed'",
    };
    match change.by {
        RegisteredBy::Config => BY_CONFIG.execute(tx, rows, bind(change)).await,
        RegisteredBy::Hand => BY_HAND.execute(tx, rows, bind(change)).await,
        RegisteredBy::Discovery => Ok(0),
    }
}

/// Revives removed labels: they keep their history and seq, and the time for stalled starts again. A label that was
/// missing from the label files for less than a day keeps its schedule too. Discovery does not revive labels removed by
/// hand. Returns how many were revived.
pub(super) async fn revive(
    tx: &mut SqliteConnection,
    rows: &[RegistrationRow],
    change: RegistryChange,
) -> Result<u64, sqlx::Error> {
    const RESUME: Bulk = Bulk {
        before: "UPDATE labels SET version = wanted.column6, by_config = 1, dismissed = 0,
            source = wanted.column3, metadata = wanted.column4, file_key = wanted.column5,
            state = resume_state, next_poll_at = resume_at, last_answer_at = NULL,
            retired_at = NULL, resume_state = NULL, resume_at = NULL
         FROM (",
        columns: COLUMNS,
        // Column 7: the earliest `retired_at` that still counts.
        after: ") AS wanted
         WHERE labels.account = wanted.column1 AND labels.label_id = wanted.column2
           AND labels.state = 'removed' AND labels.retired_at >= wanted.column7",
    };
    const RESTART: Bulk = Bulk {
        before: "UPDATE labels SET version = wanted.column6,
            by_config = wanted.column8, by_hand = wanted.column9, by_discovery = wanted.column10, dismissed = 0,
            source = wanted.column3, file_key = wanted.column5,
            metadata = CASE WHEN wanted.column9 = 1 AND wanted.column4 = '{}' THEN metadata ELSE wanted.column4 END,
            state = CASE WHEN finished_at IS NULL THEN 'active' ELSE 'finished' END,
            next_poll_at = CASE WHEN finished_at IS NULL THEN wanted.column7 END, wait_ms = 0, pace_ms = 0,
            last_changed_at = wanted.column7, last_answer_at = NULL, failures = 0, failing_since = NULL,
            refusals = 0, refused_since = NULL, retired_at = NULL, resume_state = NULL, resume_at = NULL
         FROM (",
        columns: COLUMNS,
        after: ") AS wanted
         WHERE labels.account = wanted.column1 AND labels.label_id = wanted.column2
           AND labels.state = 'removed' AND (labels.dismissed = 0 OR wanted.column10 = 0)",
    };
    let mut revived = 0;
    if change.by == RegisteredBy::Config {
        let since = change.now.checked_sub(RESUMES_WITHIN).unwrap_or(change.now);
        revived += RESUME.execute(tx, rows, bind(RegistryChange { now: since, ..change })).await?;
    }
    revived += RESTART.execute(tx, rows, bind(change)).await?;
    Ok(revived)
}

/// Inserts unknown labels, due at once. Returns how many were inserted.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    rows: &[RegistrationRow],
    change: RegistryChange,
) -> Result<u64, sqlx::Error> {
    const INSERT: Bulk = Bulk {
        before: "INSERT INTO labels (account, label_id, source, metadata, file_key, version, registered_at,
                                     next_poll_at, by_config, by_hand, by_discovery, state)
         SELECT column1, column2, column3, column4, column5, column6, column7, column7, column8, column9, column10, 'active'
         FROM (",
        columns: COLUMNS,
        after: ") WHERE true ON CONFLICT (account, label_id) DO NOTHING",
    };
    INSERT.execute(tx, rows, bind(change)).await
}
