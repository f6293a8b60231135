//! Arithmetic with instants and spans that saturates at the ends of time, and the text form of instants.
//!
//! Spans come from the configuration or from headers and may be very long. This module reads no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize as _, Serializer};

/// Returns `at` plus `by`.
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Returns `at` minus `by`.
pub fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// Returns the end of a wait that starts at `at`.
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    later(at, signed(wait))
}

/// Converts a span to a signed one.
pub fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

/// Formats an instant for output: RFC 3339, UTC, milliseconds, `Z`.
pub fn instant(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Serializes an instant in this form.
pub fn serialize_instant<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

/// Serializes an instant in this form, or null.
pub fn serialize_instant_or_null<S: Serializer>(
    at: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    at.map(instant).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturates_at_the_ends_of_time() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(later(now, signed(Duration::from_secs(7))).as_second(), 7);
        assert_eq!(earlier(now, signed(Duration::from_secs(7))).as_second(), -7);
        assert_eq!(after(now, Duration::from_secs(7)).as_second(), 7);
        assert_eq!(after(now, Duration::MAX), Timestamp::MAX);
        assert_eq!(earlier(now, signed(Duration::MAX)), Timestamp::MIN);
    }
}
