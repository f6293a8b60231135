//! Expected times of next polls, for the commands that show them.
//!
//! The database has the planned time; the quota of the account may delay it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::config::Config;
use crate::domain::account::Account;
use crate::domain::polling::account_status::AccountState;
use crate::domain::polling::outlook::Outlook;
use crate::store::usage::RecordedUsage;
use crate::store::views::labels::LabelView;
use crate::store::{Store, StoreError};

/// Outlook of every configured account, by name.
pub struct Outlooks(BTreeMap<String, Outlook>);

impl Outlooks {
    pub async fn of(store: &Store, config: &Config, now: Timestamp) -> Result<Self, StoreError> {
        let mut outlooks = BTreeMap::new();
        for (name, account) in &config.accounts {
            let (state, used) = (store.account_state(name, now).await?, store.quota_used(name, now).await?);
            let outlook = outlook(account, &used, &state, now);
            outlooks.insert(name.to_string(), outlook);
        }
        Ok(Self(outlooks))
    }

    pub fn get(&self, account: &str) -> Option<&Outlook> {
        self.0.get(account)
    }

    /// Replaces the planned time of the next poll by the expected one.
    pub fn with_expected_poll(&self, mut label: LabelView) -> LabelView {
        let outlook = self.get(&label.account);
        let expected =
            label.next_poll_at.zip(outlook).map(|(due_at, outlook)| outlook.expected_at(due_at, label.pace));
        label.next_poll_at = expected.or(label.next_poll_at);
        label
    }
}

fn outlook(account: &Account, used: &RecordedUsage, state: &AccountState, now: Timestamp) -> Outlook {
    Outlook::new(account.into(), used.demand, &used.share, used.this_month, state, now)
}
