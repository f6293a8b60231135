//! Learned change rates of carriers, kept across restarts.
//!
//! Written periodically, not with every poll. A crash loses some minutes of learning and nothing else.

use jiff::Timestamp;

use super::{Store, StoreError, at, json, ms};
use crate::domain::polling::cadence::RowName;
use crate::domain::polling::learning::{LearnedRates, RateCounts, RateGroup};

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
        let rows: Vec<(&str, &str, &RateCounts)> =
            rates.iter().map(|(group, counts)| (&*group.carrier, group.state.as_str(), counts)).collect();
        let (rows, now) = (json(&rows), ms(now));
        let insert = sqlx::query!(
            "INSERT INTO learned_rates (carrier, state, counts, saved_at)
             SELECT value ->> 0, value ->> 1, value ->> 2, ?2
             FROM json_each(?1) WHERE true
             ON CONFLICT (carrier, state) DO UPDATE SET counts = excluded.counts, saved_at = excluded.saved_at",
            rows,
            now
        );
        self.execute(insert).await.map(drop)
    }
}
