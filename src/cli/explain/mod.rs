//! `trackpost explain`: why the next poll of a label is when it is, and the last polls.

mod reasons;
mod why;

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::args::OfLabel;
use super::outlook::Outlooks;
use super::output::{self, instant, roughly};
use super::{Failure, open_store_to_read, resolve, table};
use crate::clock;
use crate::config::duration;
use crate::domain::polling::account_status::AccountState;
use crate::domain::polling::outlook::Outlook;
use crate::domain::polling::poll::PollSummary;
use crate::domain::polling::reason::Reason;
use crate::store::views::labels::{LabelDetail, LabelView};

/// Explanation as printed by `--json`.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    label_id: &'a str,
    account: &'a str,
    state: &'a str,
    next_poll_at: Option<String>,
    row: Option<&'a str>,
    interval: Option<String>,
    stretch: f64,
    reasons: Vec<String>,
    recent: Vec<Recent<'a>>,
}

#[derive(Debug, Serialize)]
struct Recent<'a> {
    at: Option<String>,
    outcome: &'a str,
    status: Option<u16>,
    detail: Option<&'a str>,
    changes: usize,
}

/// Everything that the explanation is made from.
struct Facts<'a> {
    label: &'a LabelView,
    detail: &'a LabelDetail,
    account: &'a AccountState,
    /// Expected time of the next poll.
    expected: Option<Timestamp>,
    /// Outlook of the account's quota; `None` if the account is not configured.
    outlook: Option<&'a Outlook>,
    /// Number of labels of the account that wait for their first poll.
    first_polls: u64,
    /// Until when the carrier's labels wait after a 429.
    held_until: Option<Timestamp>,
    now: Timestamp,
}

pub async fn run(path: &Path, what: &OfLabel) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store_to_read(path).await?;
    let (label, key) =
        resolve::label_or_tracking(&store, &loaded.config, &what.id, what.account.as_deref()).await?;
    let Some((view, detail)) = store.label_detail(label.row).await? else {
        return Err(Failure::new(format!("{} is not registered any more", key.id)));
    };
    let now = clock::now();
    let account = store.account_state(&key.account, now).await?;
    let outlooks = Outlooks::of(&store, &loaded.config, now).await?;
    let outlook = outlooks.get(&view.account);
    let used = store.quota_used(&key.account, now).await?;
    let first_polls = used.first_polls;
    let held = used.held.into_iter().find(|(carrier, _)| Some(carrier) == detail.carrier_code.as_ref());
    let held_until = held.map(|(_, until)| until);
    let expected = outlooks.foretell(view.clone()).next_poll_at.map(|at| at.max(held_until.unwrap_or(at)));
    let facts = Facts {
        label: &view,
        detail: &detail,
        account: &account,
        expected,
        outlook,
        first_polls,
        held_until,
        now,
    };
    let reason = detail.reason.as_ref().filter(|_| expected.is_some());
    let explanation = Explanation {
        label_id: &view.label_id,
        account: &view.account,
        state: &view.state,
        next_poll_at: expected.map(instant),
        // Without a next poll there is neither.
        row: reason.and_then(Reason::row),
        interval: reason.map(|reason| duration::format(reason.interval())),
        stretch: outlook.map_or(1.0, |outlook| (outlook.stretch * 1000.0).round() / 1000.0),
        reasons: reasons::reasons(&facts),
        recent: detail.recent_polls.iter().map(Recent::of).collect(),
    };
    if what.listing.json {
        output::json_lines(&[explanation])?;
    } else {
        print(&facts, &explanation);
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> Recent<'a> {
    fn of(summary: &'a PollSummary) -> Self {
        Self {
            at: Timestamp::from_millisecond(summary.at).ok().map(instant),
            outcome: &summary.outcome,
            status: summary.status,
            detail: summary.detail.as_deref(),
            changes: summary.changes,
        }
    }
}

fn print(facts: &Facts<'_>, explanation: &Explanation<'_>) {
    let next = match facts.expected {
        Some(at) if at > facts.now => {
            format!("{} (in {})", instant(at), roughly(at.duration_since(facts.now)))
        }
        Some(at) => format!("{} (due)", instant(at)),
        None => "never".to_owned(),
    };
    output::block(&[
        ("label", Some(format!("{} ({})", facts.label.label_id, facts.label.account))),
        ("state", Some(facts.label.state.clone())),
        ("next poll", Some(next)),
        ("row", explanation.row.map(str::to_owned)),
        ("interval", explanation.interval.clone()),
        ("stretch", Some(format!("{:.2}", explanation.stretch)).filter(|_| explanation.stretch.is_finite())),
    ]);
    for reason in &explanation.reasons {
        output::line(format!("- {}", output::plain(reason)));
    }
    if explanation.recent.is_empty() {
        return;
    }
    output::line("");
    let rows: Vec<_> = explanation
        .recent
        .iter()
        .map(|poll| {
            [
                poll.at.as_deref().map_or_else(|| "-".to_owned(), in_cell),
                poll.outcome.to_owned(),
                poll.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
                poll.changes.to_string(),
                poll.detail.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table::print(["POLLED AT", "OUTCOME", "STATUS", "MESSAGES", "DETAIL"], &["MESSAGES"], &rows);
}

fn in_cell(at: &str) -> String {
    at.replace('T', " ")
}
