//! Collects the degraded parts from the database, for `/healthz` and `trackpost status`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::Config;
use crate::domain::degraded::{DegradationKind, Degraded};
use crate::domain::label::AccountName;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::polling::cadence::Cadence;
use crate::domain::polling::outlook::AccountLimits;
use crate::store::views::accounts::AccountView;
use crate::store::views::subscribers::SubscriberView;
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
            accounts: config.accounts.iter().map(|(name, account)| (name.clone(), account.into())).collect(),
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

/// Returns everything degraded according to the database, most urgent first. Counts neither labels nor deliveries.
pub async fn degraded(
    store: &Store,
    configured: &Configured,
    now: Timestamp,
) -> Result<Vec<Degraded>, StoreError> {
    let accounts = store.account_views(&configured.accounts, now).await?;
    let subscribers = store.uncounted_subscriber_views(&configured.subscribers).await?;
    degraded_of(store, &accounts, &subscribers, now).await
}

/// As [`degraded`], for accounts and subscribers that are read already.
pub async fn degraded_of(
    store: &Store,
    accounts: &[AccountView],
    subscribers: &[SubscriberView],
    now: Timestamp,
) -> Result<Vec<Degraded>, StoreError> {
    let mut found = Vec::new();
    for view in accounts {
        found.extend(Degraded::account(&view.name, view.status, view.since, view.detail.as_deref()));
        let budget = (view.requests_this_month, view.requests_per_month);
        found.extend(Degraded::account_waits(&view.name, view.throttled_until, budget, now));
        found.extend(Degraded::first_polls(&view.name, view.first_polls_waiting, view.first_polls_take));
    }
    for view in subscribers {
        let last_failure = view.last_failure.as_deref();
        let waits = view.pending > 0;
        found.extend(Degraded::subscriber(
            &view.name,
            view.state,
            view.since,
            view.reason,
            last_failure,
            waits,
        ));
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
