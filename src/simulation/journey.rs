//! Journeys as the simulation uses them: the part of the answers that the cadence needs.

use jiff::Timestamp;
use serde_json::Value;

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
    let mut before: Option<Value> = None;
    for seen in &journey.observations {
        let text = seen.tracking.get();
        let tracking =
            Tracking::parse(text.as_bytes()).map_err(|error| format!("at {}: {error}", seen.at))?;
        let value: Value = serde_json::from_str(text).map_err(|error| format!("at {}: {error}", seen.at))?;
        let value = one_spelling(value);
        let is_change = before.as_ref().map_or(!tracking.events.is_empty(), |before| *before != value);
        before = Some(value);
        carrier = tracking.carrier_code.as_deref().map(Box::from).or(carrier);
        answers.push(SimulatedAnswer { at: seen.at, fields: CadenceFields::of(&tracking), is_change });
    }
    Ok(SimulatedJourney { label_id: id.to_string(), registered_at: journey.registered_at, carrier, answers })
}

/// Returns a value that is equal for all spellings of the same facts: null, "" and missing, 1.0 and 1, events in any
/// order (contract 5.2).
fn one_spelling(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said = fields.into_iter().map(|(key, value)| (key, one_spelling(value)));
            Value::Object(said.filter(|(_, value)| !value.is_null()).collect())
        }
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(one_spelling).collect();
            values.sort_by_cached_key(Value::to_string);
            Value::Array(values)
        }
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        other => other,
    }
}
