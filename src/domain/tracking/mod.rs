//! What the API said about one label, read tolerantly.
//!
//! Every field may be null, missing, "" or of another spelling; the bytes are kept as they came, because they are what
//! subscribers are given. A time stays the text it was: its zone is not to be trusted (`Z` is often false, `occurred_at`
//! can lie hours in the future), so nothing here parses one.
//!
//! The whole answer is here; [`StatusCode`], [`Text`] and [`TrackingEvent`] have rooms of their own.

mod delivered;
pub mod estimate;
mod event;
mod facts;
mod status;
mod surrogates;
mod text;
mod wire;

// What an answer is worth: tracking, or a failure as a value.
pub mod reading;
// Which event of an answer is which event of the history.
pub mod matching;
// What is written of events, and what is told of them.
pub mod history;

use super::digest::Digest;
use crate::domain::tracking::matching::Layouts;
pub use delivered::Deliveries;
use event::is_out_for_delivery;
pub use event::{NotAnEvent, TrackingEvent};
pub use status::StatusCode;
pub use surrogates::mended;
pub use text::Text;
pub use wire::MOST_EVENTS;
use wire::WireTracking;

/// One good answer of the tracking endpoint.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// The whole answer, byte for byte (without white space around it).
    pub raw: String,
    pub tracking_number: Option<String>,
    /// As spelled; [`Tracking::status`] understands it.
    pub status_code: Option<String>,
    pub status_description: Option<String>,
    pub status_detail_code: Option<String>,
    pub carrier_code: Option<String>,
    pub carrier_detail_code: Option<String>,
    pub estimated_delivery_date: Option<String>,
    /// Newest first, as they came.
    pub events: Vec<TrackingEvent>,
    /// What the whole answer says, whatever the order of keys and events, white space, null or "".
    pub facts: Digest,
}

/// Deeper than any real answer, and well below what the database and receivers' parsers take.
const DEEPEST: usize = 100;

/// Whether brackets are nested deeper than [`DEEPEST`]. Raw values are passed on unread, so nobody else looks.
fn is_too_deep(text: &str) -> bool {
    if text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count() <= DEEPEST {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
    }
    false
}

/// Why a 200 is no tracking object.
#[derive(Debug, thiserror::Error)]
pub enum NotTracking {
    #[error("the answer is not UTF-8")]
    NotUtf8,
    #[error("the answer is no JSON object of the expected form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the answer is no JSON object of the expected form: {0}")]
    Event(#[from] NotAnEvent),
    #[error("the answer is nested deeper than {DEEPEST} levels")]
    TooDeep,
    #[error("the answer is a JSON object, but neither status_code nor events is in it")]
    NoTrackingKeys,
}

impl Tracking {
    /// Reads a whole answer. Unknown fields are kept in `raw`; null elements of `events` are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotTracking> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| NotTracking::NotUtf8)?
            .trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
        if is_too_deep(text) {
            return Err(NotTracking::TooDeep);
        }
        let readable = mended(text);
        let wire: WireTracking<'_> = serde_json::from_str(&readable)?;
        if wire.text("status_code").is_none() && !wire.has_events {
            return Err(NotTracking::NoTrackingKeys);
        }
        let layouts = Layouts::default();
        let mut events = Vec::with_capacity(wire.events.len());
        for event in wire.events.iter().flatten().map(|event| event.get()) {
            // The same place in the text as it came.
            let start = event.as_ptr().addr() - readable.as_ptr().addr();
            events.push(TrackingEvent::parse_among(&text[start..start + event.len()], &layouts)?);
        }
        Ok(Self {
            raw: text.to_owned(),
            tracking_number: wire.text("tracking_number"),
            status_code: wire.text("status_code"),
            status_description: wire.text("status_description"),
            status_detail_code: wire.text("status_detail_code"),
            carrier_code: wire.text("carrier_code"),
            carrier_detail_code: wire.text("carrier_detail_code"),
            estimated_delivery_date: wire.text("estimated_delivery_date"),
            facts: facts::digest(&wire.fields, &events),
            events,
        })
    }

    /// The status, if it is one we know.
    pub fn status(&self) -> Option<StatusCode> {
        self.status_code.as_deref().and_then(StatusCode::parse)
    }

    pub fn is_out_for_delivery(&self) -> bool {
        self.status().is_none_or(|status| !status.is_terminal())
            && is_out_for_delivery(self.status_detail_code.as_deref(), self.carrier_detail_code.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields_may_be_null_and_numbers_may_be_texts() {
        let tracking =
            Tracking::parse(br#" {"status_code":null,"tracking_number":12.50,"events":[null,{}]} "#).unwrap();
        assert_eq!((tracking.status(), tracking.events.len()), (None, 1));
        assert_eq!(tracking.raw, r#"{"status_code":null,"tracking_number":12.50,"events":[null,{}]}"#);
    }

    #[test]
    fn half_an_emoji_is_read_and_kept() {
        let event = r#"{"description":"cut \ud83d","city_locality":"RENO","status_code":"IT"}"#;
        let body = format!(
            r#"{{"status_code":"IT","status_description":"In Transit \ud83d","x\ud83d":1,"events":[{event}]}}"#
        );
        let tracking = Tracking::parse(body.as_bytes()).unwrap();
        assert_eq!(tracking.status_description.as_deref(), Some("In Transit \u{fffd}"));
        assert_eq!(tracking.raw, body, "as it came");
        let read = &tracking.events[0];
        assert_eq!((&*read.raw, read.status()), (event, Some(StatusCode::InTransit)));
        assert_eq!(read.form, TrackingEvent::parse(&event.replace("d83d", "fffd")).unwrap().form);
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_and_nulls_count() {
        let body = |elements: &[&str]| format!(r#"{{"status_code":"IT","events":[{}]}}"#, elements.join(","));
        let just = body(&vec!["{}"; MOST_EVENTS]);
        assert_eq!(Tracking::parse(just.as_bytes()).unwrap().events.len(), MOST_EVENTS);
        for element in ["{}", "null"] {
            // Refused at the first one too many: what stands behind is not even JSON.
            let long = body(&vec![element; MOST_EVENTS + 1]).replace("]}", ",");
            let said = Tracking::parse(long.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("more than 2000 events"), "{said}");
        }
    }

    #[test]
    fn the_same_facts_have_the_same_digest() {
        let of = |body: &str| Tracking::parse(body.as_bytes()).unwrap().facts;
        let first = of(
            r#"{"status_code":"IT","ship_date":null,"estimated_delivery_date":"2026-11-03T00:00:00Z","n":1,"events":[{"a":1},{"b":2}]}"#,
        );
        for (what, again) in [
            (
                "order",
                r#"{"events":[{"b":2},{"a":1}],"n":1,"status_code":"IT","estimated_delivery_date":"2026-11-03T00:00:00Z"}"#,
            ),
            (
                "spelling",
                r#"{ "status_code" : "it", "n":1.0, "x":"", "events":[null,{"a":"1","c":null},{"b":2.0}],"estimated_delivery_date":"2026-11-03T00:00:00"}"#,
            ),
        ] {
            assert_eq!(of(again), first, "{what}");
        }
        for (what, other) in [
            (
                "status",
                r#"{"status_code":"DE","estimated_delivery_date":"2026-11-03T00:00:00Z","n":1,"events":[{"a":1},{"b":2}]}"#,
            ),
            (
                "twin",
                r#"{"status_code":"IT","estimated_delivery_date":"2026-11-03T00:00:00Z","n":1,"events":[{"a":1},{"a":1},{"b":2}]}"#,
            ),
            (
                "event",
                r#"{"status_code":"IT","estimated_delivery_date":"2026-11-03T00:00:00Z","n":1,"events":[{"a":1},{"b":3}]}"#,
            ),
            (
                "unknown field",
                r#"{"status_code":"IT","estimated_delivery_date":"2026-11-03T00:00:00Z","n":2,"events":[{"a":1},{"b":2}]}"#,
            ),
        ] {
            assert_ne!(of(other), first, "{what}");
        }
        let shipped = |name: &str| of(&format!(r#"{{"status_code":"IT","{name}":"8/4/2021"}}"#));
        assert_eq!(shipped("ship_date"), shipped("shipped_date"));
    }

    #[test]
    fn what_is_no_tracking_object_is_told_apart() {
        for (body, why) in [
            ("", "no JSON object"),
            ("<html>", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "neither status_code nor events"),
            (r#"{"errors":[]}"#, "neither status_code nor events"),
            (r#"{"status_code":"IT","events":[{"occurred_at":"2026"#, "no JSON object"),
            (r#"{"status_code":"IT","events":{}}"#, "no JSON object"),
            (r#"{"status_code":"IT","events":[1]}"#, "no JSON object"),
            (r#"{"status_code":"IT","status_code":"DE"}"#, "twice"),
            (r#"{"status_code":null}"#, "neither status_code nor events"),
        ] {
            let said = Tracking::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why), "{body}: {said}");
        }
        let deep =
            format!(r#"{{"status_code":"IT","events":[],"x":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000));
        assert!(matches!(Tracking::parse(deep.as_bytes()), Err(NotTracking::TooDeep)));
        let quoted =
            format!(r#"{{"status_code":"IT","x":"{}\\""}}"#, "[".repeat(2000)).replace("\\\"\"", "\\\\\"");
        assert!(!is_too_deep(&quoted));
        assert!(matches!(Tracking::parse(b"\xff{}"), Err(NotTracking::NotUtf8)));
    }
}
