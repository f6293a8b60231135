//! When a carrier event happened, as far as it says so itself.
//!
//! A `Z` behind the carrier's clock is too often false to tell a zone, an offset in numbers is not made up. So that is
//! believed first, and `occurred_at` after it, which is a best effort at UTC: with pulled USPS rows it lies seven hours
//! ahead of the instant that their own offset names. What names no zone is no instant, and nothing here guesses one.

use jiff::Timestamp;
use serde::Deserialize;

use super::wall::WallClock;
use crate::domain::tracking::Text;

#[derive(Deserialize)]
struct Times {
    #[serde(default)]
    occurred_at: Text,
    #[serde(default)]
    carrier_occurred_at: Text,
}

/// When the event `raw`, an object as it came, says that it happened.
pub fn instant_of(raw: &str) -> Option<Timestamp> {
    let times: Times = serde_json::from_str(raw).ok()?;
    let named = times.carrier_occurred_at.as_deref().and_then(with_offset);
    named.or_else(|| read(times.occurred_at.as_deref()?))
}

fn read(text: &str) -> Option<Timestamp> {
    text.trim().parse().ok()
}

/// The instant of a clock that is off from UTC and says by how much.
fn with_offset(text: &str) -> Option<Timestamp> {
    let (at, clock) = (read(text)?, WallClock::parse(text)?);
    (at.as_second().div_euclid(60) != clock.minute()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(carrier: &str, occurred: &str) -> Option<String> {
        let raw = format!(r#"{{"carrier_occurred_at":{carrier},"occurred_at":{occurred}}}"#);
        instant_of(&raw).map(|at| at.to_string())
    }

    #[test]
    fn an_offset_in_numbers_is_believed_and_a_z_of_the_carriers_is_not() {
        let of = |carrier, occurred| instant(carrier, occurred).unwrap_or_default();
        let pulled = of(r#""2026-06-24T04:20:00-07:00""#, r#""2026-06-24T18:20:00Z""#);
        assert_eq!(pulled, "2026-06-24T11:20:00Z", "seven hours before what occurred_at says");
        for carrier in [r#""2026-06-24T07:20:00Z""#, r#""2026-06-24T07:20:00""#, "null", "\"soon\""] {
            assert_eq!(of(carrier, r#""2026-06-24T11:20:00.5Z""#), "2026-06-24T11:20:00.5Z", "{carrier}");
        }
    }

    #[test]
    fn without_a_zone_there_is_no_instant() {
        assert_eq!(instant("null", r#""2026-06-24T11:20:00""#), None);
        assert_eq!(instant(r#""2026-06-24T11:20:00Z""#, "null"), None);
        assert_eq!(instant("7", "\"\""), None);
        assert_eq!(instant_of("[]"), None);
    }
}
