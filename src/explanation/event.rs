//! Time, place, description and signer of a carrier event, for `trackpost history` and the label page.

use serde_json::Value;

use crate::domain::tracking::replace_lone_surrogates;

/// Fields of the place, joined by commas.
const PLACE: [&str; 5] = ["company_name", "city_locality", "state_province", "postal_code", "country_code"];
/// Fields of the description; the first that is not empty counts.
const DESCRIPTION: [&str; 5] = [
    "description",
    "event_description",
    "status_detail_description",
    "carrier_status_description",
    "status_description",
];

/// Texts of a carrier event. A text is `None` if the event does not have it.
#[derive(Debug, PartialEq, Eq)]
pub struct EventText {
    /// The carrier's local time as written, else the time of the API.
    pub time: Option<String>,
    pub place: Option<String>,
    pub description: Option<String>,
    pub signer: Option<String>,
}

impl EventText {
    /// Returns the texts of an event from [`parse`].
    pub fn of(event: &Value) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| text(event, name));
        let place: Vec<String> = PLACE.iter().filter_map(|name| text(event, name)).collect();
        Self {
            time: first(&["carrier_occurred_at", "occurred_at"]),
            place: (!place.is_empty()).then(|| place.join(", ")),
            description: first(&DESCRIPTION),
            signer: text(event, "signer"),
        }
    }
}

/// Parses an event as received. U+FFFD replaces lone surrogates; a text that is not JSON becomes null.
pub fn parse(raw: &str) -> Value {
    serde_json::from_str(&replace_lone_surrogates(raw)).unwrap_or_default()
}

/// Returns a field of an event as text; `None` if it is empty or missing.
pub fn text(event: &Value, name: &str) -> Option<String> {
    match event.get(name)? {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_a_lone_surrogate_has_its_texts() {
        let event = parse(
            r#"{"occurred_at":"2026-11-22T09:00:00Z","carrier_occurred_at":"2026-11-22T03:00:00",
                "description":"Left at door \ud83d","company_name":"","city_locality":" AUSTIN ",
                "state_province":null,"postal_code":78701,"country_code":"US","signer":"J MOSS"}"#,
        );
        let expected = EventText {
            time: Some("2026-11-22T03:00:00".to_owned()),
            place: Some("AUSTIN, 78701, US".to_owned()),
            description: Some("Left at door \u{fffd}".to_owned()),
            signer: Some("J MOSS".to_owned()),
        };
        assert_eq!(EventText::of(&event), expected);
    }

    #[test]
    fn the_description_is_the_first_that_is_not_empty() {
        let event = parse(
            r#"{"description":" ","carrier_status_description":"Arrived","status_description":"In Transit"}"#,
        );
        assert_eq!(EventText::of(&event).description.as_deref(), Some("Arrived"));
        let none = EventText { time: None, place: None, description: None, signer: None };
        assert_eq!(EventText::of(&parse("not JSON")), none);
    }
}
