//! Records that several modules of the store write: plain values without queries.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::delivery::outbox::PendingDelivery;
use crate::domain::delivery::outcome::Attempt;
use crate::domain::label::AccountName;
use crate::domain::messages::fan_out::{self, PlannedDelivery};
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::messages::{Message, account_message};
use crate::domain::polling::account_status::{AccountChange, AccountState};
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::polling::poll::{POLLS_KEPT, PollPlan, PollSummary};

/// A new delivery and its subscriber.
pub type NewDelivery = (SubscriberName, PendingDelivery);

/// An attempt that ended, with the facts that decide its result. The result is decided when it is written, from the
/// subscriber's health and the delivery's row at that time.
#[derive(Clone, Debug)]
pub struct EndedAttempt {
    pub subscriber: Arc<Subscriber>,
    /// Key of the delivery.
    pub key: i64,
    /// Whether it is a ping.
    pub ping: bool,
    pub attempt: Attempt,
    /// Whether it was the probe of a failing subscriber.
    pub probe: bool,
    /// Random value from -1 to 1.
    pub jitter: f64,
    /// All subscribers. A change of this subscriber's health makes messages for the subscribers that select them.
    pub subscribers: Arc<Vec<Subscriber>>,
    pub ended_at: Timestamp,
    /// Whether no caller waits: it may be written together with later jobs.
    pub can_wait: bool,
}

/// The plan of one poll, ready to write.
#[derive(Debug)]
pub struct PollRecord {
    pub row: i64,
    /// The registry version under which the poll was sent. Under another version nothing is written.
    pub version: i64,
    pub account_name: AccountName,
    pub label_id: String,
    pub polled_at: Timestamp,
    pub plan: PollPlan,
    /// Whether the state or the tracking number changed.
    pub searched_changed: bool,
    pub recent_polls: String,
    /// Number of events that the label had before.
    pub known_events: usize,
    /// The account's new status, if this poll changed it, with the messages about it.
    pub account: Option<AccountRecord>,
}

/// An account's new status, the messages about it, and its effect on the labels.
#[derive(Clone, Debug)]
pub struct AccountRecord {
    pub name: AccountName,
    pub state: AccountState,
    pub change: Option<AccountChange>,
    pub messages: Vec<Message>,
    pub deliveries: Vec<PlannedDelivery>,
    pub now: Timestamp,
}

impl AccountRecord {
    /// Returns the record of an account's new status, with the messages about its `change` and their deliveries.
    pub fn new(
        name: &AccountName,
        state: AccountState,
        change: Option<AccountChange>,
        subscribers: &[Subscriber],
        now: Timestamp,
    ) -> Self {
        let kind = change.and_then(AccountChange::message_type);
        let about = |kind| account_message(kind, name, state.status.as_str(), state.detail.as_deref(), now);
        let messages: Vec<Message> = kind.map(about).into_iter().collect();
        let deliveries = fan_out::of_system(&messages, Some(name), subscribers);
        Self { name: name.clone(), change, deliveries, messages, state, now }
    }
}

impl PollRecord {
    /// Combines a plan with its label.
    pub fn new(
        label: &LabelRecord,
        known_events: usize,
        plan: PollPlan,
        now: Timestamp,
        account: Option<AccountRecord>,
    ) -> Self {
        Self {
            row: label.row,
            version: label.version,
            account_name: label.key.account.clone(),
            label_id: label.key.id.to_string(),
            polled_at: now,
            searched_changed: label.poll_state.state != plan.poll_state.state
                || label.poll_state.tracking_number != plan.poll_state.tracking_number,
            recent_polls: with_summary(&label.recent_polls, plan.summary.clone()),
            plan,
            known_events,
            account,
        }
    }
}

fn with_summary(recent: &str, summary: PollSummary) -> String {
    let mut summaries: Vec<PollSummary> = serde_json::from_str(recent).unwrap_or_default();
    summaries.push(summary);
    let surplus = summaries.len().saturating_sub(POLLS_KEPT);
    serde_json::to_string(&summaries[surplus..]).expect("summaries are plain values")
}
