//! A parcel's journey as the simulation plays it: what would be answered from when on, as far as it decides.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::domain::cadence::Sight;
use crate::domain::journey::{Journey, JourneyFileError};
use crate::domain::label::LabelId;
use crate::domain::tracking::Tracking;

/// One label's journey.
#[derive(Clone, Debug, PartialEq)]
pub struct Travel {
    pub label_id: String,
    pub registered_at: Timestamp,
    pub carrier: Option<Box<str>>,
    /// What there is to see, oldest first.
    pub passages: Vec<Passage>,
}

/// What is to be seen from `at` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    pub at: Timestamp,
    pub sight: Sight,
    /// It counts as a change: the first if it holds events, each later one if it differs from the one before.
    pub news: bool,
}

impl Passage {
    pub fn is_terminal(&self) -> bool {
        self.sight.status.is_some_and(|status| status.is_terminal())
    }
}

/// Reads a file of journeys.
///
/// # Errors
/// The first line that holds none, and why.
pub fn recorded(text: &str) -> Result<Vec<Travel>, JourneyFileError> {
    Journey::read_all(text, of_line)
}

fn of_line(journey: Journey<'_>) -> Result<Travel, String> {
    let id: LabelId = journey.label_id.parse().map_err(|error| format!("{:?}: {error}", journey.label_id))?;
    let mut passages = Vec::with_capacity(journey.observations.len());
    let mut carrier = None;
    let mut before: Option<HashMap<String, Value>> = None;
    for seen in &journey.observations {
        let text = seen.tracking.get();
        let tracking =
            Tracking::parse(text.as_bytes()).map_err(|error| format!("at {}: {error}", seen.at))?;
        let value: HashMap<String, Value> =
            serde_json::from_str(text).map_err(|error| format!("at {}: {error}", seen.at))?;
        let news = before.as_ref().map_or(!tracking.events.is_empty(), |before| *before != value);
        before = Some(value);
        carrier = tracking.carrier_code.as_deref().map(Box::from).or(carrier);
        passages.push(Passage { at: seen.at, sight: Sight::of(&tracking), news });
    }
    Ok(Travel { label_id: id.to_string(), registered_at: journey.registered_at, carrier, passages })
}
