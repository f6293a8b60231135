//! Writes of discovery: the labels found and the progress, in one transaction.
//!
//! The overlap returns the same labels repeatedly. Rows without a change are not written, so that polls in flight are
//! recorded. A label removed by hand is not registered again. Discovery does not change what configuration and hand
//! registered; it only sets its own flag.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::registering::{RegisteredBy, RegistrationRow, RegistryChange, insert, next_version, revive};
use super::{Store, StoreError, at, json, ms};
use crate::domain::label::{AccountName, LabelId, Source};
use crate::domain::polling::discovery::{DiscoveryProgress, ListedLabel};

/// Labels of one page of the list.
#[derive(Clone, Debug)]
pub struct Discovered {
    pub account: AccountName,
    pub tracked: Vec<ListedLabel>,
    pub voided: Vec<LabelId>,
    pub progress: DiscoveryProgress,
}

/// Changes of the registry by a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryChanges {
    /// Labels that are newly polled.
    pub added: u64,
    /// Labels that discovery no longer registers.
    pub dropped: u64,
}

impl Store {
    /// Returns the progress of the account's discovery.
    pub async fn discovery_progress(&self, account: &AccountName) -> Result<DiscoveryProgress, StoreError> {
        let account = account.as_str();
        let row =
            sqlx::query!("SELECT position, voids_sought_at FROM discoveries WHERE account = ?", account)
                .fetch_optional(&self.readers)
                .await?;
        Ok(row.map_or(DiscoveryProgress::default(), |row| DiscoveryProgress {
            position: row.position.map(at),
            voids_sought_at: row.voids_sought_at.map(at),
        }))
    }

    /// Registers new labels, drops voided labels and writes the progress, in one transaction.
    pub async fn write_discovered(
        &self,
        found: &Discovered,
        now: Timestamp,
    ) -> Result<DiscoveryChanges, StoreError> {
        let rows = found.tracked.iter().map(|label| {
            RegistrationRow::new(&found.account, &label.id, Source::Discovered, &label.metadata, None)
        });
        let tracked: Vec<RegistrationRow> = rows.collect();
        let voided = json(&found.voided.iter().map(LabelId::as_str).collect::<Vec<_>>());
        let (account, progress) = (found.account.to_string(), found.progress);
        let (changes, version) = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let version = next_version(tx).await?;
                    let change = RegistryChange { by: RegisteredBy::Discovery, version, now };
                    let added = register(tx, &account, &tracked, change).await?;
                    let dropped = drop_voided(tx, &account, &voided, version).await?;
                    write_progress(tx, &account, progress).await?;
                    Ok((DiscoveryChanges { added, dropped }, version))
                })
            })
            .await?;
        if changes != DiscoveryChanges::default() {
            self.announce(version);
        }
        Ok(changes)
    }
}

/// Inserts new labels, revives removed labels, and sets the discovery flag of labels registered otherwise. Returns how
/// many were inserted or revived.
async fn register(
    tx: &mut SqliteConnection,
    account: &str,
    tracked: &[RegistrationRow],
    change: RegistryChange,
) -> Result<u64, sqlx::Error> {
    // Example: a label that was in a file before.
    let revived = revive(tx, tracked, change).await?;
    let ids = json(&tracked.iter().map(RegistrationRow::label_id).collect::<Vec<_>>());
    // A label registered otherwise too: only the flag changes.
    sqlx::query!(
        "UPDATE labels SET by_discovery = 1
         WHERE account = ?1 AND by_discovery = 0 AND state <> 'removed'
           AND label_id IN (SELECT value FROM json_each(?2))",
        account,
        ids
    )
    .execute(&mut *tx)
    .await?;
    Ok(insert(tx, tracked, change).await? + revived)
}

async fn drop_voided(
    tx: &mut SqliteConnection,
    account: &str,
    voided: &str,
    version: i64,
) -> Result<u64, sqlx::Error> {
    let dropped = sqlx::query!(
        "UPDATE labels SET by_discovery = 0, version = ?3,
            source = CASE WHEN source <> 'discovered' OR by_hand = 0 THEN source ELSE 'cli' END,
            state = CASE WHEN by_config + by_hand > 0 THEN state ELSE 'removed' END,
            next_poll_at = CASE WHEN by_config + by_hand > 0 THEN next_poll_at END
         WHERE account = ?1 AND by_discovery = 1 AND label_id IN (SELECT value FROM json_each(?2))",
        account,
        voided,
        version
    )
    .execute(&mut *tx)
    .await?;
    Ok(dropped.rows_affected())
}

async fn write_progress(
    tx: &mut SqliteConnection,
    account: &str,
    progress: DiscoveryProgress,
) -> Result<(), sqlx::Error> {
    let (position, voids_sought_at) = (progress.position.map(ms), progress.voids_sought_at.map(ms));
    sqlx::query!(
        "INSERT INTO discoveries (account, position, voids_sought_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (account) DO UPDATE SET position = excluded.position, voids_sought_at = excluded.voids_sought_at",
        account,
        position,
        voids_sought_at
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
