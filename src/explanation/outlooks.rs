//! Expected next polls of many labels, over the quotas of the accounts, which are read once.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::domain::label::AccountName;
use crate::domain::polling::outlook::{AccountLimits, Outlook};
use crate::store::views::labels::LabelView;
use crate::store::{Store, StoreError};

/// Outlook of every configured account, by name.
#[derive(Debug)]
pub struct Outlooks(BTreeMap<String, Outlook>);

impl Outlooks {
    pub async fn read(
        store: &Store,
        accounts: &[(AccountName, AccountLimits)],
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let mut outlooks = BTreeMap::new();
        for (name, limits) in accounts {
            let (state, used) = (store.account_state(name, now).await?, store.quota_used(name, now).await?);
            let outlook =
                Outlook::new(*limits, used.demand, &used.adaptive_limit, used.this_month, &state, now);
            outlooks.insert(name.to_string(), outlook);
        }
        Ok(Self(outlooks))
    }

    /// Replaces the planned times of the next polls by the expected ones: the quota of an account may delay them.
    pub fn set_expected_polls(&self, labels: &mut [LabelView]) {
        for label in labels {
            if let Some(outlook) = self.0.get(&label.account) {
                label.next_poll_at = label.next_poll_at.map(|due_at| outlook.expected_at(due_at, label.pace));
            }
        }
    }
}
