//! The registry: the polled labels and the origin of each registration.
//!
//! The registrar writes the labels of the configuration and its files in chunks. This module has its statements and the
//! statements of the commands that register by hand.

use jiff::Timestamp;
use sqlx::SqliteConnection;
use tokio::sync::watch;

use super::registering::{
    RegisterResult, WantedLabel, next_version, read_by_id, read_by_key, register, withdraw,
};
use super::writer::WriterWork;
use super::{Store, StoreError, json, ms};
use crate::domain::label::{LabelKey, Registration};
use crate::domain::registration::{RegisteredBy, RegistryChange};

/// Rows per transaction when many labels are registered. Other writes run between two transactions.
pub const REGISTER_CHUNK: usize = 512;

/// Result of removing a label by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// The label was not registered.
    Unknown,
    /// The label is registered by the configuration or its files too, and is still polled.
    StillConfigured,
}

/// A registered label, as needed to register it by hand again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLabel {
    pub label_id: String,
    pub by_config: bool,
    /// JSON.
    pub metadata: String,
}

impl Store {
    /// The registry version that this process knows; the receiver changes with each later one.
    pub fn registry_version(&self) -> watch::Receiver<u64> {
        self.registry.subscribe()
    }

    /// Reads the registry version, including changes of other processes, and announces it.
    pub async fn refresh_registry_version(&self) -> Result<u64, StoreError> {
        let changes = sqlx::query_scalar!("SELECT version FROM registry").fetch_one(&self.readers).await?;
        self.announce(changes);
        Ok(changes.unsigned_abs())
    }

    pub(super) fn announce(&self, version: i64) {
        let version = version.unsigned_abs();
        self.registry.send_if_modified(|last| {
            let newer = version > *last;
            *last = version.max(*last);
            newer
        });
    }

    /// Registers labels of the configuration, each with its label file. New labels are due at once. Returns how many
    /// are new.
    pub async fn register_configured(
        &self,
        wanted: &[(Registration, Option<i64>)],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let rows = wanted.iter().map(|(registration, file)| WantedLabel::of(registration, *file)).collect();
        Ok(self.register(rows, RegisteredBy::Config, now).await?.inserted)
    }

    /// Removes registrations of the configuration. Polls of labels without another registration end; their
    /// history is kept.
    pub async fn withdraw_configured(&self, labels: &[i64], now: Timestamp) -> Result<(), StoreError> {
        let labels = labels.to_vec();
        self.change_registry(move |tx, version| {
            Box::pin(async move {
                let stored = read_by_key(tx, &labels).await?;
                withdraw(tx, stored, RegistryChange { by: RegisteredBy::Config, version, now }).await?;
                Ok(())
            })
        })
        .await
    }

    /// Registers labels by hand, in addition to the configuration. Returns how many are new.
    pub async fn add_by_hand(&self, wanted: &[Registration], now: Timestamp) -> Result<u64, StoreError> {
        let mut added = 0;
        for chunk in wanted.chunks(REGISTER_CHUNK) {
            let rows = chunk.iter().map(|registration| WantedLabel::of(registration, None)).collect();
            added += self.register(rows, RegisteredBy::Hand, now).await?.inserted;
        }
        Ok(added)
    }

    async fn register(
        &self,
        rows: Vec<WantedLabel>,
        by: RegisteredBy,
        now: Timestamp,
    ) -> Result<RegisterResult, StoreError> {
        self.change_registry(move |tx, version| {
            Box::pin(async move { register(tx, &rows, RegistryChange { by, version, now }).await })
        })
        .await
    }

    /// Removes a registration by hand or by discovery. Discovery does not register the label again.
    pub async fn remove_by_hand(&self, key: &LabelKey, now: Timestamp) -> Result<Removal, StoreError> {
        let key = key.clone();
        self.change_registry(move |tx, version| {
            Box::pin(async move {
                let stored = read_by_id(tx, &[(&key.account, &key.id)]).await?;
                let stored: Vec<_> = stored.into_iter().map(|(_, stored)| stored).collect();
                let is_configured = stored.iter().any(|stored| stored.record.by_config);
                let withdrawn =
                    withdraw(tx, stored, RegistryChange { by: RegisteredBy::Hand, version, now }).await?;
                Ok(match withdrawn {
                    _ if is_configured => Removal::StillConfigured,
                    0 => Removal::Unknown,
                    _ => Removal::Removed,
                })
            })
        })
        .await
    }

    /// Makes a label due now, ahead of labels that are due by their schedule. Returns `false` if it is not registered.
    pub async fn poll_now(&self, key: &LabelKey, now: Timestamp) -> Result<bool, StoreError> {
        let (account, id, now) = (key.account.to_string(), key.id.to_string(), ms(now));
        self.change_registry(move |tx, version| {
            Box::pin(async move {
                let done = sqlx::query!(
                    "UPDATE labels SET next_poll_at = ?, reason = NULL, wait_ms = 0, pace_ms = 0, version = ?
                         WHERE account = ? AND label_id = ? AND state <> 'removed'",
                    now,
                    version,
                    account,
                    id
                )
                .execute(tx)
                .await?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    /// Runs `work` with the next registry version in a transaction of its own, and announces the version.
    async fn change_registry<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection, i64) -> WriterWork<'c, T> + Send + 'static,
    {
        let changed = self.writer.write(move |tx| {
            Box::pin(async move {
                let version = next_version(tx).await?;
                Ok((work(tx, version).await?, version))
            })
        });
        let (result, version) = changed.await?;
        self.announce(version);
        Ok(result)
    }

    /// Returns the `ids` that are registered for the account and not removed.
    pub async fn known_among(&self, account: &str, ids: &[&str]) -> Result<Vec<KnownLabel>, StoreError> {
        let ids = json(ids);
        let known = sqlx::query_as!(
            KnownLabel,
            r#"SELECT label_id, by_config AS "by_config: bool", metadata FROM labels
             WHERE account = ?1 AND label_id IN (SELECT value FROM json_each(?2)) AND state <> 'removed'"#,
            account,
            ids
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(known)
    }
}
