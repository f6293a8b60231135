//! `trackpost history`: every carrier event of a label and its callbacks.

use std::path::Path;
use std::process::ExitCode;

use super::args::History;
use super::output::{self, or_dash};
use super::table::{self, instant_cell};
use super::{Failure, open_store_to_read, resolve};
use crate::explanation::event::{self, EventText};
use crate::store::Store;
use crate::store::views::deliveries::DeliveryView;
use crate::store::views::events::EventView;

pub async fn run(path: &Path, args: &History) -> Result<ExitCode, Failure> {
    let (loaded, store) = open_store_to_read(path).await?;
    let Some(id) = &args.id else { return journeys(&store).await };
    let (label, key) =
        resolve::label_or_tracking(&store, &loaded.config, id, args.account.as_deref()).await?;
    if args.journeys {
        output::json_lines(store.journey(label.row).await?.as_slice())?;
        return Ok(ExitCode::SUCCESS);
    }
    let events = store.label_events(label.row, u32::MAX).await?;
    if args.format.json {
        output::json_lines(&events)?;
        return Ok(ExitCode::SUCCESS);
    }
    if events.is_empty() {
        output::line(format!("no carrier events of {} yet", key.id));
    } else {
        let rows: Vec<_> = events.iter().map(event_row).collect();
        let heading = ["FIRST SEEN", "CARRIER'S TIME", "PLACE", "DESCRIPTION", "EVENT", "REV", "NOTE"];
        table::print(heading, &["FIRST SEEN", "PLACE"], &rows);
    }
    let changes: Vec<_> = events.iter().flat_map(change_rows).collect();
    if !changes.is_empty() {
        output::line("");
        table::print(["EVENT", "CHANGED AT", "CHANGE", "FIELDS"], &[], &changes);
    }
    let callbacks = store.deliveries_of_label(label.row, 0).await?;
    output::line("");
    if callbacks.is_empty() {
        output::line("no callbacks yet");
    } else {
        let rows: Vec<_> = callbacks.iter().map(callback_row).collect();
        let heading = ["SEQ", "TYPE", "SUBSCRIBER", "STATE", "ATTEMPTS", "DELIVERED AT", "DELIVERY"];
        table::print(heading, &["ATTEMPTS", "SEQ"], &rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn event_row(event: &EventView) -> [String; 7] {
    let text = EventText::of(&event::parse(event.event.get()));
    let marks = [
        event.late.then(|| "late".to_owned()),
        event.retracted_at.map(|at| format!("retracted {}", instant_cell(at))),
    ];
    [
        instant_cell(event.first_seen_at),
        or_dash(text.time.as_deref()).replace('T', " "),
        or_dash(text.place.as_deref()),
        or_dash(text.description.as_deref()),
        event.event_id.clone(),
        event.revision.to_string(),
        marks.into_iter().flatten().collect::<Vec<_>>().join(", "),
    ]
}

fn change_rows(event: &EventView) -> impl Iterator<Item = [String; 4]> + '_ {
    event.changes.iter().map(|change| {
        let fields: Vec<String> = serde_json::from_str(change.fields.get()).unwrap_or_default();
        [event.event_id.clone(), instant_cell(change.at), change.kind.clone(), fields.join(", ")]
    })
}

/// Prints the journey of every label, one a line.
async fn journeys(store: &Store) -> Result<ExitCode, Failure> {
    let mut after = 0;
    loop {
        let page = store.label_rows(after).await?;
        let Some(last) = page.last() else { return Ok(ExitCode::SUCCESS) };
        after = *last;
        for row in page {
            output::json_lines(store.journey(row).await?.as_slice())?;
        }
    }
}

fn callback_row(delivery: &DeliveryView) -> [String; 7] {
    [
        or_dash(delivery.seq),
        delivery.r#type.clone(),
        delivery.subscriber.clone(),
        delivery.state.as_str().to_owned(),
        delivery.attempts.to_string(),
        instant_cell(delivery.delivered_at),
        delivery.delivery_id.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_row_shows_the_fields_there_are() {
        let event = |raw: &str| EventView {
            event_id: "evt_1".to_owned(),
            label_id: "se-1".to_owned(),
            first_seen_at: "2026-11-22T10:00:00.123Z".parse().unwrap(),
            revision: 2,
            late: true,
            retracted_at: None,
            changes: Vec::new(),
            event: RawValue::from_string(raw.to_owned()).unwrap(),
        };
        let full = event_row(&event(
            r#"{"occurred_at":"2026-11-22T09:00:00Z","carrier_occurred_at":"2026-11-22T03:00:00",
                "description":"Arrived","city_locality":"AUSTIN","state_province":null,"country_code":"US"}"#,
        ));
        assert_eq!(full[1..4], ["2026-11-22 03:00:00", "AUSTIN, US", "Arrived"]);
        assert_eq!(full[5..], ["2", "late"]);
        assert_eq!(event_row(&event("{}"))[1..4], ["-", "-", "-"]);
    }
}
