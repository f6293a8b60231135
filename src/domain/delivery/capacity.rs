//! Who goes next: how a subscriber's room is shared between first attempts and retries (contract 7.3).
//!
//! Retries may hang for the whole time limit. So a quarter of the room is kept for first attempts, which come first; and
//! so that these, however many, starve no retry, one place is the retries' as soon as there are two, and of a single one
//! every ninth turn. Which deliveries of a kind are taken is no matter here: the longest due.

/// The room of one subscriber, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// As configured.
    pub max_in_flight: usize,
    /// As the subscriber's health has it; at most that.
    pub at_once: usize,
    pub under_way: usize,
    /// Of those under way.
    pub retries_under_way: usize,
    /// First attempts since the last retry.
    pub first_in_a_row: usize,
}

/// Where there is one place only, a retry waits for so many first attempts.
const IN_A_ROW: usize = 8;

impl Capacity {
    pub fn room(&self) -> usize {
        self.at_once.saturating_sub(self.under_way)
    }

    /// The most retries that may be taken up, however few first attempts there are.
    pub fn most_retries(&self) -> usize {
        let kept = if self.max_in_flight > 1 { (self.max_in_flight / 4).max(1) } else { 0 };
        (self.max_in_flight - kept).saturating_sub(self.retries_under_way).min(self.room())
    }

    /// How many of `first` due first attempts and of `retries` due retries are taken up.
    pub fn share(&self, first: usize, retries: usize) -> (usize, usize) {
        let turn = self.at_once > 1 || self.first_in_a_row >= IN_A_ROW;
        let theirs = usize::from(turn && self.retries_under_way == 0);
        let left = self.room().saturating_sub(first).max(theirs);
        let retries = retries.min(left).min(self.most_retries());
        (first.min(self.room() - retries), retries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn capacity(
        max_in_flight: usize,
        at_once: usize,
        under_way: usize,
        retries_under_way: usize,
    ) -> Capacity {
        Capacity { max_in_flight, at_once, under_way, retries_under_way, first_in_a_row: 0 }
    }

    #[test]
    fn first_attempts_come_first_and_leave_the_retries_a_place() {
        assert_eq!(capacity(8, 8, 0, 0).share(20, 20), (7, 1));
        assert_eq!(capacity(8, 8, 4, 1).share(20, 20), (4, 0));
        assert_eq!(capacity(8, 8, 0, 0).share(3, 20), (3, 5));
        assert_eq!(capacity(8, 8, 0, 0).share(0, 20), (0, 6));
        assert_eq!(capacity(8, 8, 6, 6).share(20, 20), (2, 0));
        assert_eq!(capacity(1, 1, 0, 0).share(1, 1), (1, 0));
        assert_eq!(capacity(1, 1, 0, 0).share(0, 1), (0, 1));
        assert_eq!(capacity(8, 1, 0, 0).share(1, 1), (1, 0), "at the slowest pace there is no second place");
        let patient = Capacity { first_in_a_row: IN_A_ROW, ..capacity(1, 1, 0, 0) };
        assert_eq!(
            (patient.share(9, 9), patient.share(9, 0)),
            ((0, 1), (1, 0)),
            "every ninth turn is a retry's"
        );
    }

    proptest! {
        #[test]
        fn no_place_is_lost_or_given_twice(
            max in 1_usize..20, at_once in 1_usize..20, under_way in 0_usize..20, retries in 0_usize..20,
            first in 0_usize..40, due in 0_usize..40,
        ) {
            let at_once = at_once.min(max);
            let capacity = capacity(max, at_once, under_way, retries.min(under_way));
            let (taken, again) = capacity.share(first, due);
            prop_assert!(taken <= first && again <= due && taken + again <= capacity.room());
            // Whoever is left waits because there is no place, or none for a retry.
            prop_assert!(taken == first || taken + again == capacity.room());
            prop_assert!(again == due || taken + again == capacity.room() || again == capacity.most_retries());
            if max > 1 {
                prop_assert!(again + capacity.retries_under_way < max || again == 0, "some room is the first attempts'");
            }
            if at_once > 1 && capacity.retries_under_way == 0 && capacity.room() > 0 && due > 0 {
                prop_assert!(again > 0, "no flood of first attempts starves the retries");
            }
        }
    }
}
