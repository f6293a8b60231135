//! `trackpost explain`: the reason for the time of a label's next poll, and the last polls.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::args::OneLabel;
use super::output::{self, or_dash};
use super::{Failure, open_store_to_read, resolve, table};
use crate::clock;
use crate::config::duration;
use crate::domain::polling::poll::PollSummary;
use crate::domain::polling::reason::PollReason;
use crate::domain::time::serialize_instant_or_null;
use crate::explanation::poll::{Recorded, reasons};

/// Explanation as printed by `--json`.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    label_id: &'a str,
    account: &'a str,
    state: &'a str,
    #[serde(serialize_with = "serialize_instant_or_null")]
    next_poll_at: Option<Timestamp>,
    row: Option<&'a str>,
    interval: Option<String>,
    stretch: f64,
    reasons: Vec<String>,
    recent: Vec<RecentPoll<'a>>,
}

#[derive(Debug, Serialize)]
struct RecentPoll<'a> {
    #[serde(serialize_with = "serialize_instant_or_null")]
    at: Option<Timestamp>,
    outcome: &'a str,
    status: Option<u16>,
    detail: Option<&'a str>,
    messages: usize,
}

pub async fn run(path: &Path, args: &OneLabel) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store_to_read(path).await?;
    let (now, account) = (clock::now(), args.account.as_deref());
    let recorded = resolve::recorded_label(&store, &loaded.config, &args.id, account, now).await?;
    let Recorded { label: view, detail, expected, outlook, .. } = &recorded;
    let reason = detail.poll_state.reason.as_ref().filter(|_| expected.is_some());
    let explanation = Explanation {
        label_id: &view.label_id,
        account: &view.account,
        state: &view.state,
        next_poll_at: *expected,
        // Both are null without a next poll.
        row: reason.and_then(PollReason::row),
        interval: reason.map(|reason| duration::format(reason.interval())),
        stretch: outlook.as_ref().map_or(1.0, |outlook| (outlook.stretch * 1000.0).round() / 1000.0),
        reasons: reasons(&recorded, now),
        recent: detail.recent_polls.iter().map(RecentPoll::of).collect(),
    };
    if args.format.json {
        output::json_lines(&[explanation])?;
    } else {
        print(&recorded, &explanation, now);
    }
    Ok(ExitCode::SUCCESS)
}

impl<'a> RecentPoll<'a> {
    fn of(summary: &'a PollSummary) -> Self {
        Self {
            at: Timestamp::from_millisecond(summary.at).ok(),
            outcome: &summary.outcome,
            status: summary.status,
            detail: summary.detail.as_deref(),
            messages: summary.messages,
        }
    }
}

fn print(recorded: &Recorded, explanation: &Explanation<'_>, now: Timestamp) {
    output::block(&[
        ("label", Some(format!("{} ({})", recorded.label.label_id, recorded.label.account))),
        ("state", Some(recorded.label.state.clone())),
        ("next poll", Some(output::next_at(recorded.expected, now, "never"))),
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
                table::instant_cell(poll.at),
                poll.outcome.to_owned(),
                or_dash(poll.status),
                poll.messages.to_string(),
                poll.detail.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table::print(["POLLED AT", "OUTCOME", "STATUS", "MESSAGES", "DETAIL"], &["MESSAGES"], &rows);
}
