//! Says once a day how fresh what we tell has been, and keeps the counts of it small.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use tracing::info;

use crate::domain::time::earlier;
use crate::store::{Store, StoreError};

/// What the log speaks of.
const LATELY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Counts are kept by the day for so long.
const BY_THE_DAY: SignedDuration = SignedDuration::from_hours(35 * 24);

/// Knows when it spoke last. Nothing of it is stored: who starts anew speaks at the next turn of the day.
#[derive(Debug)]
pub struct Report {
    told_on: Date,
}

impl Report {
    pub fn new(now: Timestamp) -> Self {
        Self { told_on: day(now) }
    }

    /// Speaks if a day (UTC) has begun since it spoke last; one line an account.
    pub async fn step(&mut self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        if day(now) == self.told_on {
            return Ok(());
        }
        self.told_on = day(now);
        store.fold_freshness(earlier(now, BY_THE_DAY)).await?;
        for (account, figures) in store.freshness_figures(earlier(now, LATELY)).await? {
            info!(
                account = %account,
                deliveries = figures.deliveries.total(),
                other_events = figures.others.total(),
                behind = figures.behind.total(),
                stretch = figures.stretch,
                lateness = figures.lateness,
                "news of the last 7 days: {figures}"
            );
        }
        Ok(())
    }
}

fn day(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}
