//! What was used of each account's quota: requests by the second and by the month, kept across restarts.
//!
//! Counts are written with what the requests brought, in the same transaction. Should we die, those under way are not
//! counted: so it is written beforehand how many that may be, and the next start counts them as sent.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{Store, StoreError, at, json, ms};
use crate::domain::budget::Month;
use crate::domain::label::AccountName;
use crate::domain::share::Share;

/// How long requests are remembered by the second, in seconds: the bucket of a budget holds an hour's worth.
const REMEMBERED: i64 = 3_600;

/// What a call used, and what it taught about the quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    pub account: AccountName,
    /// One, and those before it that came to no record.
    pub requests: u32,
    pub sent_at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
    /// How late labels are served, as a share of their wait: a mean of the last.
    pub lateness: f64,
    /// By how much all waits stretch, at least 1.
    pub stretch: f64,
    /// The share of the limit that is used from now on, if that changed.
    pub share: Option<Share>,
    /// A carrier whose labels wait, and until when.
    pub held: Option<(String, Timestamp)>,
}

/// An account's quota as it was left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// Requests of the last hour by the second they were over in, oldest first.
    pub lately: Vec<(Timestamp, usize)>,
    /// Requests of this month.
    pub this_month: u64,
    pub share: Share,
    /// How late labels are served, as a share of their wait.
    pub lateness: f64,
    /// Carriers whose labels wait, and until when.
    pub held: Vec<(String, Timestamp)>,
}

impl Store {
    /// Takes up the quota of an account: what an earlier process had under way when it died counts as sent at `now`. From
    /// here on up to `under_way` requests may be out and not counted.
    pub async fn take_up_quota(
        &self,
        account: &AccountName,
        under_way: u32,
        now: Timestamp,
    ) -> Result<Used, StoreError> {
        let name = account.clone();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let account = name.as_str();
                    let left = sqlx::query_scalar!("SELECT under_way FROM quotas WHERE account = ?", account)
                        .fetch_optional(&mut *tx)
                        .await?;
                    if let Some(left) = left.filter(|left| *left > 0) {
                        let second = ms(now).div_euclid(1000);
                        let month = ms(Month::of(now).start);
                        add(tx, &[Sum { account, requests: left, second, month }]).await?;
                    }
                    sqlx::query!(
                        "INSERT INTO quotas (account, under_way) VALUES (?, ?)
                         ON CONFLICT DO UPDATE SET under_way = excluded.under_way",
                        account,
                        under_way
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(())
                })
            })
            .await?;
        self.quota_used(account, now).await
    }

    /// Up to `under_way` requests may be out and not counted from now on; 0 is a clean end.
    pub async fn expect_under_way(&self, account: &AccountName, under_way: u32) -> Result<(), StoreError> {
        let account = account.to_string();
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!("UPDATE quotas SET under_way = ? WHERE account = ?", under_way, account)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    /// Counts a call that is recorded by nothing else.
    pub async fn record_usage(&self, usage: Usage) -> Result<(), StoreError> {
        self.writer.write(move |tx| Box::pin(async move { count(tx, &[&usage]).await })).await
    }

    /// An account's quota as far as it is recorded.
    pub async fn quota_used(&self, account: &AccountName, now: Timestamp) -> Result<Used, StoreError> {
        let (account, hour_ago) = (account.as_str(), ms(now).div_euclid(1000) - REMEMBERED);
        let month = ms(Month::of(now).start);
        let lately = sqlx::query!(
            "SELECT second, requests FROM requests WHERE account = ? AND second > ? ORDER BY second",
            account,
            hour_ago
        )
        .fetch_all(&self.readers)
        .await?;
        // At the end of its second, but not later than now.
        let over = |second: i64| at(second.saturating_add(1).saturating_mul(1000)).min(now);
        let this_month = sqlx::query_scalar!(
            "SELECT requests FROM months WHERE account = ? AND month = ?",
            account,
            month
        )
        .fetch_optional(&self.readers)
        .await?;
        let quota = sqlx::query!(
            "SELECT share, shared_at, throttled_at, lateness FROM quotas WHERE account = ?",
            account
        )
        .fetch_optional(&self.readers)
        .await?;
        let now = ms(now);
        let held = sqlx::query!(
            "SELECT carrier, held_until FROM carriers WHERE account = ? AND held_until > ? ORDER BY carrier",
            account,
            now
        )
        .fetch_all(&self.readers)
        .await?;
        let mut used = Used {
            lately: lately
                .into_iter()
                .map(|row| (over(row.second), usize::try_from(row.requests).unwrap_or(0)))
                .collect(),
            this_month: this_month.map_or(0, i64::unsigned_abs),
            held: held.into_iter().map(|row| (row.carrier, at(row.held_until))).collect(),
            ..Used::default()
        };
        if let Some(quota) = quota {
            let shrunk = quota.shared_at.zip(quota.share);
            used.share = Share {
                shrunk: shrunk.map(|(since, share)| (at(since), share as f64 / 1000.0)),
                throttled_at: quota.throttled_at.map(at),
            };
            used.lateness = quota.lateness as f64 / 1000.0;
        }
        Ok(used)
    }
}

/// So many requests of an account, and what they count for.
#[derive(Serialize)]
struct Sum<'a> {
    account: &'a str,
    requests: i64,
    second: i64,
    /// The beginning of the month, in ms.
    month: i64,
}

async fn add(tx: &mut SqliteConnection, sums: &[Sum<'_>]) -> Result<(), sqlx::Error> {
    let sums = json(sums);
    sqlx::query!(
        "INSERT INTO requests (account, second, requests)
         SELECT value ->> 'account', value ->> 'second', sum(value ->> 'requests') FROM json_each(?)
         WHERE true GROUP BY 1, 2
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
        sums
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO months (account, month, requests)
         SELECT value ->> 'account', value ->> 'month', sum(value ->> 'requests') FROM json_each(?)
         WHERE true GROUP BY 1, 2
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests",
        sums
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

/// Counts these calls in an open transaction.
pub(super) async fn count(tx: &mut SqliteConnection, used: &[&Usage]) -> Result<(), sqlx::Error> {
    // Of calls side by side the first to be recorded may have counted the others too.
    let counted = used.iter().filter(|usage| usage.requests > 0);
    let sums = counted.map(|usage| Sum {
        account: usage.account.as_str(),
        requests: i64::from(usage.requests),
        second: ms(usage.ended_at).div_euclid(1000),
        month: ms(Month::of(usage.sent_at).start),
    });
    add(tx, &sums.collect::<Vec<_>>()).await?;
    for (index, usage) in used.iter().enumerate() {
        if usage.share.is_some() || usage.held.is_some() {
            learn(tx, usage).await?;
        }
        // What is said of the whole account is said once.
        if used[index + 1..].iter().all(|later| later.account != usage.account) {
            settle(tx, usage).await?;
        }
    }
    Ok(())
}

/// What it taught: a smaller share, a carrier that waits.
async fn learn(tx: &mut SqliteConnection, usage: &Usage) -> Result<(), sqlx::Error> {
    let account = usage.account.as_str();
    if let Some(share) = &usage.share {
        let thousandths = share.shrunk.map(|(_, share)| (share * 1000.0).round() as i64);
        let (shared_at, throttled_at) =
            (share.shrunk.map(|(since, _)| ms(since)), share.throttled_at.map(ms));
        sqlx::query!(
            "INSERT INTO quotas (account, share, shared_at, throttled_at) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET share = excluded.share, shared_at = excluded.shared_at,
                throttled_at = excluded.throttled_at",
            account,
            thousandths,
            shared_at,
            throttled_at
        )
        .execute(&mut *tx)
        .await?;
    }
    if let Some((carrier, until)) = &usage.held {
        let (until, now) = (ms(*until), ms(usage.ended_at));
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
    }
    Ok(())
}

async fn settle(tx: &mut SqliteConnection, usage: &Usage) -> Result<(), sqlx::Error> {
    let account = usage.account.as_str();
    let lateness = (usage.lateness.clamp(0.0, 1e9) * 1000.0) as i64;
    let stretch = (usage.stretch.clamp(1.0, 1e9) * 1000.0) as i64;
    sqlx::query!(
        "INSERT INTO quotas (account, lateness, stretch) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET lateness = excluded.lateness, stretch = excluded.stretch
            WHERE lateness <> excluded.lateness OR stretch <> excluded.stretch",
        account,
        lateness,
        stretch
    )
    .execute(&mut *tx)
    .await?;
    let hour_ago = ms(usage.ended_at).div_euclid(1000) - REMEMBERED;
    sqlx::query!("DELETE FROM requests WHERE account = ? AND second < ?", account, hour_ago)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
