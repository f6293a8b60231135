//! The spans of wall time that did not pass ([`crate::domain::clock`]), kept across restarts: a jump of the clock stays
//! without effect on alerts and expiry for as long as an instant before it counts.

use super::{Store, StoreError, at, ms};
use crate::domain::clock::Gaps;

impl Store {
    /// Returns the recorded gaps, in the order of detection.
    pub async fn clock_gaps(&self) -> Result<Gaps, StoreError> {
        let gaps = sqlx::query!("SELECT began_at, ended_at FROM clock_gaps ORDER BY gap_key")
            .fetch_all(&self.readers)
            .await?;
        Ok(Gaps::of(gaps.into_iter().map(|gap| (at(gap.began_at), at(gap.ended_at))).collect()))
    }

    /// Replaces the recorded gaps.
    pub async fn record_clock_gaps(&self, gaps: &Gaps) -> Result<(), StoreError> {
        let gaps: Vec<(i64, i64)> = gaps.spans().iter().map(|(from, to)| (ms(*from), ms(*to))).collect();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!("DELETE FROM clock_gaps").execute(&mut *tx).await?;
                    for (began_at, ended_at) in gaps {
                        sqlx::query!(
                            "INSERT INTO clock_gaps (began_at, ended_at) VALUES (?, ?)",
                            began_at,
                            ended_at
                        )
                        .execute(&mut *tx)
                        .await?;
                    }
                    Ok(())
                })
            })
            .await
    }
}
