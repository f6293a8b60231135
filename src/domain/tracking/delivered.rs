//! Whether a list of scans shows a parcel that was delivered and did not move since.
//!
//! The delivery need not be on top: the vehicle's own scan may carry a later clock than the driver's. A scan of another
//! day on top of it is another matter: the parcel moves again.

use super::TrackingEvent;
use crate::domain::tracking::matching::{WallClock, oldest_first};

/// Two clocks around midnight may be this far apart and mean one stop.
const SAME_STOP_MINUTES: i64 = 120;

/// What the scans say of deliveries: places in the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// The first scan of the delivery that stands.
    pub standing: Option<usize>,
    /// The first scan of the last delivery after which the parcel moved again.
    pub left: Option<usize>,
}

impl Deliveries {
    /// Of a list with the newest first.
    pub fn of(events: &[TrackingEvent]) -> Self {
        let mut found = Self::default();
        if !events.iter().any(TrackingEvent::is_delivery) {
            return found;
        }
        let (mut delivered_at, mut clock) = (None, None);
        for place in oldest_first(events) {
            let event = &events[place];
            clock = WallClock::of(event).or(clock);
            if event.is_delivery() {
                if found.standing.is_none() {
                    found.standing = Some(place);
                }
                delivered_at = clock;
            } else if found.standing.is_some() && is_another_day(delivered_at, clock) {
                found.left = found.standing.take();
            }
        }
        found
    }
}

fn is_another_day(delivered: Option<WallClock>, later: Option<WallClock>) -> bool {
    delivered.zip(later).is_some_and(|(delivered, later)| {
        later.day() > delivered.day() && later.minute() - delivered.minute() >= SAME_STOP_MINUTES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scans: &[(&str, &str)]) -> Deliveries {
        let events: Vec<_> = scans
            .iter()
            .map(|(at, status)| {
                let raw = format!(r#"{{"occurred_at":"2026-11-{at}:00Z","status_code":"{status}"}}"#);
                TrackingEvent::parse(&raw).unwrap()
            })
            .collect();
        Deliveries::of(&events)
    }

    #[test]
    fn a_delivery_stands_until_a_scan_of_another_day() {
        let of = |standing, left| Deliveries { standing, left };
        for (what, scans, found) in [
            ("none", &[("26T11:00", "IT")][..], of(None, None)),
            ("on top", &[("26T10:55", "DE"), ("26T08:00", "IT")], of(Some(0), None)),
            ("to a collection point", &[("26T10:55", "SP")], of(Some(0), None)),
            ("beneath", &[("26T11:00", "IT"), ("26T10:55", "DE")], of(Some(1), None)),
            (
                "said twice: the first",
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
