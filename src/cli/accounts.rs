//! `trackpost accounts`: status of the accounts and their use of the quota.

use std::path::Path;
use std::process::ExitCode;

use jiff::SignedDuration;

use super::args::Accounts;
use super::output::{self, roughly};
use super::{Failure, open_store_to_read, table};
use crate::clock;
use crate::explanation::stretch_text;
use crate::store::views::accounts::AccountView;
use crate::store::views::degraded::Configured;

pub async fn run(path: &Path, args: Accounts) -> Result<ExitCode, Failure> {
    let Accounts::List(format) = args;
    let (loaded, store) = open_store_to_read(path).await?;
    let views = store.account_views(&Configured::of(&loaded.config).accounts, clock::now()).await?;
    if format.json {
        output::json_lines(&views)?;
    } else if views.is_empty() {
        output::line("the configuration has no accounts");
    } else {
        print(&views);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a row per account.
pub(super) fn print(views: &[AccountView]) {
    let heading = [
        "ACCOUNT",
        "STATE",
        "REQUESTS/60S",
        "REQUESTS/MONTH",
        "STRETCH",
        "DUE",
        "FIRST POLLS",
        "NEXT PROBE",
        "LAST SUCCESS",
    ];
    let least = &["LAST SUCCESS", "REQUESTS/MONTH", "DUE", "STRETCH"];
    table::print(heading, least, &views.iter().map(row).collect::<Vec<_>>());
}

fn row(view: &AccountView) -> [String; 9] {
    let detail = view.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let budget = match view.requests_per_month {
        0 => String::new(),
        budget => format!(" of {budget}"),
    };
    [
        view.name.clone(),
        format!("{}{detail}", view.status.as_str()),
        format!("{} of {}", view.requests_last_minute, view.requests_per_minute),
        format!("{}{budget}", view.requests_this_month),
        stretch_text(view.stretch),
        view.due.to_string(),
        match view.first_polls_take.filter(|_| view.first_polls_waiting > 0) {
            Some(take) => {
                let take = roughly(SignedDuration::try_from(take).unwrap_or(SignedDuration::MAX));
                format!("{} ({take})", view.first_polls_waiting)
            }
            None => view.first_polls_waiting.to_string(),
        },
        table::instant_cell(view.next_probe_at),
        table::instant_cell(view.last_success_at),
    ]
}
