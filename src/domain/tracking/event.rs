//! One carrier event of an answer: what of it decides something, beside its own bytes.
//!
//! Read by itself, so that it can be kept and passed on as it came. Which event it is, and whether it is new, is told in
//! [`crate::domain::event`].

use serde::Deserialize;

use super::{StatusCode, Text};
use crate::domain::event::{Form, Layouts, Sighting};

/// One carrier event: the fields that decide something, and the raw object.
///
/// The vendor gives it no id and no sequence number; [`crate::domain::event`] gives it one.
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
    pub(super) fn parse_among(raw: &str, layouts: &Layouts) -> Result<Self, serde_json::Error> {
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
pub(super) fn is_out_for_delivery(
    status_detail_code: Option<&str>,
    carrier_detail_code: Option<&str>,
) -> bool {
    match status_detail_code {
        Some(code) => code.trim().eq_ignore_ascii_case("OUT_FOR_DELIVERY"),
        None => carrier_detail_code.is_some_and(|code| code.trim().eq_ignore_ascii_case("OT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_for_delivery_hides_in_details() {
        let of = |json: &str| TrackingEvent::parse(json).unwrap().is_out_for_delivery();
        assert!(of(r#"{"status_detail_code":"OUT_FOR_DELIVERY"}"#));
        assert!(of(r#"{"status_detail_code":null,"carrier_detail_code":"OT"}"#));
        assert!(!of(r#"{"status_detail_code":"IN_TRANSIT","carrier_detail_code":"OT"}"#));
    }
}
