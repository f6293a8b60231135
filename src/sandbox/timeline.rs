//! Virtual time of the parcels.

use jiff::{SignedDuration, Timestamp};

use crate::domain::time::elapsed;

/// Maps the real clock to the parcels' clock: `start + (now - opened_at) * factor`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    pub(super) opened_at: Timestamp,
    pub(super) start: Timestamp,
    pub(super) factor: f64,
}

impl Timeline {
    /// Returns the parcels' instant at `now`, to the millisecond; never before the start or after the maximum.
    pub(super) fn at(&self, now: Timestamp) -> Timestamp {
        let real = elapsed(self.opened_at, now);
        let virtual_ms = (real.as_secs_f64() * self.factor * 1000.0).round();
        // The cast of a float saturates.
        let passed = SignedDuration::from_millis(virtual_ms as i64);
        self.start.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_advances_by_the_factor() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let (opened_at, start) = (at("2026-11-22T10:00:00Z"), at("2026-01-01T00:00:00Z"));
        let timeline = Timeline { opened_at, start, factor: 10_000.0 };
        assert_eq!(timeline.at(opened_at), start);
        assert_eq!(timeline.at(at("2026-11-22T10:00:08.640Z")), at("2026-01-02T00:00:00Z"));
        assert_eq!(timeline.at(at("2026-11-22T09:00:00Z")), start);
        assert_eq!(timeline.at(at("2999-11-22T09:00:00Z")), Timestamp::MAX);
    }
}
