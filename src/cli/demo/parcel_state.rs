//! State of a parcel, derived from its callbacks.

use serde_json::Value;

use crate::domain::tracking::{StatusCode, TrackingEvent};
use crate::sandbox::ledger::LedgerLabel;

/// Displayed state of a parcel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParcelState {
    #[default]
    Unseen,
    Label,
    Accepted,
    InTransit,
    Exception,
    OutForDelivery,
    Attempted,
    Delivered,
    CollectionPoint,
}

/// Number of dots of a track.
const DOTS: usize = 5;

impl ParcelState {
    /// Returns the state after the newest event with a state.
    pub fn of(view: &LedgerLabel) -> Self {
        let events = view.added_ids.iter().rev().filter_map(|id| view.events.get(id));
        events.filter_map(Self::of_event).next().unwrap_or_default()
    }

    /// Returns the state of a parcel after this carrier event.
    pub fn of_event(event: &Value) -> Option<Self> {
        let event = TrackingEvent::parse(&event.to_string()).ok()?;
        if event.is_out_for_delivery() {
            return Some(Self::OutForDelivery);
        }
        Some(match event.status()? {
            StatusCode::Unknown | StatusCode::NotYetInSystem => Self::Label,
            StatusCode::Accepted => Self::Accepted,
            StatusCode::InTransit => Self::InTransit,
            StatusCode::Exception => Self::Exception,
            StatusCode::DeliveryAttempt => Self::Attempted,
            StatusCode::Delivered => Self::Delivered,
            StatusCode::ServicePoint => Self::CollectionPoint,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Unseen => "no scan yet",
            Self::Label => "label",
            Self::Accepted => "accepted",
            Self::InTransit => "in transit",
            Self::Exception => "exception",
            Self::OutForDelivery => "out for delivery",
            Self::Attempted => "attempted",
            Self::Delivered => "delivered",
            Self::CollectionPoint => "collection point",
        }
    }

    pub fn is_end(self) -> bool {
        matches!(self, Self::Delivered | Self::CollectionPoint)
    }

    pub fn is_trouble(self) -> bool {
        matches!(self, Self::Exception | Self::Attempted)
    }

    /// Label, accepted, in transit, out for delivery, arrived: a dot each.
    pub fn dots(self) -> String {
        let reached = match self {
            Self::Unseen => 0,
            Self::Label => 1,
            Self::Accepted => 2,
            Self::InTransit | Self::Exception => 3,
            Self::OutForDelivery | Self::Attempted => 4,
            Self::Delivered | Self::CollectionPoint => DOTS,
        };
        let dot = |number: usize| match number {
            _ if self.is_trouble() && number == reached => "!",
            DOTS if self.is_end() => "✓",
            _ if number <= reached => "●",
            _ => "○",
        };
        (1..=DOTS).map(dot).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(code: &str, detail: Option<&str>, carrier: Option<&str>) -> Option<ParcelState> {
        ParcelState::of_event(&serde_json::json!({
            "status_code": code, "status_detail_code": detail, "carrier_detail_code": carrier,
        }))
    }

    #[test]
    fn out_for_delivery_shows_in_the_details() {
        assert_eq!(state("IT", Some("OUT_FOR_DELIVERY"), None), Some(ParcelState::OutForDelivery));
        assert_eq!(state("IT", None, Some("OT")), Some(ParcelState::OutForDelivery));
        assert_eq!(state("IT", Some("IN_TRANSIT"), None), Some(ParcelState::InTransit));
        assert_eq!(state("SP", None, None), Some(ParcelState::CollectionPoint));
        assert_eq!(state("??", None, None), None);
    }

    #[test]
    fn dots() {
        assert_eq!(ParcelState::Unseen.dots(), "○ ○ ○ ○ ○");
        assert_eq!(ParcelState::Exception.dots(), "● ● ! ○ ○");
        assert_eq!(ParcelState::OutForDelivery.dots(), "● ● ● ● ○");
        assert_eq!(ParcelState::CollectionPoint.dots(), "● ● ● ● ✓");
    }
}
