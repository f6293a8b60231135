//! How labels come into the registry, and back into it: what configuration, hand and discovery have in common.
//!
//! Each statement takes a page of [`Row`]s as JSON and touches only its own: watched, removed, unknown. Who asks, and
//! what follows from that, is for the rooms that call it; how labels go again is theirs too.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::ms;
use crate::domain::digest;
use crate::domain::label::{AccountName, LabelId, LabelKey, Metadata, Registration, Source};

/// Who asks for a label.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Config,
    Hand,
    Discovery,
}

impl Asker {
    /// `by_config`, `by_hand` and `by_discovery` of a label that nobody else asks for.
    fn flags(self) -> [i64; 3] {
        [Self::Config, Self::Hand, Self::Discovery].map(|asker| i64::from(asker == self))
    }
}

/// A label that is asked for, as the queries take it.
#[derive(Serialize)]
pub(super) struct Row<'a> {
    account: &'a str,
    label_id: &'a str,
    source: &'a str,
    metadata: String,
}

impl<'a> Row<'a> {
    pub(super) fn new(
        account: &'a AccountName,
        id: &'a LabelId,
        source: Source,
        metadata: &Metadata,
    ) -> Self {
        Self {
            account: account.as_str(),
            label_id: id.as_str(),
            source: source.as_str(),
            metadata: serde_json::to_string(metadata).expect("metadata is JSON"),
        }
    }

    pub(super) fn of(registration: &'a Registration) -> Self {
        let LabelKey { account, id } = &registration.key;
        Self::new(account, id, registration.source, &registration.metadata)
    }

    /// What tells whether a registration is as it was; 64 bits of a hash, so that a million fit into little.
    pub(super) fn fingerprints(&self) -> (u64, u64) {
        (fingerprint(&[self.account, self.label_id]), fingerprint(&[self.source, &self.metadata]))
    }
}

/// The first 64 bits of a digest of `parts`.
pub(super) fn fingerprint(parts: &[&str]) -> u64 {
    let digest = digest::of_parts(parts);
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

/// Inserts what configuration or hand asks for and is new, takes over what is watched, and brings back what was removed.
/// Returns how many are new. Discovery has a way of its own: it takes nothing over.
pub(super) async fn register(
    tx: &mut SqliteConnection,
    rows: &str,
    by: Asker,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    take_over(tx, rows, by).await?;
    revive(tx, rows, by, now).await?;
    insert(tx, rows, by, now).await
}

/// Labels that are watched already are asked for by one more, or otherwise by the same. Who names a discovered one by hand and says nothing about
/// it leaves it the metadata that was found.
async fn take_over(tx: &mut SqliteConnection, rows: &str, by: Asker) -> Result<(), sqlx::Error> {
    let [by_config, by_hand, _] = by.flags();
    sqlx::query!(
        "UPDATE labels SET version = version + 1,
            by_config = max(by_config, ?1), by_hand = max(by_hand, ?2),
            source = CASE WHEN ?1 = 1 OR by_config = 0 THEN wanted.source ELSE labels.source END,
            metadata = CASE WHEN ?1 = 1 THEN wanted.metadata
                            WHEN by_config = 1 OR (by_discovery = 1 AND wanted.metadata = '{}') THEN labels.metadata
                            ELSE wanted.metadata END
         FROM (SELECT value ->> 'account' AS account, value ->> 'label_id' AS label_id,
                      value ->> 'source' AS source, value ->> 'metadata' AS metadata FROM json_each(?3)) AS wanted
         WHERE labels.account = wanted.account AND labels.label_id = wanted.label_id AND labels.state <> 'removed'",
        by_config,
        by_hand,
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Labels that come back go on where they were, with their history and their seq; their silence begins anew. Discovery
/// brings back none that somebody removed by hand. Returns how many there are.
pub(super) async fn revive(
    tx: &mut SqliteConnection,
    rows: &str,
    by: Asker,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let (now, [by_config, by_hand, by_discovery]) = (ms(now), by.flags());
    // The account is joined, not given: else SQLite goes through all of its labels, and the rows again for each.
    let revived = sqlx::query!(
        "UPDATE labels SET version = version + 1,
            by_config = ?1, by_hand = ?2, by_discovery = ?3, dismissed = 0,
            source = wanted.source, metadata = wanted.metadata,
            state = CASE WHEN finished_at IS NULL THEN 'active' ELSE 'finished' END,
            next_poll_at = CASE WHEN finished_at IS NULL THEN ?4 END, wait_ms = 0, pace_ms = 0,
            last_changed_at = ?4, last_answer_at = NULL, failures = 0, failing_since = NULL,
            refusals = 0, refused_since = NULL
         FROM (SELECT value ->> 'account' AS account, value ->> 'label_id' AS label_id,
                      value ->> 'source' AS source, value ->> 'metadata' AS metadata FROM json_each(?5)) AS wanted
         WHERE labels.account = wanted.account AND labels.label_id = wanted.label_id
           AND labels.state = 'removed' AND (labels.dismissed = 0 OR ?3 = 0)",
        by_config,
        by_hand,
        by_discovery,
        now,
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(revived.rows_affected())
}

/// Labels that nobody knows are due at once. Returns how many there are.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    rows: &str,
    by: Asker,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let (now, [by_config, by_hand, by_discovery]) = (ms(now), by.flags());
    let inserted = sqlx::query!(
        "INSERT INTO labels (account, label_id, state, by_config, by_hand, by_discovery, source, metadata,
                             registered_at, next_poll_at)
         SELECT value ->> 'account', value ->> 'label_id', 'active', ?1, ?2, ?3, value ->> 'source',
                value ->> 'metadata', ?4, ?4
         FROM json_each(?5) WHERE true
         ON CONFLICT (account, label_id) DO NOTHING",
        by_config,
        by_hand,
        by_discovery,
        now,
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(inserted.rows_affected())
}
