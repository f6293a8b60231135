//! One carrier event of an answer: its own bytes, and what they say.
//!
//! It is parsed once, here; the parsed value travels to the message. Which event it is, and whether it is new, is told
//! in [`crate::domain::tracking::matching`].

use std::sync::Arc;

use jiff::Timestamp;

use super::StatusCode;
use crate::domain::tracking::matching::{Form, Layouts, Sighting, instant_of};

/// One carrier event: the raw object, and the fields that decide something.
///
/// The vendor gives it no id and no sequence number; [`crate::domain::tracking::matching`] gives it one.
#[derive(Clone, Debug)]
pub struct TrackingEvent {
    /// The event's own JSON object, byte for byte.
    pub raw: Arc<str>,
    /// What it says, for telling it from others, …
    pub sighting: Sighting,
    /// … and the digest of that.
    pub form: Form,
}

/// An element of `events` that is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is no JSON object")]
pub struct NotAnEvent;

impl TrackingEvent {
    /// Reads one raw event object.
    pub fn parse(raw: &str) -> Result<Self, NotAnEvent> {
        Self::parse_among(raw, &Layouts::default())
    }

    /// Reads one of a list, whose layouts are kept from one to the next.
    pub(super) fn parse_among(raw: &str, layouts: &Layouts) -> Result<Self, NotAnEvent> {
        if !(raw.starts_with('{') && raw.ends_with('}')) {
            return Err(NotAnEvent);
        }
        let sighting = Sighting::of(raw, layouts);
        Ok(Self { raw: raw.into(), form: sighting.canonical.form(), sighting })
    }

    pub fn status(&self) -> Option<StatusCode> {
        self.sighting.status_code().and_then(StatusCode::parse)
    }

    /// Whether its status says delivered, be it to the door or to a collection point.
    pub fn is_delivery(&self) -> bool {
        self.status().is_some_and(StatusCode::is_terminal)
    }

    pub fn is_out_for_delivery(&self) -> bool {
        is_out_for_delivery(self.sighting.status_detail_code(), self.sighting.detail())
    }

    /// Degrees, east positive.
    pub fn longitude(&self) -> Option<f64> {
        self.sighting.longitude()?.parse().ok()
    }

    pub fn country_code(&self) -> Option<&str> {
        self.sighting.country_code()
    }

    /// When it says that it happened; see [`instant_of`].
    pub fn instant(&self) -> Option<Timestamp> {
        instant_of(&self.raw)
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

    #[test]
    fn what_decides_something_is_read_in_any_spelling() {
        let event =
            TrackingEvent::parse(r#"{"status_code":" De","country_code":"US","longitude":"-80.250"}"#);
        let event = event.unwrap();
        assert_eq!((event.status(), event.is_delivery()), (Some(StatusCode::Delivered), true));
        assert_eq!((event.country_code(), event.longitude()), (Some("us"), Some(-80.25)));
        assert_eq!(TrackingEvent::parse("[1]").unwrap_err(), NotAnEvent);
    }
}
