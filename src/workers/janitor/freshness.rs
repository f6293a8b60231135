//! Logs the freshness of the last 7 days once a day, and sums up counts older than 35 days.

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use tracing::info;

use crate::domain::time::earlier;
use crate::store::{Store, StoreError};

/// The span of the log line.
const FIGURES_SPAN: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Daily counts are kept this long.
const DAILY_KEPT: SignedDuration = SignedDuration::from_hours(35 * 24);

/// The day of the last log line. It is not stored: after a restart the next line comes with the next day.
#[derive(Debug)]
pub struct FreshnessReport {
    logged_on: Date,
}

impl FreshnessReport {
    pub fn new(now: Timestamp) -> Self {
        Self { logged_on: day(now) }
    }

    /// Logs one line an account if a day (UTC) has begun since the last line.
    pub async fn step(&mut self, store: &Store, now: Timestamp) -> Result<(), StoreError> {
        if day(now) == self.logged_on {
            return Ok(());
        }
        self.logged_on = day(now);
        store.fold_freshness(earlier(now, DAILY_KEPT)).await?;
        for (account, figures) in store.freshness_figures(earlier(now, FIGURES_SPAN)).await? {
            info!(
                account = %account,
                deliveries = figures.deliveries.total(),
                other_events = figures.others.total(),
                late_polls = figures.late_polls.total(),
                stretch = figures.stretch,
                lateness = figures.lateness,
                "freshness of the last 7 days: {figures}"
            );
        }
        Ok(())
    }
}

fn day(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}
