//! Arithmetic with instants and spans that saturates at the ends of time, and the text form of instants.
//!
//! Spans come from the configuration or from headers and may be very long. This module reads no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Serialize as _, Serializer};

/// Pause before a poll or an attempt is repeated after a shortage of this machine: descriptors, memory, ports.
pub const SHORTAGE_PAUSE: Duration = Duration::from_secs(5);

/// Returns whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the instant in whole milliseconds, as stored.
pub fn whole_ms(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Returns the end of a wait in whole milliseconds, rounded up.
pub fn whole_ms_after(now: Timestamp, wait: Duration) -> Timestamp {
    let ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    later(now, SignedDuration::from_millis(ms))
}

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

/// Returns the time from `from` to `to`; zero if `to` is earlier.
pub fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
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
