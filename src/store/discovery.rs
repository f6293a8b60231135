//! Writes of discovery: the labels found and the progress, in one transaction.
//!
//! The overlap returns the same labels repeatedly. Rows without a change are not written, so that polls in flight are
//! recorded. A label removed by hand is not registered again. Discovery does not change registrations by configuration
//! and by hand; it only sets its own flag.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::registering::{WantedLabel, next_version, read_by_id, register, withdraw};
use super::{Store, StoreError, at, ms};
use crate::domain::label::{AccountName, LabelId, LabelKey, Source};
use crate::domain::polling::discovery::{DiscoveryProgress, ListedLabel};
use crate::domain::registration::{RegisteredBy, RegistryChange};

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
    /// Labels that discovery stopped registering.
    pub withdrawn: u64,
}

impl Store {
    /// Returns the progress of the account's discovery.
    pub async fn discovery_progress(&self, account: &AccountName) -> Result<DiscoveryProgress, StoreError> {
        let account = account.as_str();
        let row = sqlx::query!(
            "SELECT position, confirmed, voids_searched_at FROM discoveries WHERE account = ?",
            account
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map_or(DiscoveryProgress::default(), |row| DiscoveryProgress {
            position: row.position.map(at),
            confirmed: row.confirmed != 0,
            voids_searched_at: row.voids_searched_at.map(at),
        }))
    }

    /// Registers new labels, drops voided labels and writes the progress, in one transaction.
    pub async fn write_discovered(
        &self,
        found: &Discovered,
        now: Timestamp,
    ) -> Result<DiscoveryChanges, StoreError> {
        let tracked = found.tracked.iter().map(|label| {
            let key = LabelKey { account: found.account.clone(), id: label.id.clone() };
            WantedLabel::new(key, Source::Discovered, &label.metadata, None)
        });
        let (tracked, found) = (tracked.collect::<Vec<_>>(), found.clone());
        let (changes, version) = self
            .writer
            .write(move |tx| {
                Box::pin(async move {
                    let version = next_version(tx).await?;
                    let change = RegistryChange { by: RegisteredBy::Discovery, version, now };
                    let registered = register(tx, &tracked, change).await?;
                    let voided: Vec<_> = found.voided.iter().map(|id| (&found.account, id)).collect();
                    let voided = read_by_id(tx, &voided).await?;
                    let voided = voided.into_iter().map(|(_, stored)| stored).collect();
                    let withdrawn = withdraw(tx, voided, change).await? as u64;
                    write_progress(tx, found.account.as_str(), found.progress).await?;
                    let added = registered.inserted + registered.revived;
                    Ok((DiscoveryChanges { added, withdrawn }, version))
                })
            })
            .await?;
        if changes != DiscoveryChanges::default() {
            self.announce(version);
        }
        Ok(changes)
    }
}

async fn write_progress(
    tx: &mut SqliteConnection,
    account: &str,
    progress: DiscoveryProgress,
) -> Result<(), sqlx::Error> {
    let (position, voids_searched_at) = (progress.position.map(ms), progress.voids_searched_at.map(ms));
    sqlx::query!(
        "INSERT INTO discoveries (account, position, confirmed, voids_searched_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (account) DO UPDATE SET position = excluded.position, confirmed = excluded.confirmed,
            voids_searched_at = excluded.voids_searched_at",
        account,
        position,
        progress.confirmed,
        voids_searched_at
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
