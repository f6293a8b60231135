//! Tests of matching: examples, recorded journeys and properties.

mod answers;
mod fingerprints;
mod identity;
mod journeys;
mod properties;
mod refinements;
mod shifts;
mod traps;

use serde_json::{Map, Value, json};

use super::{EventId, KnownEvent, Matching, match_events};
use crate::domain::label::{AccountName, LabelKey};
use crate::domain::tracking::TrackingEvent;

fn label() -> LabelKey {
    LabelKey { account: AccountName::new("main"), id: "se-324658".parse().expect("a label id") }
}

impl Matching {
    /// Whether there is nothing to announce.
    fn is_quiet(&self) -> bool {
        self.added.is_empty() && self.revised.is_empty() && self.retracted.is_empty()
    }
}

/// Builder of an event object, by default a FedEx-like one.
#[derive(Clone, Debug, PartialEq)]
struct Draft(Map<String, Value>);

/// `at`: local time and UTC.
fn event(at: &str, code: &str, city: &str) -> Draft {
    let draft = json!({
        "occurred_at": format!("{at}Z"), "carrier_occurred_at": format!("{at}Z"),
        "description": format!("{code} scan"), "city_locality": city, "state_province": null,
        "postal_code": null, "country_code": "US", "company_name": null, "signer": null,
        "event_code": code, "carrier_detail_code": null, "status_code": "IT",
        "carrier_status_code": code, "status_detail_code": "IN_TRANSIT",
        "latitude": 35.5, "longitude": -80.25,
    });
    match draft {
        Value::Object(fields) => Draft(fields),
        _ => unreachable!("it is an object"),
    }
}

impl Draft {
    fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0.insert(field.to_owned(), value.into());
        self
    }

    fn without(mut self, field: &str) -> Self {
        self.0.remove(field);
        self
    }

    fn parse(&self) -> TrackingEvent {
        read(&Value::Object(self.0.clone()).to_string())
    }
}

fn read(raw: &str) -> TrackingEvent {
    TrackingEvent::parse(raw).expect("a JSON object")
}

/// History of a label; each poll applies its result, as the store does.
#[derive(Clone, Debug, Default)]
struct History {
    known: Vec<KnownEvent>,
}

impl History {
    fn of(drafts: &[Draft]) -> Self {
        let mut history = Self::default();
        history.poll(drafts);
        history
    }

    fn poll(&mut self, drafts: &[Draft]) -> Matching {
        let answer: Vec<_> = drafts.iter().map(Draft::parse).collect();
        self.poll_events(&answer)
    }

    fn poll_events(&mut self, answer: &[TrackingEvent]) -> Matching {
        let matching = match_events(&label(), &self.known, answer);
        self.known = matching.apply(std::mem::take(&mut self.known));
        matching
    }

    fn ids(&self) -> Vec<EventId> {
        self.known.iter().map(|event| event.event_id).collect()
    }
}

/// Numbers of added, revised and retracted events.
fn counts(matching: &Matching) -> (usize, usize, usize) {
    (matching.added.len(), matching.revised.len(), matching.retracted.len())
}
