//! Division of a subscriber's concurrency between first attempts and retries (contract 7.3).
//!
//! Retries may take the whole time limit, so a quarter of the concurrency is reserved for first attempts, which have
//! priority. Retries must not starve either: with two or more concurrent attempts, one is kept for retries; with one, every
//! ninth attempt is a retry. Within each kind, the delivery due longest is first.

/// Concurrency of one subscriber: limits and attempts in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Configured limit.
    pub max_in_flight: usize,
    /// Current limit by the subscriber's health, at most `max_in_flight`.
    pub allowed: usize,
    pub in_flight: usize,
    pub retries_in_flight: usize,
    /// First attempts started since the last retry.
    pub first_in_a_row: usize,
}

/// Number of first attempts for which a retry waits if only one attempt may run.
const MAX_FIRST_IN_A_ROW: usize = 8;

impl Concurrency {
    /// Number of attempts that may start.
    pub fn free(&self) -> usize {
        self.allowed.saturating_sub(self.in_flight)
    }

    /// Maximum number of retries to start, even without first attempts.
    pub fn max_retries(&self) -> usize {
        let reserved = if self.max_in_flight > 1 { (self.max_in_flight / 4).max(1) } else { 0 };
        (self.max_in_flight - reserved).saturating_sub(self.retries_in_flight).min(self.free())
    }

    /// Returns how many of `first` due first attempts and `retries` due retries to start.
    pub fn split(&self, first: usize, retries: usize) -> (usize, usize) {
        let turn = self.allowed > 1 || self.first_in_a_row >= MAX_FIRST_IN_A_ROW;
        let reserved = usize::from(turn && self.retries_in_flight == 0);
        let left = self.free().saturating_sub(first).max(reserved);
        let retries = retries.min(left).min(self.max_retries());
        (first.min(self.free() - retries), retries)
    }

    /// Returns the number of first attempts since the last retry, after the attempts of [`Self::split`] have started.
    pub fn in_a_row_after(&self, (first, retries): (usize, usize)) -> usize {
        if retries > 0 { 0 } else { self.first_in_a_row + first }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn concurrency(
        max_in_flight: usize,
        allowed: usize,
        in_flight: usize,
        retries_in_flight: usize,
    ) -> Concurrency {
        Concurrency { max_in_flight, allowed, in_flight, retries_in_flight, first_in_a_row: 0 }
    }

    #[test]
    fn first_attempts_come_first_and_leave_one_attempt_to_retries() {
        assert_eq!(concurrency(8, 8, 0, 0).split(20, 20), (7, 1));
        assert_eq!(concurrency(8, 8, 4, 1).split(20, 20), (4, 0));
        assert_eq!(concurrency(8, 8, 0, 0).split(3, 20), (3, 5));
        assert_eq!(concurrency(8, 8, 0, 0).split(0, 20), (0, 6));
        assert_eq!(concurrency(8, 8, 6, 6).split(20, 20), (2, 0));
        assert_eq!(concurrency(1, 1, 0, 0).split(1, 1), (1, 0));
        assert_eq!(concurrency(1, 1, 0, 0).split(0, 1), (0, 1));
        assert_eq!(concurrency(8, 1, 0, 0).split(1, 1), (1, 0), "one attempt at a time");
        let patient = Concurrency { first_in_a_row: MAX_FIRST_IN_A_ROW, ..concurrency(1, 1, 0, 0) };
        assert_eq!(
            (patient.split(9, 9), patient.split(9, 0)),
            ((0, 1), (1, 0)),
            "every ninth attempt is a retry"
        );
    }

    proptest! {
        #[test]
        fn every_free_attempt_is_used_once(
            max in 1_usize..20, allowed in 1_usize..20, in_flight in 0_usize..20, retries in 0_usize..20,
            first in 0_usize..40, due in 0_usize..40,
        ) {
            let allowed = allowed.min(max);
            let concurrency = concurrency(max, allowed, in_flight, retries.min(in_flight));
            let (taken, again) = concurrency.split(first, due);
            prop_assert!(taken <= first && again <= due && taken + again <= concurrency.free());
            // A delivery waits only if no attempt, or no retry, may start.
            prop_assert!(taken == first || taken + again == concurrency.free());
            prop_assert!(again == due || taken + again == concurrency.free() || again == concurrency.max_retries());
            if max > 1 {
                prop_assert!(again + concurrency.retries_in_flight < max || again == 0, "some attempts are reserved for first attempts");
            }
            if allowed > 1 && concurrency.retries_in_flight == 0 && concurrency.free() > 0 && due > 0 {
                prop_assert!(again > 0, "first attempts do not starve retries");
            }
        }
    }
}
