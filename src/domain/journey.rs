//! A journey: what the API answers about a label, and from when on (contract 4.5).
//!
//! A JSON object a line: `{"label_id","registered_at","observations":[{"at","tracking":{…}}…]}`. `trackpost history
//! --journeys` writes such lines, `simulate` and the sandbox play them. Tracking bodies stay the text they were.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line.
#[derive(Debug, Deserialize)]
pub struct Journey<'a> {
    #[serde(borrow)]
    pub label_id: Cow<'a, str>,
    pub registered_at: Timestamp,
    #[serde(borrow)]
    pub observations: Vec<Observation<'a>>,
}

/// What is answered from `at` on.
#[derive(Debug, Deserialize)]
pub struct Observation<'a> {
    pub at: Timestamp,
    #[serde(borrow)]
    pub tracking: &'a RawValue,
}

/// Why a file holds no journeys.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct JourneyFileError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl<'a> Journey<'a> {
    /// Reads a whole file line by line, oldest observation first; blank lines are passed over. `take` may refuse a
    /// journey.
    pub fn read_all<T>(
        text: &'a str,
        take: impl Fn(Self) -> Result<T, String>,
    ) -> Result<Vec<T>, JourneyFileError> {
        text.lines()
            .enumerate()
            .filter(|(_, row)| !row.trim().is_empty())
            .map(|(index, row)| {
                let journey = serde_json::from_str(row).map_err(|error| error.to_string());
                let in_order = journey.map(|mut journey: Self| {
                    journey.observations.sort_by_key(|seen| seen.at);
                    journey
                });
                in_order.and_then(&take).map_err(|reason| JourneyFileError { line: index + 1, reason })
            })
            .collect()
    }
}
