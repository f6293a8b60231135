//! Sentences about the time of a label's next poll: its state, the cadence, the account, the quota.

use jiff::{SignedDuration, Timestamp};

use super::{instant_or_dash, instant_text, reason, roughly};
use crate::config::duration;
use crate::domain::degraded::{first_polls_in_words, first_polls_take};
use crate::domain::label::AccountName;
use crate::domain::polling::account_status::{AccountState, AccountStatus};
use crate::domain::polling::cadence::POLL_JITTER;
use crate::domain::polling::outlook::{AccountLimits, Outlook};
use crate::domain::polling::reason::PollReason;
use crate::domain::time::instant;
use crate::store::views::labels::{LabelDetail, LabelView};
use crate::store::{Store, StoreError};

/// A label as recorded, with everything that affects its next poll.
#[derive(Debug)]
pub struct Recorded {
    pub label: LabelView,
    pub detail: LabelDetail,
    account: AccountState,
    /// The account's use of its quota; `None` if the account is not configured.
    pub outlook: Option<Outlook>,
    /// Number of waiting first polls of the account.
    first_polls: u64,
    /// End of the wait of its carrier's labels.
    held_until: Option<Timestamp>,
    /// Expected time of the next poll.
    pub expected: Option<Timestamp>,
}

impl Recorded {
    /// Reads a label; `limits`: the limits of its account, if it is configured. `None`: the label does not exist any
    /// more.
    pub async fn read(
        store: &Store,
        row: i64,
        limits: impl FnOnce(&str) -> Option<AccountLimits>,
        now: Timestamp,
    ) -> Result<Option<Self>, StoreError> {
        let Some((label, detail)) = store.label_detail(row).await? else { return Ok(None) };
        let name = AccountName::new(&label.account);
        let (account, used) = (store.account_state(&name, now).await?, store.quota_used(&name, now).await?);
        let outlook = limits(&label.account).map(|limits| {
            Outlook::new(limits, used.demand, &used.adaptive_limit, used.this_month, &account, now)
        });
        let held = used
            .held
            .into_iter()
            .find(|(carrier, _)| Some(carrier) == detail.poll_state.carrier_code.as_ref());
        let held_until = held.map(|(_, until)| until);
        let expected = label.next_poll_at.map(|due_at| {
            let expected = outlook.as_ref().map_or(due_at, |outlook| outlook.expected_at(due_at, label.pace));
            expected.max(held_until.unwrap_or(expected))
        });
        let first_polls = used.first_polls;
        Ok(Some(Self { label, detail, account, outlook, first_polls, held_until, expected }))
    }
}

/// Explains the next poll in sentences, the most important first.
pub fn reasons(recorded: &Recorded, now: Timestamp) -> Vec<String> {
    let mut reasons = vec![of_state(recorded, now)];
    let Some((planned, next)) = recorded.label.next_poll_at.zip(recorded.expected) else { return reasons };
    reasons.extend(recorded.detail.poll_state.reason.as_ref().map(reason::in_words).unwrap_or_default());
    reasons.extend(of_account(recorded, now));
    reasons.extend(of_first_polls(recorded));
    let overdue = now.duration_since(next);
    if overdue >= SignedDuration::from_mins(1) {
        let since = roughly(overdue);
        reasons.push(format!("overdue by {since}: other labels go first, or no daemon runs"));
    } else if overdue >= SignedDuration::ZERO {
        reasons.push("due: polled as soon as the quota allows".to_owned());
    } else if next > planned {
        reasons.push(format!("planned for {}; expected later, for the reasons above", instant(planned)));
    }
    reasons
}

fn of_state(recorded: &Recorded, now: Timestamp) -> String {
    let (label, state) = (&recorded.label, &recorded.detail.poll_state);
    let status = label.status_code.as_deref().unwrap_or("none");
    match label.state.as_str() {
        "removed" => "removed: its polls have ended; its history stays".to_owned(),
        "expired" => {
            let quiet = now.duration_since(label.last_changed_at.unwrap_or(label.registered_at));
            format!("expired: nothing changed for {}, so polling ended", roughly(quiet))
        }
        "finished" => {
            let further = if label.next_poll_at.is_some() { "one more poll" } else { "no more polls" };
            format!(
                "finished with status {status} at {}: {further} planned",
                instant_or_dash(state.finished_at)
            )
        }
        "unavailable" => {
            "unavailable: the API refused this label 5 times in a row over at least 72h".to_owned()
        }
        _ if state.refusals > 0 && !matches!(state.reason, Some(PollReason::Failed { .. })) => format!(
            "the API refused this label {} since {}: polled again after 1h, 6h, 24h …, and unavailable after 5 \
             refusals over at least 72h",
            reason::times(state.refusals),
            instant_or_dash(state.refused_since)
        ),
        _ if state.failures > 0 => format!(
            "failed {} since {}: polled again after 1m, later after up to 1h",
            reason::times(state.failures),
            instant_or_dash(state.failing_since)
        ),
        _ if state.first_answer_at.is_none() => {
            "no answer yet: a new label is polled as soon as the quota allows".to_owned()
        }
        _ => of_status(recorded, now),
    }
}

/// Describes the status and the time without a change.
fn of_status(recorded: &Recorded, now: Timestamp) -> String {
    let (label, state) = (&recorded.label, &recorded.detail.poll_state);
    let quiet = roughly(now.duration_since(label.last_changed_at.unwrap_or(label.registered_at)));
    let status = label.status_code.as_deref().unwrap_or("none");
    let out = if state.out_for_delivery { ", out for delivery" } else { "" };
    let next = match &state.reason {
        Some(reason) => {
            let (wait, jitter) = (duration::format(reason.interval()), POLL_JITTER * 100.0);
            format!("next poll after {wait} (±{jitter:.0} %)")
        }
        None => "polled as soon as the quota allows".to_owned(),
    };
    format!("status {status}{out}, quiet for {quiet}: {next}")
}

/// Describes the waits of an account: for a probe, or for the end of a 429.
pub fn account_waits(name: &str, account: &AccountState, now: Timestamp) -> Vec<String> {
    let mut waits = Vec::new();
    if account.status != AccountStatus::Ok {
        let detail = account.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        waits.push(format!(
            "account {name} is {} since {}{detail}: only one probe at a time is sent, the next at {}",
            account.status.as_str(),
            instant_text(account.since),
            instant_or_dash(account.probe_at)
        ));
    }
    if let Some(until) = account.throttled_until.filter(|until| *until > now) {
        waits
            .push(format!("the API answered 429 for account {name}: it waits until {}", instant_text(until)));
    }
    waits
}

fn of_account(recorded: &Recorded, now: Timestamp) -> Vec<String> {
    let name = &recorded.label.account;
    let mut reasons = account_waits(name, &recorded.account, now);
    if let Some((until, carrier)) =
        recorded.held_until.zip(recorded.detail.poll_state.carrier_code.as_deref())
    {
        reasons.push(format!(
            "the API answered 429 for carrier {carrier}: its labels wait until {}",
            instant(until)
        ));
    }
    match &recorded.outlook {
        Some(outlook) => reasons.extend(of_quota(name, outlook)),
        None => {
            reasons.push(format!("account {name} is not in the configuration: none of its labels is polled"))
        }
    }
    reasons
}

/// Describes the wait of a label that was never polled.
fn of_first_polls(recorded: &Recorded) -> Option<String> {
    let outlook = recorded
        .outlook
        .as_ref()
        .filter(|_| recorded.label.last_polled_at.is_none() && recorded.first_polls > 1)?;
    let take = first_polls_take(recorded.first_polls, outlook.allowed);
    Some(format!("account {}: {}", recorded.label.account, first_polls_in_words(recorded.first_polls, take)))
}

fn of_quota(name: &str, outlook: &Outlook) -> Vec<String> {
    let mut reasons = Vec::new();
    let limit = outlook.limits.requests_per_minute;
    if outlook.adaptive_limit < 1.0 {
        let percent = outlook.adaptive_limit * 100.0;
        reasons.push(format!(
            "the API answered 429 although account {name} kept within its limit, so another client uses the account too: \
             the adaptive limit is now {percent:.0} % of {limit} requests a minute, and rises slowly"
        ));
    }
    let (budget, used) = (outlook.limits.requests_per_month, outlook.used_this_month);
    if let Some(until) = outlook.used_up_until {
        let until = instant(until);
        reasons.push(format!(
            "account {name} has used up its {budget} requests of this month: no requests until {until}"
        ));
        return reasons;
    }
    if budget > 0 {
        let until = instant(outlook.month_ends_at);
        reasons.push(format!(
            "account {name} has used {used} of {budget} requests of the month that ends {until}"
        ));
    }
    let (demand, allowed) = (outlook.demand * 60.0, outlook.allowed * 60.0);
    let allowed = if allowed.fract() < 0.005 { format!("{allowed:.0}") } else { format!("{allowed:.2}") };
    let stretched = match outlook.stretch {
        stretch if stretch > 1.0 => format!(": all intervals are stretched by {stretch:.2}"),
        _ => String::new(),
    };
    reasons.push(format!(
        "the labels of account {name} need {demand:.2} requests a minute of {allowed} allowed{stretched}"
    ));
    reasons
}

#[cfg(test)]
mod tests;
