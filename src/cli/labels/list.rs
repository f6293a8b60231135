//! `labels list` and `labels show`.

use std::process::ExitCode;

use jiff::Timestamp;

use super::Failure;
use crate::cli::args::{LabelList, OneLabel};
use crate::cli::output::{self, instant, instant_or_dash, or_dash};
use crate::cli::resolve;
use crate::cli::table::{self, Table};
use crate::clock;
use crate::config::{Config, duration};
use crate::domain::label::AccountName;
use crate::explanation::outlooks::Outlooks;
use crate::store::Store;
use crate::store::views::PAGE;
use crate::store::views::degraded::Configured;
use crate::store::views::labels::{LabelDetail, LabelFilter, LabelView};

const HEADING: [&str; 8] =
    ["LABEL", "ACCOUNT", "SOURCE", "STATE", "STATUS", "TRACKING NUMBER", "LAST CHANGE", "NEXT POLL"];

pub async fn list(store: &Store, config: &Config, args: &LabelList) -> Result<ExitCode, Failure> {
    let wanted = LabelFilter {
        state: args.state.as_deref(),
        account: args.account.as_deref(),
        find: args.find.as_deref(),
    };
    let json = args.format.json;
    let mut found = store.find_labels(wanted, u32::MAX).await?;
    if found.is_empty() {
        none(config, wanted, json)?;
    }
    found.sort_unstable();
    let mut table = Table::new(HEADING, &["SOURCE", "ACCOUNT", "LAST CHANGE"]);
    let outlooks = Outlooks::read(store, &Configured::of(config).accounts, clock::now()).await?;
    for rows in found.chunks(PAGE as usize) {
        let mut page = store.label_views(rows).await?;
        outlooks.set_expected_polls(&mut page);
        if json {
            output::json_lines(&page)?;
        } else {
            table.page(&page.iter().map(row).collect::<Vec<_>>());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Handles an empty list: an unknown account is a failure.
fn none(config: &Config, wanted: LabelFilter<'_>, json: bool) -> Result<(), Failure> {
    if let Some(account) = wanted.account
        && !config.accounts.contains_key(&AccountName::new(account))
    {
        return Err(resolve::unknown_account(config, account));
    }
    if !json {
        output::line(if wanted.state.or(wanted.account).or(wanted.find).is_some() {
            "no label matches"
        } else {
            "no labels are registered; trackpost labels add registers one"
        });
    }
    Ok(())
}

fn row(label: &LabelView) -> [String; 8] {
    [
        label.label_id.clone(),
        label.account.clone(),
        label.source.clone(),
        label.state.clone(),
        or_dash(label.status_code.as_deref()),
        or_dash(label.tracking_number.as_deref()),
        table::instant_cell(label.last_changed_at),
        table::instant_cell(label.next_poll_at),
    ]
}

pub async fn show(store: &Store, config: &Config, args: &OneLabel) -> Result<ExitCode, Failure> {
    let account = args.account.as_deref();
    let recorded = resolve::recorded_label(store, config, &args.id, account, clock::now()).await?;
    let view = LabelView { next_poll_at: recorded.expected, ..recorded.label };
    if args.format.json {
        output::json_lines(&[view])?;
    } else {
        output::block(&fields(&view, &recorded.detail));
    }
    Ok(ExitCode::SUCCESS)
}

/// The status code with its description; `None` if there is none.
pub(super) fn status_in_words(view: &LabelView, detail: &LabelDetail) -> Option<String> {
    let words = detail.poll_state.status_description.as_ref().map(|words| format!(" ({words})"));
    view.status_code.as_ref().map(|code| format!("{code}{}", words.unwrap_or_default()))
}

fn fields(view: &LabelView, detail: &LabelDetail) -> Vec<(&'static str, Option<String>)> {
    let in_a_row = |number: u32, since: Option<Timestamp>| {
        (number > 0).then(|| format!("{number} in a row since {}", instant_or_dash(since)))
    };
    let metadata = view.metadata.get();
    vec![
        ("label", Some(view.label_id.clone())),
        ("account", Some(view.account.clone())),
        ("state", Some(view.state.clone())),
        ("source", Some(view.source.clone())),
        ("registered by", Some(detail.registered_by.join(", ")).filter(|names| !names.is_empty())),
        ("metadata", Some(metadata.to_owned()).filter(|_| metadata != "{}")),
        ("status", status_in_words(view, detail)),
        ("out for delivery", detail.poll_state.out_for_delivery.then(|| "yes".to_owned())),
        ("carrier", detail.poll_state.carrier_code.clone()),
        ("tracking number", view.tracking_number.clone()),
        ("estimated delivery", detail.poll_state.estimate.clone()),
        ("registered at", Some(instant(view.registered_at))),
        ("first answer at", detail.poll_state.first_answer_at.map(instant)),
        ("last polled at", view.last_polled_at.map(instant)),
        ("last changed at", view.last_changed_at.map(instant)),
        ("finished at", detail.poll_state.finished_at.map(instant)),
        ("next poll at", view.next_poll_at.map(instant)),
        (
            "cadence",
            detail.poll_state.reason.as_ref().and_then(|reason| {
                Some(format!("row {}, {}", reason.row()?, duration::format(reason.interval())))
            }),
        ),
        ("unchanged polls", Some(view.unchanged.to_string())),
        ("failures", in_a_row(detail.poll_state.failures, detail.poll_state.failing_since)),
        ("refusals", in_a_row(detail.poll_state.refusals, detail.poll_state.refused_since)),
        ("last seq", Some(detail.poll_state.last_seq.to_string()).filter(|_| detail.poll_state.last_seq > 0)),
    ]
}
