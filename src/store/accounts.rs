//! Account status, kept across restarts, so that a failure is not announced twice.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::bulk::Bulk;
use super::messages::write_system_messages;
use super::records::NewDelivery;
use super::{Store, StoreError, at, ms, to_u32};
use crate::domain::label::AccountName;
use crate::domain::messages::subscriber::SubscriberName;
use crate::domain::polling::account_status::{AccountChange, AccountState, AccountStatus, due_after_outage};

pub use super::records::AccountRecord;

impl Store {
    /// Returns the account's status as an earlier process left it.
    pub async fn account_state(
        &self,
        name: &AccountName,
        now: Timestamp,
    ) -> Result<AccountState, StoreError> {
        let account = name.as_str();
        let row = sqlx::query!(
            "SELECT status, since, probes, probe_at, throttled_until, detail FROM accounts WHERE account = ?",
            account
        )
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(AccountState::new(now)) };
        Ok(AccountState {
            status: AccountStatus::parse(&row.status).unwrap_or(AccountStatus::Ok),
            since: at(row.since),
            probes: to_u32(row.probes),
            probe_at: row.probe_at.map(at),
            throttled_until: row.throttled_until.map(at),
            detail: row.detail,
            ..AccountState::new(now)
        })
    }

    /// Writes an account's new status without a poll or request that it belongs to.
    pub async fn record_account(&self, record: AccountRecord) -> Result<(), StoreError> {
        let informed: BTreeSet<SubscriberName> =
            record.deliveries.iter().map(|delivery| delivery.subscriber.clone()).collect();
        self.writer.write(move |tx| Box::pin(async move { write_status(tx, &record).await })).await?;
        informed.iter().for_each(|subscriber| self.handover.mark_stale(subscriber));
        Ok(())
    }
}

/// Writes an account's status into an open transaction. Returns the new deliveries, which are handed over after the
/// commit.
pub(super) async fn write_status(
    tx: &mut SqliteConnection,
    record: &AccountRecord,
) -> Result<Vec<NewDelivery>, sqlx::Error> {
    let state = &record.state;
    let (name, status) = (record.name.as_str(), state.status.as_str());
    let (since, probes) = (ms(state.since), i64::from(state.probes));
    let (probe_at, throttled_until) = (state.probe_at.map(ms), state.throttled_until.map(ms));
    sqlx::query!(
        "INSERT INTO accounts (account, status, since, probes, probe_at, throttled_until, detail)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (account) DO UPDATE SET status = excluded.status, since = excluded.since,
            probes = excluded.probes, probe_at = excluded.probe_at,
            throttled_until = excluded.throttled_until, detail = excluded.detail",
        name,
        status,
        since,
        probes,
        probe_at,
        throttled_until,
        state.detail
    )
    .execute(&mut *tx)
    .await?;
    if record.change == Some(AccountChange::CameBack) {
        clear_failures(tx, record).await?;
    }
    write_system_messages(tx, &record.messages, &record.deliveries, Some(&record.name)).await
}

pub(super) const CLEAR_FAILURES: Bulk = Bulk {
    before: "WITH new (label_key, next_poll_at) AS (",
    columns: 2,
    after: ") UPDATE labels SET failures = 0, failing_since = NULL, next_poll_at = new.next_poll_at, reason = NULL
     FROM new WHERE labels.label_key = new.label_key",
};

/// Clears the failures of labels that an outage of the account caused, and ends their backoff. Other labels stay
/// overdue and are polled in the order of their due time. The labels' version stays, so polls in flight are recorded.
async fn clear_failures(tx: &mut SqliteConnection, record: &AccountRecord) -> Result<(), sqlx::Error> {
    let name = record.name.as_str();
    let failing = sqlx::query!(
        r#"SELECT label_key, next_poll_at AS "next_poll_at!" FROM labels INDEXED BY labels_failing
         WHERE account = ? AND state = 'active' AND failures > 0"#,
        name
    )
    .fetch_all(&mut *tx)
    .await?;
    CLEAR_FAILURES
        .execute(tx, &failing, |label, values| {
            values.push(label.label_key).push(ms(due_after_outage(at(label.next_poll_at), record.now)));
        })
        .await?;
    Ok(())
}
