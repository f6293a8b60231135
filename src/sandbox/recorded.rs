//! Recorded journeys: the answers of an API with the start of each.
//!
//! The format is the one of `trackpost simulate` and `trackpost history --journeys`: a JSON object per line. Tracking
//! bodies are kept verbatim.

use std::time::Duration;

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::journey::{Journey, JourneyFileError};
use crate::domain::label::LabelId;
use crate::domain::time::elapsed;

/// The journey of one label, relative to its registration.
#[derive(Clone, Debug)]
pub struct RecordedJourney {
    pub label_id: LabelId,
    /// Answers by the time since the registration, in order.
    observations: Vec<(Duration, Bytes)>,
    before: Bytes,
}

/// The answer before the first observation: a label without a scan.
#[derive(Deserialize, Serialize)]
struct Blank<'a> {
    #[serde(borrow, default)]
    tracking_number: Option<&'a RawValue>,
    #[serde(default, skip_deserializing)]
    status_code: &'static str,
    #[serde(borrow, default)]
    carrier_code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    carrier_id: Option<&'a RawValue>,
    #[serde(default, skip_deserializing)]
    status_description: &'static str,
    #[serde(default, skip_deserializing)]
    events: [(); 0],
}

impl RecordedJourney {
    /// Parses a whole file; blank lines are ignored.
    pub fn read(text: &str) -> Result<Vec<Self>, JourneyFileError> {
        Journey::read_all(text, Self::of)
    }

    fn of(journey: Journey<'_>) -> Result<Self, String> {
        let label_id =
            journey.label_id.parse().map_err(|error| format!("{:?}: {error}", journey.label_id))?;
        let observations: Vec<(Duration, Bytes)> = journey
            .observations
            .iter()
            .map(|seen| {
                let body = Bytes::copy_from_slice(seen.tracking.get().as_bytes());
                (elapsed(journey.registered_at, seen.at), body)
            })
            .collect();
        let first = observations.first().map_or(&b"{}"[..], |(_, body)| body);
        let mut blank: Blank<'_> =
            serde_json::from_slice(first).map_err(|_| "tracking is not a JSON object".to_owned())?;
        (blank.status_code, blank.status_description) = ("NY", "Not Yet In System");
        let before = serde_json::to_vec(&blank).map_err(|error| error.to_string())?.into();
        Ok(Self { label_id, observations, before })
    }

    /// The body of the tracking answer, this long after the registration.
    pub fn answer(&self, elapsed: Duration) -> Bytes {
        let past = self.observations.partition_point(|(from, _)| *from <= elapsed);
        match past.checked_sub(1) {
            Some(latest) => self.observations[latest].1.clone(),
            None => self.before.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
{"label_id":"se-1","registered_at":"2026-11-22T10:00:00Z","observations":[{"at":"2026-11-22T12:00:00Z","tracking":{"tracking_number":"1Z", "status_code":"IT",  "carrier_id":3.0,"events":[ ]}},{"at":"2026-11-23T10:00:00Z","tracking":{"status_code":"DE","events":[]}}]}

{"label_id":"se-2","registered_at":"2026-11-22T10:00:00Z","observations":[]}
"#;

    #[test]
    fn serves_each_answer_unchanged_from_its_start() {
        let journeys = RecordedJourney::read(FILE).unwrap();
        assert_eq!(journeys.len(), 2);
        let hours = |n: u64| journeys[0].answer(Duration::from_secs(n * 3600));
        assert_eq!(
            hours(1),
            r#"{"tracking_number":"1Z","status_code":"NY","carrier_code":null,"carrier_id":3.0,"status_description":"Not Yet In System","events":[]}"#
        );
        assert_eq!(
            hours(2),
            r#"{"tracking_number":"1Z", "status_code":"IT",  "carrier_id":3.0,"events":[ ]}"#
        );
        assert_eq!(hours(23), hours(2));
        assert_eq!(hours(24), r#"{"status_code":"DE","events":[]}"#);
        assert_eq!(hours(9999), hours(24));
        assert!(journeys[1].answer(Duration::ZERO).starts_with(b"{\"tracking_number\":null"));
    }

    #[test]
    fn an_error_names_the_line() {
        let error = RecordedJourney::read("\n{\"label_id\":\"se-1\"}").unwrap_err();
        assert!(error.to_string().starts_with("line 2: missing field `registered_at`"), "{error}");
        let error = RecordedJourney::read(&FILE.replace("se-2", "SE-2")).unwrap_err();
        assert!(error.to_string().starts_with("line 4: \"SE-2\": a label id"), "{error}");
    }
}
