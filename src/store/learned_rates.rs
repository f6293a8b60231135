//! Learned change rates of carriers, kept across restarts.
//!
//! Written periodically, not with every poll. A crash loses some minutes of learning and nothing else.

use jiff::Timestamp;
use serde::Serialize;

use super::{Store, StoreError, at, json, ms};
use crate::domain::polling::cadence::RowName;
use crate::domain::polling::learning::{LearnedRates, RateCounts, RateGroup};

#[derive(Serialize)]
struct RateRow<'a> {
    carrier: &'a str,
    state: &'a str,
    counts: &'a RateCounts,
}

impl Store {
    /// Returns the learned rates and when they were written. Skips rows that this version cannot read.
    pub async fn learned_rates(&self) -> Result<(LearnedRates, Option<Timestamp>), StoreError> {
        let rows = sqlx::query!("SELECT carrier, state, counts, saved_at FROM learned_rates")
            .fetch_all(&self.readers)
            .await?;
        let saved_at = rows.iter().map(|row| at(row.saved_at)).max();
        let groups = rows.into_iter().filter_map(|row| {
            let state = RowName::parse(&row.state)?;
            let counts: RateCounts = serde_json::from_str(&row.counts).ok()?;
            Some((RateGroup { carrier: row.carrier.into(), state }, counts))
        });
        Ok((groups.collect(), saved_at))
    }

    /// Writes all learned rates.
    pub async fn save_learned_rates(&self, rates: &LearnedRates, now: Timestamp) -> Result<(), StoreError> {
        let rows: Vec<RateRow<'_>> = rates
            .iter()
            .map(|(group, counts)| RateRow { carrier: &group.carrier, state: group.state.as_str(), counts })
            .collect();
        let (rows, now) = (json(&rows), ms(now));
        let insert = sqlx::query!(
            "INSERT INTO learned_rates (carrier, state, counts, saved_at)
             SELECT value ->> 'carrier', value ->> 'state', value ->> 'counts', ?2
             FROM json_each(?1) WHERE true
             ON CONFLICT (carrier, state) DO UPDATE SET counts = excluded.counts, saved_at = excluded.saved_at",
            rows,
            now
        );
        self.execute(insert).await.map(drop)
    }
}
