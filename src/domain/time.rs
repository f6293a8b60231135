//! Instants and spans of time put together, where the end of time is as good as what lies beyond it.
//!
//! Spans come from a configuration or a stranger's header and may be absurd; nobody has anything else to say about one
//! that does not fit. It reads no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// `by` after `at`.
pub fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `by` before `at`.
pub fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// The end of a wait that begins `at` then.
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    later(at, signed(wait))
}

/// A span as instants count.
pub fn signed(span: Duration) -> SignedDuration {
    SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_the_end_of_time() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(later(now, signed(Duration::from_secs(7))).as_second(), 7);
        assert_eq!(earlier(now, signed(Duration::from_secs(7))).as_second(), -7);
        assert_eq!(after(now, Duration::from_secs(7)).as_second(), 7);
        assert_eq!(after(now, Duration::MAX), Timestamp::MAX);
        assert_eq!(earlier(now, signed(Duration::MAX)), Timestamp::MIN);
    }
}
