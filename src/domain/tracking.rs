//! What the API said about one label, read tolerantly.
//!
//! Every field may be null, missing, "" or of another spelling; the bytes are kept as they came, because they are what
//! subscribers are given. A time stays the text it was: its zone is not to be trusted (`Z` is often false, `occurred_at`
//! can lie hours in the future), so nothing here parses one.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::event::{Form, Layouts, Sighting};

/// ShipStation's status codes. Any of them must be expected from any carrier, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusCode {
    Unknown,
    NotYetInSystem,
    Accepted,
    InTransit,
    DeliveryAttempt,
    Exception,
    Delivered,
    /// Delivered to the collection location.
    ServicePoint,
}

impl StatusCode {
    pub const ALL: [Self; 8] = [
        Self::Unknown,
        Self::NotYetInSystem,
        Self::Accepted,
        Self::InTransit,
        Self::DeliveryAttempt,
        Self::Exception,
        Self::Delivered,
        Self::ServicePoint,
    ];

    /// The two letters of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UN",
            Self::NotYetInSystem => "NY",
            Self::Accepted => "AC",
            Self::InTransit => "IT",
            Self::DeliveryAttempt => "AT",
            Self::Exception => "EX",
            Self::Delivered => "DE",
            Self::ServicePoint => "SP",
        }
    }

    /// The code of `text` in any case; the vocabulary drifts, so the full words are known too. `None` is a code we
    /// don't know, which is never terminal.
    pub fn parse(text: &str) -> Option<Self> {
        let word: String = text.trim().to_ascii_uppercase().replace([' ', '-'], "_");
        Some(match word.as_str() {
            "UN" | "UNKNOWN" => Self::Unknown,
            "NY" | "NOT_YET_IN_SYSTEM" => Self::NotYetInSystem,
            "AC" | "ACCEPTED" => Self::Accepted,
            "IT" | "IN_TRANSIT" => Self::InTransit,
            "AT" | "DELIVERY_ATTEMPT" => Self::DeliveryAttempt,
            "EX" | "EXCEPTION" => Self::Exception,
            "DE" | "DELIVERED" => Self::Delivered,
            "SP" | "DELIVERED_TO_COLLECTION_LOCATION" | "DELIVERED_TO_SERVICE_POINT" => Self::ServicePoint,
            _ => return None,
        })
    }

    /// Whether polling ends here. An exception never ends it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Delivered | Self::ServicePoint)
    }

    /// ShipStation's own table from status codes to a label's `tracking_status` (contract 6.3).
    pub fn tracking_status(self) -> Option<&'static str> {
        match self {
            Self::InTransit | Self::NotYetInSystem => Some("in_transit"),
            Self::Delivered => Some("delivered"),
            Self::Exception => Some("error"),
            Self::Unknown => Some("unknown"),
            Self::ServicePoint => Some("delivered_to_service_point"),
            Self::Accepted | Self::DeliveryAttempt => None,
        }
    }
}

/// A text field as it came: null, missing and "" are all `None`; numbers are taken by their spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(Option<String>);

impl Text {
    pub fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub fn into_option(self) -> Option<String> {
        self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text((!text.trim().is_empty()).then(|| text.to_owned())))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
                Ok(Text(Some(value.to_string())))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string())))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string())))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
                Ok(Text(Some(value.to_string())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// One carrier event: the fields that decide something, and the raw object.
///
/// The vendor gives it no id and no sequence number; [`super::event`] gives it one.
#[derive(Clone, Debug)]
pub struct TrackingEvent {
    /// The event's own JSON object, byte for byte.
    pub raw: String,
    /// Best effort at UTC; may lie up to 7 h in the future, and is not monotonic.
    pub occurred_at: Option<String>,
    /// Wall clock at the place, often with a false `Z`.
    pub carrier_occurred_at: Option<String>,
    pub country_code: Option<String>,
    pub carrier_detail_code: Option<String>,
    pub status_code: Option<String>,
    pub status_detail_code: Option<String>,
    /// Degrees, east positive.
    pub longitude: Option<f64>,
    /// What it says, for telling it from others, …
    pub sighting: Sighting,
    /// … and the digest of that.
    pub form: Form,
}

#[derive(Deserialize)]
struct WireEvent {
    #[serde(default)]
    occurred_at: Text,
    #[serde(default)]
    carrier_occurred_at: Text,
    #[serde(default)]
    country_code: Text,
    #[serde(default)]
    carrier_detail_code: Text,
    #[serde(default)]
    status_code: Text,
    #[serde(default)]
    status_detail_code: Text,
    #[serde(default)]
    longitude: Text,
}

impl TrackingEvent {
    /// Reads one raw event object.
    pub fn parse(raw: &str) -> Result<Self, serde_json::Error> {
        Self::parse_among(raw, &Layouts::default())
    }

    /// Reads one of a list, whose layouts are kept from one to the next.
    fn parse_among(raw: &str, layouts: &Layouts) -> Result<Self, serde_json::Error> {
        let wire: WireEvent = serde_json::from_str(raw)?;
        let sighting = Sighting::of(raw, layouts);
        Ok(Self {
            raw: raw.to_owned(),
            occurred_at: wire.occurred_at.into_option(),
            carrier_occurred_at: wire.carrier_occurred_at.into_option(),
            country_code: wire.country_code.into_option(),
            carrier_detail_code: wire.carrier_detail_code.into_option(),
            status_code: wire.status_code.into_option(),
            status_detail_code: wire.status_detail_code.into_option(),
            longitude: wire.longitude.as_deref().and_then(|text| text.parse().ok()),
            form: sighting.canonical.form(),
            sighting,
        })
    }

    pub fn status(&self) -> Option<StatusCode> {
        self.status_code.as_deref().and_then(StatusCode::parse)
    }

    pub fn is_out_for_delivery(&self) -> bool {
        is_out_for_delivery(self.status_detail_code.as_deref(), self.carrier_detail_code.as_deref())
    }
}

/// Out for delivery is no status code: it shows in the detail code, or, where that is null (UPS), as the carrier's `OT`.
fn is_out_for_delivery(status_detail_code: Option<&str>, carrier_detail_code: Option<&str>) -> bool {
    match status_detail_code {
        Some(code) => code.trim().eq_ignore_ascii_case("OUT_FOR_DELIVERY"),
        None => carrier_detail_code.is_some_and(|code| code.trim().eq_ignore_ascii_case("OT")),
    }
}

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

    #[test]
    fn a_code_is_read_in_any_case_and_an_unknown_one_ends_nothing() {
        assert_eq!(StatusCode::parse(" de "), Some(StatusCode::Delivered));
        assert_eq!(StatusCode::parse("DELIVERED"), Some(StatusCode::Delivered));
        assert_eq!(StatusCode::parse("MY"), None);
        assert!(!StatusCode::Exception.is_terminal());
    }

    #[test]
    fn out_for_delivery_hides_in_details() {
        let of = |json: &str| TrackingEvent::parse(json).unwrap().is_out_for_delivery();
        assert!(of(r#"{"status_detail_code":"OUT_FOR_DELIVERY"}"#));
        assert!(of(r#"{"status_detail_code":null,"carrier_detail_code":"OT"}"#));
        assert!(!of(r#"{"status_detail_code":"IN_TRANSIT","carrier_detail_code":"OT"}"#));
    }
}
