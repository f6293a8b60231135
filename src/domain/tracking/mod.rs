//! Tracking: parses answers of the API, identifies carrier events and keeps their history.
//!
//! Parsing is tolerant: any field may be null, missing, "" or of another spelling. The bytes of an answer are kept,
//! because subscribers get them unchanged (contract 6.1). Times stay texts: their zones cannot be trusted (`Z` is often
//! wrong, `occurred_at` may be hours in the future).

mod content_digest;
mod delivery_scans;
pub mod estimate;
mod event;
mod status;
mod surrogates;
mod text;
mod wire;

// Classification of answers: tracking, or a failure.
pub mod reading;
// Identity of events: matches an answer with the history.
pub mod matching;
// Event rows to write and events to put into messages.
pub mod history;

use super::digest::Digest;
pub use delivery_scans::DeliveryScans;
use event::is_out_for_delivery;
pub use event::{NotAnEvent, TrackingEvent};
pub use status::StatusCode;
pub use surrogates::replace_lone_surrogates;
pub use text::Text;
pub use wire::MAX_EVENTS;
use wire::WireTracking;

/// A good answer of the tracking endpoint.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// Whole answer, byte for byte, without surrounding white space.
    pub raw: String,
    pub tracking_number: Option<String>,
    /// As spelled; [`Tracking::status`] parses it.
    pub status_code: Option<String>,
    pub status_description: Option<String>,
    pub status_detail_code: Option<String>,
    pub carrier_code: Option<String>,
    pub carrier_detail_code: Option<String>,
    pub estimated_delivery_date: Option<String>,
    /// Newest first, as received.
    pub events: Vec<TrackingEvent>,
    /// Digest of the answer's content, independent of spelling and order.
    pub content_digest: Digest,
}

/// Maximum nesting of an answer: more than any real answer has, less than the parsers of SQLite and receivers allow.
const MAX_DEPTH: usize = 100;

/// Whether brackets are nested deeper than [`MAX_DEPTH`]. `serde_json` does not check this for raw values.
fn is_too_deep(text: &str) -> bool {
    if text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX_DEPTH {
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
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// Error for a 200 whose body is not a tracking object.
#[derive(Debug, thiserror::Error)]
pub enum NotTracking {
    #[error("the answer is not UTF-8")]
    NotUtf8,
    #[error("the answer is not a JSON object of the expected form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the answer is not a JSON object of the expected form: {0}")]
    Event(#[from] NotAnEvent),
    #[error("the answer is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the answer is a JSON object, but has neither status_code nor events")]
    NoTrackingKeys,
}

impl Tracking {
    /// Parses a whole answer. Unknown fields stay in `raw`; null elements of `events` are skipped.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotTracking> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| NotTracking::NotUtf8)?
            .trim_matches([' ', '\t', '\r', '\n', '\u{feff}']);
        if is_too_deep(text) {
            return Err(NotTracking::TooDeep);
        }
        let readable = replace_lone_surrogates(text);
        let wire: WireTracking<'_> = serde_json::from_str(&readable)?;
        if wire.text("status_code").is_none() && !wire.has_events {
            return Err(NotTracking::NoTrackingKeys);
        }
        let mut events = Vec::with_capacity(wire.events.len());
        for event in wire.events.iter().flatten().map(|event| event.get()) {
            // Replaced surrogates keep their length, so the event has the same range in the original text.
            let start = event.as_ptr().addr() - readable.as_ptr().addr();
            events.push(TrackingEvent::parse(&text[start..start + event.len()])?);
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
            content_digest: content_digest::digest(&wire.fields, &events),
            events,
        })
    }

    /// Status, if its code is known.
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
    fn a_lone_surrogate_is_parsed_and_kept() {
        let event = r#"{"description":"cut \ud83d","city_locality":"RENO","status_code":"IT"}"#;
        let body = format!(
            r#"{{"status_code":"IT","status_description":"In Transit \ud83d","x\ud83d":1,"events":[{event}]}}"#
        );
        let tracking = Tracking::parse(body.as_bytes()).unwrap();
        assert_eq!(tracking.status_description.as_deref(), Some("In Transit \u{fffd}"));
        assert_eq!(tracking.raw, body, "as received");
        let read = &tracking.events[0];
        assert_eq!((&*read.raw, read.status()), (event, Some(StatusCode::InTransit)));
        assert_eq!(
            read.fingerprint,
            TrackingEvent::parse(&event.replace("d83d", "fffd")).unwrap().fingerprint
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_refused_and_nulls_count() {
        let body = |elements: &[&str]| format!(r#"{{"status_code":"IT","events":[{}]}}"#, elements.join(","));
        let just = body(&vec!["{}"; MAX_EVENTS]);
        assert_eq!(Tracking::parse(just.as_bytes()).unwrap().events.len(), MAX_EVENTS);
        for element in ["{}", "null"] {
            // Parsing stops at the first surplus event; the rest is not even JSON.
            let long = body(&vec![element; MAX_EVENTS + 1]).replace("]}", ",");
            let error = Tracking::parse(long.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("more than 2000 events"), "{error}");
        }
    }

    #[test]
    fn equal_content_has_an_equal_digest() {
        let of = |body: &str| Tracking::parse(body.as_bytes()).unwrap().content_digest;
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
    fn refuses_other_bodies_with_a_reason() {
        for (body, why) in [
            ("", "not a JSON object"),
            ("<html>", "not a JSON object"),
            ("[]", "not a JSON object"),
            ("{}", "neither status_code nor events"),
            (r#"{"errors":[]}"#, "neither status_code nor events"),
            (r#"{"status_code":"IT","events":[{"occurred_at":"2026"#, "not a JSON object"),
            (r#"{"status_code":"IT","events":{}}"#, "not a JSON object"),
            (r#"{"status_code":"IT","events":[1]}"#, "not a JSON object"),
            (r#"{"status_code":"IT","status_code":"DE"}"#, "twice"),
            (r#"{"status_code":null}"#, "neither status_code nor events"),
        ] {
            let error = Tracking::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{body}: {error}");
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
