//! What the API said about one label, read tolerantly.
//!
//! Every field may be null, missing, "" or of another spelling; the bytes are kept as they came, because they are what
//! subscribers are given. A time stays the text it was: its zone is not to be trusted (`Z` is often false, `occurred_at`
//! can lie hours in the future), so nothing here parses one.
//!
//! The whole answer is here; [`StatusCode`], [`Text`] and [`TrackingEvent`] have rooms of their own.

mod event;
mod status;
mod text;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

use super::event::Layouts;
pub use event::TrackingEvent;
use event::is_out_for_delivery;
pub use status::StatusCode;
pub use text::Text;

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
}

#[derive(Deserialize)]
struct WireTracking<'a> {
    #[serde(default)]
    tracking_number: Text,
    status_code: Option<Text>,
    #[serde(default)]
    status_description: Text,
    #[serde(default)]
    status_detail_code: Text,
    #[serde(default)]
    carrier_code: Text,
    #[serde(default)]
    carrier_detail_code: Text,
    #[serde(default)]
    estimated_delivery_date: Text,
    #[serde(borrow, default, deserialize_with = "present")]
    events: Option<Option<Vec<Option<&'a RawValue>>>>,
}

/// Tells a null from a missing key: `null` comes as `Some`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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
        let wire: WireTracking<'_> = serde_json::from_str(text)?;
        if wire.status_code.is_none() && wire.events.is_none() {
            return Err(NotTracking::NoTrackingKeys);
        }
        let layouts = Layouts::default();
        let events = wire
            .events
            .flatten()
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .map(|event| TrackingEvent::parse_among(event.get(), &layouts))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            raw: text.to_owned(),
            tracking_number: wire.tracking_number.into_option(),
            status_code: wire.status_code.and_then(Text::into_option),
            status_description: wire.status_description.into_option(),
            status_detail_code: wire.status_detail_code.into_option(),
            carrier_code: wire.carrier_code.into_option(),
            carrier_detail_code: wire.carrier_detail_code.into_option(),
            estimated_delivery_date: wire.estimated_delivery_date.into_option(),
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
    fn what_is_no_tracking_object_is_told_apart() {
        for (body, why) in [
            ("", "no JSON object"),
            ("<html>", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "neither status_code nor events"),
            (r#"{"errors":[]}"#, "neither status_code nor events"),
            (r#"{"status_code":"IT","events":[{"occurred_at":"2026"#, "no JSON object"),
            (r#"{"status_code":"IT","events":{}}"#, "no JSON object"),
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
