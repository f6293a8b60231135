//! The registry: which labels are watched, and who asks for it.
//!
//! Every change counts up the row's `version`, so that a poll asked before it is not recorded over it.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::registering::{Asker, Row, fingerprint, register};
use super::{Store, StoreError, json, ms};
use crate::domain::label::{LabelKey, Registration};

/// Rows per transaction when many are registered: the daemon goes on between two of them.
const CHUNK: usize = 2_000;

/// What a change of the configured labels did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub added: usize,
    pub changed: usize,
    pub retired: usize,
}

/// What became of a label that was to be removed by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed,
    /// Nobody had registered it.
    Unknown,
    /// It is in the configuration or its files too, and goes on.
    StillConfigured,
}

impl Store {
    /// Makes `wanted` the labels that the configuration asks for: new ones are due at once, those that are gone are no
    /// longer polled, and their history stays.
    ///
    /// Written in chunks. If we die between two, the next start reads the same configuration and goes on.
    pub async fn apply_configured(
        &self,
        wanted: &[Registration],
        now: Timestamp,
    ) -> Result<Applied, StoreError> {
        let mut configured = self.configured().await?;
        let mut applied = Applied::default();
        let mut fresh = Vec::new();
        for registration in wanted {
            let row = Row::of(registration);
            let (name, rest) = row.fingerprints();
            match configured.remove(&name) {
                Some((_, before)) if before == rest => continue,
                Some(_) => applied.changed += 1,
                None => applied.added += 1,
            }
            fresh.push(row);
        }
        for chunk in fresh.chunks(CHUNK) {
            let rows = json(chunk);
            self.writer
                .write(move |tx| Box::pin(async move { register(tx, &rows, Asker::Config, now).await }))
                .await?;
        }
        let gone: Vec<i64> = configured.into_values().map(|(row, _)| row).collect();
        applied.retired = gone.len();
        for chunk in gone.chunks(CHUNK) {
            let rows = json(chunk);
            self.writer.write(move |tx| Box::pin(async move { retire_configured(tx, &rows).await })).await?;
        }
        Ok(applied)
    }

    /// (name, (row, rest)) of every label that the configuration asks for.
    async fn configured(&self) -> Result<HashMap<u64, (i64, u64)>, StoreError> {
        use futures_util::TryStreamExt as _;
        let mut rows = sqlx::query!(
            "SELECT label_key, account, label_id, source, metadata FROM labels WHERE by_config = 1"
        )
        .fetch(&self.readers);
        let mut configured = HashMap::new();
        while let Some(row) = rows.try_next().await? {
            let name = fingerprint(&[&row.account, &row.label_id]);
            configured.insert(name, (row.label_key, fingerprint(&[&row.source, &row.metadata])));
        }
        Ok(configured)
    }

    /// Registers labels by hand, beside those of the configuration. Returns how many are new.
    pub async fn add_by_hand(&self, wanted: &[Registration], now: Timestamp) -> Result<u64, StoreError> {
        let mut added = 0;
        for chunk in wanted.chunks(CHUNK) {
            let rows: Vec<Row<'_>> = chunk.iter().map(Row::of).collect();
            let rows = json(&rows);
            added += self
                .writer
                .write(move |tx| Box::pin(async move { register(tx, &rows, Asker::Hand, now).await }))
                .await?;
        }
        Ok(added)
    }

    /// Takes back a registration by hand, and one by discovery for good.
    pub async fn remove_by_hand(&self, key: &LabelKey) -> Result<Removal, StoreError> {
        let (account, id) = (key.account.to_string(), key.id.to_string());
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let row = sqlx::query!(
                        "SELECT by_config, by_hand, by_discovery FROM labels WHERE account = ? AND label_id = ?",
                        account,
                        id
                    )
                    .fetch_optional(&mut *tx)
                    .await?;
                    let removal = match row {
                        None => return Ok(Removal::Unknown),
                        Some(row) if row.by_config == 1 => Removal::StillConfigured,
                        Some(row) if row.by_hand + row.by_discovery == 0 => return Ok(Removal::Unknown),
                        Some(_) => Removal::Removed,
                    };
                    sqlx::query!(
                        "UPDATE labels SET by_hand = 0, by_discovery = 0, dismissed = 1 - by_config,
                            version = version + 1,
                            state = CASE WHEN by_config = 1 THEN state ELSE 'removed' END,
                            next_poll_at = CASE WHEN by_config = 1 THEN next_poll_at END
                         WHERE account = ? AND label_id = ?",
                        account,
                        id
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(removal)
                })
            })
            .await
    }

    /// Makes a label due now, before those that only wait their turn. `false` if it is not registered.
    pub async fn poll_now(&self, key: &LabelKey, now: Timestamp) -> Result<bool, StoreError> {
        let (account, id, now) = (key.account.to_string(), key.id.to_string(), ms(now));
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let done = sqlx::query!(
                        "UPDATE labels SET next_poll_at = ?, wait_ms = 0, pace_ms = 0, version = version + 1
                         WHERE account = ? AND label_id = ? AND state <> 'removed'",
                        now,
                        account,
                        id
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(done.rows_affected() > 0)
                })
            })
            .await
    }
}

async fn retire_configured(tx: &mut SqliteConnection, rows: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE labels SET by_config = 0, version = version + 1,
            source = CASE WHEN by_hand = 1 THEN 'cli' WHEN by_discovery = 1 THEN 'discovered' ELSE source END,
            state = CASE WHEN by_hand + by_discovery > 0 THEN state ELSE 'removed' END,
            next_poll_at = CASE WHEN by_hand + by_discovery > 0 THEN next_poll_at END
         WHERE label_key IN (SELECT value FROM json_each(?))",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}
