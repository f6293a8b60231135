//! Daily counts of the freshness of changes, written with the poller's batches.
//!
//! [`crate::domain::polling::freshness`] decides which values are counted; [`super::views::freshness`] reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bulk::{Bulk, insert};
use super::{Store, StoreError, ms};
use crate::domain::label::AccountName;
use crate::domain::polling::freshness::Measurement;

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// Returns the start of the day of `at`, UTC.
pub(super) fn day_of(at: Timestamp) -> i64 {
    ms(at).div_euclid(DAY) * DAY
}

/// A measurement and the carrier of its label.
pub type CarrierMeasurement = (Option<Arc<str>>, Measurement);

const COUNT: Bulk = insert!(
    "freshness (account, carrier, kind, delivered, day, bucket, events)",
    7,
    " ON CONFLICT DO UPDATE SET events = events + excluded.events"
);

/// Counts measurements of an account on the day of `now` in an open transaction. Without measurements it runs no
/// statement.
pub(super) async fn count(
    tx: &mut SqliteConnection,
    account: &AccountName,
    measurements: &[CarrierMeasurement],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut counts: BTreeMap<_, i64> = BTreeMap::new();
    for (carrier, measurement) in measurements {
        let counted = (measurement.kind.as_str(), measurement.delivered, measurement.bucket.index());
        *counts.entry((carrier.as_deref().unwrap_or_default(), counted)).or_default() += 1;
    }
    let counts: Vec<_> = counts.into_iter().collect();
    let day = day_of(now);
    COUNT
        .execute(tx, &counts, |((carrier, (kind, delivered, bucket)), events), values| {
            values
                .push(account.as_str())
                .push(*carrier)
                .push(*kind)
                .push(*delivered)
                .push(day)
                .push(i64::try_from(*bucket).unwrap_or(i64::MAX))
                .push(*events);
        })
        .await?;
    Ok(())
}

impl Store {
    /// Sums up all days before the day of `before` into one row each.
    pub async fn fold_freshness(&self, before: Timestamp) -> Result<(), StoreError> {
        let before = day_of(before);
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!(
                        "INSERT INTO freshness (account, carrier, kind, delivered, day, bucket, events)
                         SELECT account, carrier, kind, delivered, 0, bucket, sum(events) FROM freshness
                         WHERE day > 0 AND day < ? GROUP BY account, carrier, kind, delivered, bucket
                         ON CONFLICT DO UPDATE SET events = events + excluded.events",
                        before
                    )
                    .execute(&mut *tx)
                    .await?;
                    sqlx::query!("DELETE FROM freshness WHERE day > 0 AND day < ?", before)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
