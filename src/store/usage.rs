//! Usage of each account's quota: requests by second and by month, kept across restarts.
//!
//! Requests are reserved in small steps before they are sent, and counted after they have ended. After an unclean end
//! the reserved requests count as sent. So the limit holds across crashes, and a poll does not need a write of its own.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::clocks::align;
use super::{Store, StoreError, at, ms};
use crate::domain::clock::ClockRecord;
use crate::domain::label::AccountName;
use crate::domain::polling::adaptive_limit::AdaptiveLimit;
use crate::domain::polling::budget::Month;
use crate::domain::polling::quota::ended_by;
use crate::domain::polling::rate_limiter::{Demand, EndedRequests};

/// Seconds for which requests are kept by the second: the bucket of a budget holds an hour.
pub const KEPT_SECONDS: i64 = 3_600;

/// Requests that have ended, and the state of the account's rate limiter.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    pub clock: ClockRecord,
    /// Requests by the second in which they ended and the month in which they were sent, both as instants.
    pub ended: Vec<EndedRequests>,
    /// Mean lateness of recent polls, as a fraction of their intervals.
    pub lateness: f64,
    /// Factor by which all waits are stretched, at least 1.
    pub stretch: f64,
    pub demand: Demand,
    /// The adaptive limit, if it changed.
    pub adaptive_limit: Option<AdaptiveLimit>,
    /// Time of the last answer in this process that accepted the key.
    pub last_success_at: Option<Timestamp>,
}

/// The recorded usage of an account's quota.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedUsage {
    /// Requests of the last hour by the second in which they ended, oldest first.
    pub lately: Vec<(Timestamp, usize)>,
    /// Requests of this month.
    pub this_month: u64,
    /// Requests of each month, by its start.
    pub months: Vec<(Timestamp, u64)>,
    pub adaptive_limit: AdaptiveLimit,
    /// Mean lateness of recent polls, as a fraction of their intervals.
    pub lateness: f64,
    /// Factor by which all waits are stretched, and the demand of the labels in requests per second, as last written.
    pub stretch: f64,
    pub demand: f64,
    /// Due labels at that time, and those of them without a planned poll: new, or made due by hand.
    pub due: u64,
    pub first_polls: u64,
    pub last_success_at: Option<Timestamp>,
    /// Carriers whose labels wait, each with the end of the wait.
    pub held: Vec<(String, Timestamp)>,
}

impl Store {
    /// Opens the quota of an account: requests that an earlier process had reserved when it died count as sent at
    /// `now`.
    pub async fn open_quota(
        &self,
        account: &AccountName,
        now: Timestamp,
    ) -> Result<RecordedUsage, StoreError> {
        let name = account.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let account = name.as_str();
                    let left = sqlx::query_scalar!("SELECT reserved FROM quotas WHERE account = ?", account)
                        .fetch_optional(&mut *tx)
                        .await?;
                    if let Some(requests) =
                        left.and_then(|left| u32::try_from(left).ok()).filter(|left| *left > 0)
                    {
                        add(tx, &name, &[EndedRequests { at: now, month: Month::of(now), requests }]).await?;
                    }
                    sqlx::query!(
                        "INSERT INTO quotas (account) VALUES (?) ON CONFLICT DO UPDATE SET reserved = 0",
                        account
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(())
                })
            })
            .await?;
        self.quota_used(account, now).await
    }

    /// Reserves requests: they count as sent until they are counted one by one.
    pub async fn reserve_requests(&self, account: &AccountName, requests: u32) -> Result<(), StoreError> {
        let account = account.to_string();
        let reserve =
            sqlx::query!("UPDATE quotas SET reserved = reserved + ? WHERE account = ?", requests, account);
        self.execute(reserve).await.map(drop)
    }

    /// Releases reserved requests that were not sent, at a clean end.
    pub async fn release_requests(&self, account: &AccountName, requests: u32) -> Result<(), StoreError> {
        let account = account.to_string();
        let release = sqlx::query!(
            "UPDATE quotas SET reserved = max(0, reserved - ?) WHERE account = ?",
            requests,
            account
        );
        self.execute(release).await.map(drop)
    }

    /// Lets the labels of `carrier` wait until `until`, also after a restart.
    pub async fn hold_carrier(
        &self,
        account: &AccountName,
        carrier: String,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (account, until, now) = (account.to_string(), ms(until), ms(now));
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!(
                        "INSERT INTO carriers (account, carrier, held_until) VALUES (?, ?, ?)
                         ON CONFLICT DO UPDATE SET held_until = max(held_until, excluded.held_until)",
                        account,
                        carrier,
                        until
                    )
                    .execute(&mut *tx)
                    .await?;
                    sqlx::query!("DELETE FROM carriers WHERE account = ? AND held_until <= ?", account, now)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Returns when the last request of any account was counted: about when the last run ended.
    pub async fn last_request_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let second: Option<i64> =
            sqlx::query_scalar("SELECT max(second) FROM requests").fetch_one(&self.readers).await?;
        Ok(second.map(|second| at(second.saturating_mul(1000))))
    }

    /// Counts requests that are not recorded with a poll.
    pub async fn record_usage(
        &self,
        account: &AccountName,
        usage: Usage,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let account = account.clone();
        self.writer.write(move |tx| Box::pin(async move { count(tx, &account, &usage, now).await })).await
    }

    /// Returns the recorded usage of an account's quota.
    pub async fn quota_used(
        &self,
        account: &AccountName,
        now: Timestamp,
    ) -> Result<RecordedUsage, StoreError> {
        let (account, hour_ago) = (account.as_str(), ms(now).div_euclid(1000) - KEPT_SECONDS);
        let month = Month::of(now).start;
        let lately = sqlx::query!(
            "SELECT second, requests FROM requests WHERE account = ? AND second > ? ORDER BY second",
            account,
            hour_ago
        )
        .fetch_all(&self.readers)
        .await?;
        let months = sqlx::query!("SELECT month, requests FROM months WHERE account = ?", account)
            .fetch_all(&self.readers)
            .await?;
        let months: Vec<(Timestamp, u64)> =
            months.into_iter().map(|row| (at(row.month), row.requests.unsigned_abs())).collect();
        let this_month = months.iter().find(|(start, _)| *start == month);
        let quota = sqlx::query!(
            "SELECT adaptive_limit, limited_since, throttled_at, lateness, stretch, demand_nanohertz, due, first_polls,
                 last_success_at
             FROM quotas WHERE account = ?",
            account
        )
        .fetch_optional(&self.readers)
        .await?;
        let now_ms = ms(now);
        let held = sqlx::query!(
            "SELECT carrier, held_until FROM carriers WHERE account = ? AND held_until > ? ORDER BY carrier",
            account,
            now_ms
        )
        .fetch_all(&self.readers)
        .await?;
        let mut used = RecordedUsage {
            lately: lately
                .into_iter()
                .map(|row| (ended_by(row.second, now), usize::try_from(row.requests).unwrap_or(0)))
                .collect(),
            this_month: this_month.map_or(0, |(_, requests)| *requests),
            months,
            held: held.into_iter().map(|row| (row.carrier, at(row.held_until))).collect(),
            ..RecordedUsage::default()
        };
        if let Some(quota) = quota {
            let shrunk = quota.limited_since.zip(quota.adaptive_limit);
            used.adaptive_limit = AdaptiveLimit {
                shrunk: shrunk.map(|(since, fraction)| (at(since), ratio(fraction))),
                throttled_at: quota.throttled_at.map(at),
            };
            used.lateness = ratio(quota.lateness);
            used.stretch = ratio(quota.stretch);
            used.demand = quota.demand_nanohertz as f64 / 1e9;
            used.due = quota.due.unsigned_abs();
            used.first_polls = quota.first_polls.unsigned_abs();
            used.last_success_at = quota.last_success_at.map(at);
        }
        Ok(used)
    }
}

/// Stretch that is stored if the account may send no request.
pub(super) const INFINITE_STRETCH: f64 = 1e9;

/// Converts a column of thousandths.
pub(super) fn ratio(thousandths: i64) -> f64 {
    thousandths as f64 / 1000.0
}

/// Counts requests in an open transaction.
async fn add(
    tx: &mut SqliteConnection,
    account: &AccountName,
    ended: &[EndedRequests],
) -> Result<(), sqlx::Error> {
    let account = account.as_str();
    for ended in ended {
        let (second, month) = (ms(ended.at).div_euclid(1000), ms(ended.month.start));
        sqlx::query!(
            "INSERT INTO requests (account, second, requests) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
            account,
            second,
            ended.requests
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "INSERT INTO months (account, month, requests) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
            account,
            month,
            ended.requests
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Writes usage into an open transaction: reserved requests become counted requests.
pub(super) async fn count(
    tx: &mut SqliteConnection,
    account: &AccountName,
    usage: &Usage,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    align(tx, &usage.clock).await?;
    add(tx, account, &usage.ended).await?;
    let sent: i64 = usage.ended.iter().map(|ended| i64::from(ended.requests)).sum();
    let name = account.as_str();
    let thousandths = |ratio: f64| (ratio.clamp(0.0, INFINITE_STRETCH) * 1000.0) as i64;
    let (lateness, stretch) = (thousandths(usage.lateness), thousandths(usage.stretch).max(1000));
    let demand_nanohertz = (usage.demand.rate.clamp(0.0, 1e9) * 1e9) as i64;
    let count = |labels: usize| i64::try_from(labels).unwrap_or(i64::MAX);
    let (due, first_polls) = (count(usage.demand.due), count(usage.demand.first_polls));
    let last_success_at = usage.last_success_at.map(ms);
    sqlx::query!(
        "UPDATE quotas SET reserved = max(0, reserved - ?), lateness = ?, stretch = ?, demand_nanohertz = ?, due = ?,
            first_polls = ?, last_success_at = coalesce(?, last_success_at)
         WHERE account = ?",
        sent,
        lateness,
        stretch,
        demand_nanohertz,
        due,
        first_polls,
        last_success_at,
        name
    )
    .execute(&mut *tx)
    .await?;
    if let Some(limit) = &usage.adaptive_limit {
        let (since, fraction) = limit.shrunk.unzip();
        let thousandths = fraction.map(|fraction| (fraction * 1000.0).round() as i64);
        let (limited_since, throttled_at) = (since.map(ms), limit.throttled_at.map(ms));
        sqlx::query!(
            "UPDATE quotas SET adaptive_limit = ?, limited_since = ?, throttled_at = ? WHERE account = ?",
            thousandths,
            limited_since,
            throttled_at,
            name
        )
        .execute(&mut *tx)
        .await?;
    }
    let hour_ago = ms(now).div_euclid(1000) - KEPT_SECONDS;
    sqlx::query!("DELETE FROM requests WHERE account = ? AND second < ?", name, hour_ago)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
