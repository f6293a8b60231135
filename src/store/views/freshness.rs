//! Freshness of changes, for logs and `/metrics`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::count;
use crate::domain::label::AccountName;
use crate::domain::polling::freshness::{FreshnessFigures, FreshnessKind, Histogram};
use crate::store::freshness::day_of;
use crate::store::usage::ratio;
use crate::store::{Store, StoreError};

/// A histogram and the columns it is counted under.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub account: AccountName,
    /// Spelled as by the API; "" if it was not known.
    pub carrier: String,
    pub kind: FreshnessKind,
    /// Whether it counts scans with status DE or SP.
    pub delivered: bool,
    pub histogram: Histogram,
}

impl Store {
    /// Returns all counts since the day of `since`, UTC. Without `since`, the sums of all days, which never decrease.
    pub async fn freshness(&self, since: Option<Timestamp>) -> Result<Vec<Series>, StoreError> {
        let since = since.map_or(0, day_of);
        let rows = sqlx::query!(
            r#"SELECT account, carrier, kind, delivered, bucket, sum(events) AS "events!: i64"
               FROM freshness WHERE day >= ? GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"#,
            since
        )
        .fetch_all(&self.readers)
        .await?;
        let mut found: Vec<Series> = Vec::new();
        for row in rows {
            let (Some(kind), account) = (FreshnessKind::parse(&row.kind), AccountName::new(&row.account))
            else {
                continue;
            };
            let delivered = row.delivered == 1;
            let name = (&account, row.carrier.as_str(), kind, delivered);
            let same = |of: &Series| (&of.account, of.carrier.as_str(), of.kind, of.delivered) == name;
            if !found.last().is_some_and(same) {
                let (carrier, histogram) = (row.carrier, Histogram::default());
                found.push(Series { account, carrier, kind, delivered, histogram });
            }
            let buckets = found.last_mut().map(|series| &mut series.histogram.0);
            let bucket = usize::try_from(row.bucket).ok().zip(buckets).and_then(|(at, all)| all.get_mut(at));
            bucket.into_iter().for_each(|bucket| *bucket += count(row.events));
        }
        Ok(found)
    }

    /// Returns the figures of each account with counts since the day of `since`.
    pub async fn freshness_figures(
        &self,
        since: Timestamp,
    ) -> Result<BTreeMap<AccountName, FreshnessFigures>, StoreError> {
        let mut accounts: BTreeMap<AccountName, FreshnessFigures> = BTreeMap::new();
        for series in self.freshness(Some(since)).await? {
            let figures = accounts.entry(series.account).or_default();
            match (series.kind, series.delivered) {
                (FreshnessKind::SinceLastPoll, true) => figures.deliveries.add(&series.histogram),
                (FreshnessKind::SinceLastPoll, false) => figures.others.add(&series.histogram),
                (FreshnessKind::LatePoll, _) => figures.late_polls.add(&series.histogram),
                (FreshnessKind::SinceScan | FreshnessKind::ImplausibleTime, _) => {}
            }
        }
        let quotas =
            sqlx::query!("SELECT account, stretch, lateness FROM quotas").fetch_all(&self.readers).await?;
        let by_account: BTreeMap<&str, (f64, f64)> = quotas
            .iter()
            .map(|row| (row.account.as_str(), (ratio(row.stretch), ratio(row.lateness))))
            .collect();
        for (account, figures) in &mut accounts {
            (figures.stretch, figures.lateness) =
                by_account.get(account.as_str()).copied().unwrap_or((1.0, 0.0));
        }
        Ok(accounts)
    }
}
