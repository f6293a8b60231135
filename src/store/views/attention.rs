//! Collects the degraded parts from the database, for `/healthz` and `trackpost status`.
//!
//! Cheap enough for a request every second: it counts neither labels nor deliveries.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::Config;
use crate::domain::account::Account;
use crate::domain::degraded::{DegradationKind, Degraded, SubscriberStatus};
use crate::domain::label::AccountName;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::polling::cadence::Cadence;
use crate::domain::polling::outlook::AccountLimits;
use crate::store::{Store, StoreError};

/// The accounts and subscribers of the configuration, as needed for health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    pub accounts: Vec<(AccountName, AccountLimits)>,
    /// Each subscriber, with whether it is enabled.
    pub subscribers: BTreeMap<SubscriberName, bool>,
    /// Digest of each subscriber's URL.
    pub url_digests: BTreeMap<SubscriberName, String>,
    pub cadence: Option<Cadence>,
}

impl Configured {
    pub fn of(config: &Config) -> Self {
        Self {
            accounts: config.accounts.iter().map(|(name, account)| (name.clone(), limits(account))).collect(),
            subscribers: config
                .subscribers
                .iter()
                .map(|(name, subscriber)| (name.clone(), subscriber.enabled))
                .collect(),
            url_digests: config
                .subscribers
                .iter()
                .map(|(name, subscriber)| (name.clone(), subscriber.url_digest()))
                .collect(),
            cadence: Some(config.cadence.clone()),
        }
    }
}

/// Returns the limits of an account.
pub fn limits(account: &Account) -> AccountLimits {
    AccountLimits {
        requests_per_minute: account.requests_per_minute,
        requests_per_month: account.requests_per_month,
    }
}

/// Returns everything degraded according to the database, most urgent first.
pub async fn degraded(
    store: &Store,
    configured: &Configured,
    now: Timestamp,
) -> Result<Vec<Degraded>, StoreError> {
    let mut found = Vec::new();
    for (name, limits) in &configured.accounts {
        let view = store.account_view(name, *limits, now).await?;
        found.extend(Degraded::account(&view.name, view.status, view.since, view.detail.as_deref()));
        let budget = (view.requests_this_month, view.requests_per_month);
        found.extend(Degraded::account_waits(&view.name, view.throttled_until, budget, now));
        found.extend(Degraded::first_polls(&view.name, view.first_polls_waiting, view.first_polls_take));
    }
    let owed = store.subscribers_with_pending().await?;
    let absent = owed.iter().map(|name| SubscriberName::new(name));
    let absent = absent.filter(|name| !configured.subscribers.contains_key(name));
    for name in configured.subscribers.keys().cloned().chain(absent) {
        let health = store.subscriber_health(&name).await?;
        let status = SubscriberStatus::of(configured.subscribers.get(&name).copied(), health.state);
        let waits = owed.iter().any(|owed| owed == name.as_str());
        found.extend(Degraded::subscriber(name.as_str(), status, &health, waits));
    }
    for file in store.label_files_left_out().await? {
        let since = file.since.and_then(|since| Timestamp::from_millisecond(since).ok());
        let problem = file.problem.unwrap_or_default();
        found.push(Degraded::new(DegradationKind::LabelFile, Some(&file.path), since, problem));
    }
    found.extend(Degraded::wal(store.wal_bytes()));
    found.sort_by_key(|degraded| degraded.what);
    Ok(found)
}
