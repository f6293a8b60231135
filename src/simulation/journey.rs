//! Journeys as the simulation uses them: the part of the answers that the cadence needs.

use jiff::Timestamp;

use crate::domain::digest::Digest;
use crate::domain::journey::{Journey, JourneyFileError};
use crate::domain::label::LabelId;
use crate::domain::polling::cadence::CadenceFields;
use crate::domain::tracking::Tracking;

/// Journey of one label.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedJourney {
    pub label_id: String,
    pub registered_at: Timestamp,
    pub carrier: Option<Box<str>>,
    /// Answers, oldest first.
    pub answers: Vec<SimulatedAnswer>,
}

/// Answer from `at` on.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedAnswer {
    pub at: Timestamp,
    pub fields: CadenceFields,
    /// Whether it counts as a change: the first answer if it holds events, each later one if it differs from the one
    /// before.
    pub is_change: bool,
}

impl SimulatedAnswer {
    pub fn is_terminal(&self) -> bool {
        self.fields.status.is_some_and(|status| status.is_terminal())
    }
}

/// Reads a file of journeys.
///
/// # Errors
/// Returns the first line without a journey, with the reason.
pub fn recorded(text: &str) -> Result<Vec<SimulatedJourney>, JourneyFileError> {
    Journey::read_all(text, of_line)
}

fn of_line(journey: Journey<'_>) -> Result<SimulatedJourney, String> {
    let id: LabelId = journey.label_id.parse().map_err(|error| format!("{:?}: {error}", journey.label_id))?;
    let mut answers = Vec::with_capacity(journey.observations.len());
    let mut carrier = None;
    let mut before: Option<Digest> = None;
    for seen in &journey.observations {
        let tracking = Tracking::parse(seen.tracking.get().as_bytes());
        let tracking = tracking.map_err(|error| format!("at {}: {error}", seen.at))?;
        let content = tracking.content_digest;
        let is_change =
            before.replace(content).map_or(!tracking.events.is_empty(), |before| before != content);
        carrier = tracking.carrier_code.as_deref().map(Box::from).or(carrier);
        answers.push(SimulatedAnswer { at: seen.at, fields: CadenceFields::of(&tracking), is_change });
    }
    Ok(SimulatedJourney { label_id: id.to_string(), registered_at: journey.registered_at, carrier, answers })
}
