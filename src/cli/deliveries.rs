//! `trackpost deliveries`: the outbox and its attempts.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::args::Deliveries;
use super::output::{self, Table, instant, or_dash, shown};
use super::{Failure, open_store, resolve};
use crate::clock;
use crate::config::duration;
use crate::store::Store;
use crate::store::views::deliveries::{AttemptView, DeliveryView, ID_PREFIX, Wanted};

/// A delivery and what came of it, as `show --json` has it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    delivery: DeliveryView,
    log: Vec<AttemptView>,
}

pub async fn run(path: &Path, what: Deliveries) -> Result<ExitCode, Failure> {
    let (_, store) = open_store(path).await?;
    match what {
        Deliveries::List { subscriber, label, state, since, listing } => {
            let since = since.map(|text| moment(&text, clock::now())).transpose()?;
            let wanted = Wanted { subscriber, state, since };
            let mut printed = Printed { json: listing.json, table: Table::new(HEADING), any: false };
            match label {
                Some(id) => {
                    let id = resolve::label_id(&id)?;
                    let labels = store.labels_named(id.as_str()).await?;
                    if labels.is_empty() {
                        return Err(Failure::new(format!("{id} is not registered"))
                            .hint("trackpost labels list shows what is"));
                    }
                    for label in labels {
                        let mut deliveries = store.deliveries_of_label(label.row).await?;
                        deliveries.retain(|delivery| wanted.fits(delivery));
                        printed.page(&deliveries)?;
                    }
                }
                None => all(&store, &wanted, &mut printed).await?,
            }
            if !printed.any && !printed.json {
                output::line("no such delivery");
            }
        }
        Deliveries::Show { id, listing } => {
            show(&store, &id, listing.json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

const HEADING: [&str; 8] =
    ["DELIVERY", "LABEL", "SEQ", "TYPE", "SUBSCRIBER", "STATE", "ATTEMPTS", "CREATED / LAST OUTCOME"];

struct Printed {
    json: bool,
    table: Table<8>,
    any: bool,
}

impl Printed {
    fn page(&mut self, deliveries: &[DeliveryView]) -> Result<(), Failure> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.any = true;
        if self.json {
            return output::json_lines(deliveries);
        }
        self.table.page(&deliveries.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }
}

async fn all(store: &Store, wanted: &Wanted, printed: &mut Printed) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = store.delivery_page(wanted, after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.row;
        printed.page(&page)?;
    }
}

fn row(delivery: &DeliveryView) -> [String; 8] {
    [
        delivery.delivery_id.clone(),
        or_dash(delivery.label_id.as_deref()),
        delivery.seq.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
        delivery.r#type.clone(),
        delivery.subscriber.clone(),
        delivery.state.clone(),
        delivery.attempts.to_string(),
        format!(
            "{} {}",
            shown(Some(delivery.created_at)),
            delivery.last_outcome.as_deref().unwrap_or_default()
        ),
    ]
}

/// The moment that `text` names: RFC 3339, or a duration before `now`.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(at) = text.trim().parse::<Timestamp>() {
        return Ok(at);
    }
    let ago = duration::parse(text).map_err(|error| {
        Failure::new(format!("--since {} {error}, and no instant either", text.escape_debug()))
            .hint("as in 2h or 2026-11-22T10:00:00Z")
    })?;
    let ago = SignedDuration::try_from(ago).unwrap_or(SignedDuration::MAX);
    Ok(now.saturating_sub(ago).unwrap_or(Timestamp::MIN))
}

async fn show(store: &Store, id: &str, json: bool) -> Result<(), Failure> {
    let row = id.strip_prefix(ID_PREFIX).and_then(|number| number.parse::<i64>().ok());
    let found = store.deliveries_named(row, row.is_none().then_some(id)).await?;
    if found.is_empty() {
        return Err(Failure::new(format!("there is no delivery or message {}", id.escape_debug()))
            .hint("deliveries are called dlv_1, messages msg_…; trackpost deliveries list shows them"));
    }
    let mut first = true;
    for delivery in found {
        let log = store.attempts_of(delivery.row).await?;
        if json {
            output::json_lines(&[Shown { delivery, log }])?;
            continue;
        }
        if !std::mem::take(&mut first) {
            output::line("");
        }
        output::block(&fields(&delivery));
        if delivery.attempts > log.len() as u64 {
            output::line("the record of older attempts was kept long enough and is gone");
        }
        for attempt in &log {
            output::line("");
            output::block(&told(attempt));
        }
    }
    Ok(())
}

fn fields(delivery: &DeliveryView) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("delivery", Some(delivery.delivery_id.clone())),
        ("message", Some(delivery.message_id.clone())),
        ("type", Some(delivery.r#type.clone())),
        ("label", delivery.label_id.clone()),
        ("seq", delivery.seq.map(|seq| seq.to_string())),
        ("subscriber", Some(delivery.subscriber.clone())),
        ("state", Some(delivery.state.clone())),
        ("attempts", Some(delivery.attempts.to_string())),
        ("created at", Some(instant(delivery.created_at))),
        ("delivered at", delivery.delivered_at.map(instant)),
        ("next attempt at", delivery.next_attempt_at.map(instant).or_else(|| waits(delivery))),
        ("last outcome", delivery.last_outcome.clone()),
    ]
}

/// Why a pending delivery has no time of its own.
fn waits(delivery: &DeliveryView) -> Option<String> {
    (delivery.state == "pending").then(|| "when those of the label before it are settled".to_owned())
}

fn told(attempt: &AttemptView) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("attempt", Some(attempt.attempt.to_string())),
        ("  started at", Some(instant(attempt.started_at))),
        ("  took", Some(duration::format(Duration::from_millis(attempt.duration_ms)))),
        ("  outcome", Some(attempt.outcome.clone())),
        ("  status", attempt.status.map(|status| status.to_string())),
        ("  detail", attempt.detail.clone()),
        ("  retry after", attempt.retry_after.map(duration::format)),
        ("  answer", attempt.answer.clone()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_instant_or_a_while_ago() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert_eq!(moment("2h", now).unwrap().to_string(), "2026-11-22T08:00:00Z");
        assert_eq!(moment("2026-11-01T00:00:00+01:00", now).unwrap().to_string(), "2026-10-31T23:00:00Z");
        assert_eq!(
            moment("yesterday", now).unwrap_err().to_string(),
            "error: --since yesterday is no duration, and no instant either\nhint: as in 2h or 2026-11-22T10:00:00Z"
        );
    }
}
