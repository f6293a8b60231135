//! Delivery scans: whether a list of scans shows a parcel that was delivered and has not moved since.
//!
//! The delivery need not be the newest scan: the vehicle's scan may have a later time than the driver's. A newer scan
//! of another day means that the parcel moves again.

use super::TrackingEvent;
use crate::domain::tracking::matching::{LocalTime, oldest_first};

/// Maximum distance of two scans of one stop around midnight, in minutes.
const SAME_STOP_MINUTES: i64 = 120;

/// Delivery scans of a list, as indices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryScans {
    /// First scan of the delivery after which the parcel did not move.
    pub current: Option<usize>,
    /// First scan of the last delivery after which the parcel moved again.
    pub superseded: Option<usize>,
}

impl DeliveryScans {
    /// `events`: newest first.
    pub fn of(events: &[TrackingEvent]) -> Self {
        let mut found = Self::default();
        if !events.iter().any(TrackingEvent::is_delivery) {
            return found;
        }
        let (mut delivered_at, mut time) = (None, None);
        for index in oldest_first(events) {
            let event = &events[index];
            time = LocalTime::of(event).or(time);
            if event.is_delivery() {
                if found.current.is_none() {
                    found.current = Some(index);
                }
                delivered_at = time;
            } else if found.current.is_some() && is_another_day(delivered_at, time) {
                found.superseded = found.current.take();
            }
        }
        found
    }
}

fn is_another_day(delivered: Option<LocalTime>, later: Option<LocalTime>) -> bool {
    delivered.zip(later).is_some_and(|(delivered, later)| {
        later.date() > delivered.date() && later.minute() - delivered.minute() >= SAME_STOP_MINUTES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scans: &[(&str, &str)]) -> DeliveryScans {
        let events: Vec<_> = scans
            .iter()
            .map(|(at, status)| {
                let raw = format!(r#"{{"occurred_at":"2026-11-{at}:00Z","status_code":"{status}"}}"#);
                TrackingEvent::parse(&raw).unwrap()
            })
            .collect();
        DeliveryScans::of(&events)
    }

    #[test]
    fn a_delivery_is_current_until_a_scan_of_another_day() {
        let of = |current, superseded| DeliveryScans { current, superseded };
        for (what, scans, found) in [
            ("none", &[("26T11:00", "IT")][..], of(None, None)),
            ("on top", &[("26T10:55", "DE"), ("26T08:00", "IT")], of(Some(0), None)),
            ("to a collection point", &[("26T10:55", "SP")], of(Some(0), None)),
            ("beneath", &[("26T11:00", "IT"), ("26T10:55", "DE")], of(Some(1), None)),
            (
                "twice: the first",
                &[("26T18:00", "DE"), ("26T11:00", "IT"), ("26T10:55", "DE")],
                of(Some(2), None),
            ),
            ("in another order", &[("26T10:55", "DE"), ("26T11:00", "IT")], of(Some(0), None)),
            ("another day", &[("27T09:00", "IT"), ("26T10:55", "DE")], of(None, Some(1))),
            ("around midnight", &[("27T00:05", "IT"), ("26T23:58", "DE")], of(Some(1), None)),
            ("again", &[("28T10:00", "DE"), ("27T09:00", "IT"), ("26T10:55", "DE")], of(Some(0), Some(2))),
        ] {
            assert_eq!(list(scans), found, "{what}");
        }
    }
}
