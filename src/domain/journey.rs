//! Journeys: the answers of the API about a label over time (contract 4.5).
//!
//! A file has one JSON object per line: `{"label_id","registered_at","observations":[{"at","tracking":{…}}…]}`. `trackpost
//! history --journeys` writes such files; `simulate` and the sandbox play them. Tracking bodies keep their bytes.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line of a file.
#[derive(Debug, Deserialize)]
pub struct Journey<'a> {
    #[serde(borrow)]
    pub label_id: Cow<'a, str>,
    pub registered_at: Timestamp,
    #[serde(borrow)]
    pub observations: Vec<Observation<'a>>,
}

/// Answer from `at` on.
#[derive(Debug, Deserialize)]
pub struct Observation<'a> {
    pub at: Timestamp,
    #[serde(borrow)]
    pub tracking: &'a RawValue,
}

/// Error for an invalid file of journeys.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct JourneyFileError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

impl<'a> Journey<'a> {
    /// Parses a whole file and sorts observations, oldest first. Blank lines are skipped. `take` converts a journey and may
    /// refuse it.
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
