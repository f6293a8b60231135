//! Accounts as `accounts list`, `status` and `/healthz` show them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};

use crate::domain::degraded::first_polls_take;
use crate::domain::label::AccountName;
use crate::domain::polling::account_status::AccountStatus;
use crate::domain::polling::outlook::{AccountLimits, Outlook};
use crate::domain::time::{earlier, serialize_instant_or_null};
use crate::store::usage::INFINITE_STRETCH;
use crate::store::{Store, StoreError};

/// An account with the usage of its quota.
#[derive(Clone, Debug, Serialize)]
pub struct AccountView {
    pub name: String,
    #[serde(rename = "state")]
    pub status: AccountStatus,
    pub detail: Option<String>,
    pub requests_last_minute: u64,
    pub requests_this_month: u64,
    /// Null: the account may not send requests.
    pub stretch: Option<f64>,
    pub due: u64,
    pub first_polls_waiting: u64,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub next_probe_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub last_success_at: Option<Timestamp>,
    #[serde(skip)]
    pub since: Timestamp,
    pub requests_per_minute: u32,
    pub requests_per_month: u64,
    /// Minimum time that the first polls take; null: the account may not send requests.
    #[serde(rename = "first_polls_seconds", serialize_with = "seconds")]
    pub first_polls_take: Option<Duration>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub throttled_until: Option<Timestamp>,
}

fn seconds<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs()).serialize(serializer)
}

impl Store {
    /// Returns configured accounts as last written.
    pub async fn account_views(
        &self,
        accounts: &[(AccountName, AccountLimits)],
        now: Timestamp,
    ) -> Result<Vec<AccountView>, StoreError> {
        let mut views = Vec::with_capacity(accounts.len());
        for (name, limits) in accounts {
            views.push(self.account_view(name, *limits, now).await?);
        }
        Ok(views)
    }

    async fn account_view(
        &self,
        name: &AccountName,
        limits: AccountLimits,
        now: Timestamp,
    ) -> Result<AccountView, StoreError> {
        let (state, used) = (self.account_state(name, now).await?, self.quota_used(name, now).await?);
        let outlook = Outlook::new(limits, used.demand, &used.adaptive_limit, used.this_month, &state, now);
        let minute_ago = earlier(now, SignedDuration::from_mins(1));
        let lately = used.lately.iter().filter(|(at, _)| *at > minute_ago);
        let stretch = used.stretch.max(1.0);
        Ok(AccountView {
            name: name.to_string(),
            status: state.status,
            detail: state.detail.clone(),
            requests_last_minute: lately.map(|(_, requests)| *requests as u64).sum(),
            requests_this_month: used.this_month,
            stretch: (stretch < INFINITE_STRETCH).then_some(stretch),
            due: used.due,
            first_polls_waiting: used.first_polls,
            next_probe_at: state.probe_at,
            last_success_at: used.last_success_at,
            since: state.since,
            requests_per_minute: limits.requests_per_minute,
            requests_per_month: limits.requests_per_month,
            first_polls_take: first_polls_take(used.first_polls, outlook.allowed),
            throttled_until: state.throttled_until.filter(|until| *until > now),
        })
    }
}
