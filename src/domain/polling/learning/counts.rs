//! Seconds polled and changes seen, by age, hour and weekday.

use serde::{Deserialize, Serialize};

use super::Period;

/// Upper ends of the ages in hours since the last change; the last age is open.
pub(super) const AGES: [f64; 17] =
    [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 36.0, 48.0, 72.0, 120.0, 240.0];

/// Seconds polled, and changes seen in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    pub seconds: f64,
    pub changes: f64,
}

/// The counts of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RateCounts {
    pub(super) ages: [Count; AGES.len() + 1],
    pub(super) hours: [Count; 12],
    pub(super) weekdays: [Count; 7],
}

/// Weight of the prior (the mean rate in every period), as a number of changes.
const PRIOR_CHANGES: f64 = 4.0;

impl RateCounts {
    pub(super) fn add(&mut self, period: Period, seconds: f64, changes: f64) {
        for count in
            [&mut self.ages[period.age], &mut self.hours[period.hours], &mut self.weekdays[period.weekday]]
        {
            count.seconds += seconds;
            count.changes += changes;
        }
    }

    pub(super) fn fade(&mut self, left: f64) {
        for count in self.ages.iter_mut().chain(&mut self.hours).chain(&mut self.weekdays) {
            count.seconds *= left;
            count.changes *= left;
        }
    }

    /// Returns the changes seen; old ones count in part.
    pub fn changes(&self) -> f64 {
        self.weekdays.iter().map(|count| count.changes).sum()
    }

    pub(super) fn seconds(&self) -> f64 {
        self.weekdays.iter().map(|count| count.seconds).sum()
    }

    /// Returns the mean rate in changes a second.
    pub(super) fn base(&self) -> f64 {
        self.changes() / self.seconds().max(1.0)
    }

    /// Returns the rate in a period as a multiple of the mean rate.
    pub(super) fn ratio(&self, period: Period) -> f64 {
        let base = self.base();
        let of = |count: &Count| (count.changes + PRIOR_CHANGES) / (count.seconds * base + PRIOR_CHANGES);
        of(&self.ages[period.age]) * of(&self.hours[period.hours]) * of(&self.weekdays[period.weekday])
    }

    /// Returns the hours within which a quarter, a half and three quarters of the changes come, computed from the rates by
    /// age as in a life table; `None`: never.
    pub fn quartiles(&self) -> [Option<f64>; 3] {
        let mut found = [f64::INFINITY; 3];
        let (mut left, mut age) = (1.0_f64, 0.0);
        for (index, count) in self.ages.iter().enumerate() {
            let until = AGES.get(index).copied().unwrap_or(1_440.0);
            let rate = count.changes / (count.seconds / 3_600.0).max(1e-9);
            let after = left * (-rate * (until - age)).exp();
            for (found, share) in found.iter_mut().zip([0.75, 0.5, 0.25]) {
                if after <= share && found.is_infinite() {
                    *found = age + (left / share).ln() / rate;
                }
            }
            (left, age) = (after, until);
        }
        found.map(|hours| Some(hours).filter(|hours| hours.is_finite()))
    }
}
