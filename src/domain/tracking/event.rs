//! One carrier event of an answer: its bytes and its parsed key.
//!
//! The key and the fingerprint of an event are computed once per answer. [`crate::domain::tracking::matching`] decides
//! which event it is and whether it is new.

use std::sync::Arc;

use jiff::Timestamp;

use super::StatusCode;
use crate::domain::tracking::matching::{EventKey, Fingerprint, instant_of};

/// One carrier event.
#[derive(Clone, Debug)]
pub struct TrackingEvent {
    /// JSON object of the event, byte for byte.
    pub raw: Arc<str>,
    pub key: EventKey,
    pub fingerprint: Fingerprint,
}

/// Error for an element of `events` that is not an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is not a JSON object")]
pub struct NotAnEvent;

impl TrackingEvent {
    /// Parses one raw event object.
    pub fn parse(raw: &str) -> Result<Self, NotAnEvent> {
        if !(raw.starts_with('{') && raw.ends_with('}')) {
            return Err(NotAnEvent);
        }
        let key = EventKey::of(raw);
        Ok(Self { raw: raw.into(), fingerprint: key.canonical.fingerprint(), key })
    }

    pub fn status(&self) -> Option<StatusCode> {
        self.key.status_code().and_then(StatusCode::parse)
    }

    /// Whether the status is DE or SP.
    pub fn is_delivery(&self) -> bool {
        self.status().is_some_and(StatusCode::is_terminal)
    }

    pub fn is_out_for_delivery(&self) -> bool {
        is_out_for_delivery(self.key.status_detail_code(), self.key.detail())
    }

    /// Degrees, east positive.
    pub fn longitude(&self) -> Option<f64> {
        self.key.longitude()?.parse().ok()
    }

    pub fn country_code(&self) -> Option<&str> {
        self.key.country_code()
    }

    /// See [`instant_of`].
    pub fn instant(&self) -> Option<Timestamp> {
        instant_of(&self.raw)
    }
}

/// Out for delivery has no status code. The status detail code has it, or where that is null (UPS), the carrier's detail
/// code `OT`.
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
    fn out_for_delivery_is_read_from_detail_codes() {
        let of = |json: &str| TrackingEvent::parse(json).unwrap().is_out_for_delivery();
        assert!(of(r#"{"status_detail_code":"OUT_FOR_DELIVERY"}"#));
        assert!(of(r#"{"status_detail_code":null,"carrier_detail_code":"OT"}"#));
        assert!(!of(r#"{"status_detail_code":"IN_TRANSIT","carrier_detail_code":"OT"}"#));
    }

    #[test]
    fn fields_are_read_in_any_spelling() {
        let event =
            TrackingEvent::parse(r#"{"status_code":" De","country_code":"US","longitude":"-80.250"}"#);
        let event = event.unwrap();
        assert_eq!((event.status(), event.is_delivery()), (Some(StatusCode::Delivered), true));
        assert_eq!((event.country_code(), event.longitude()), (Some("us"), Some(-80.25)));
        assert_eq!(TrackingEvent::parse("[1]").unwrap_err(), NotAnEvent);
    }
}
