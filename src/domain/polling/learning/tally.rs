//! Seconds watched and changes seen, by age, hour and weekday.

use serde::{Deserialize, Serialize};

use super::Moment;

/// Ages end below so many hours since the last change; one more is open.
pub(super) const AGES: [f64; 17] =
    [0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 24.0, 36.0, 48.0, 72.0, 120.0, 240.0];

/// One count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Count {
    pub seconds: f64,
    pub changes: f64,
}

/// What is known of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub(super) ages: [Count; AGES.len() + 1],
    pub(super) hours: [Count; 12],
    pub(super) weekdays: [Count; 7],
}

/// The time from one change to the next: in a quarter, a half and three quarters of the cases not longer, in hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles(pub [f64; 3]);

/// So many changes outweigh the assumption that all ages, hours and days are alike.
const DOUBT: f64 = 4.0;

impl Tally {
    pub(super) fn add(&mut self, moment: Moment, seconds: f64, changes: f64) {
        for count in
            [&mut self.ages[moment.age], &mut self.hours[moment.hours], &mut self.weekdays[moment.weekday]]
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

    /// Changes seen; old ones count in part.
    pub fn changes(&self) -> f64 {
        self.weekdays.iter().map(|count| count.changes).sum()
    }

    pub(super) fn seconds(&self) -> f64 {
        self.weekdays.iter().map(|count| count.seconds).sum()
    }

    /// Changes a second, over everything.
    pub(super) fn base(&self) -> f64 {
        self.changes() / self.seconds().max(1.0)
    }

    /// How many times the base rate at such a moment.
    pub(super) fn ratio(&self, moment: Moment) -> f64 {
        let base = self.base();
        let of = |count: &Count| (count.changes + DOUBT) / (count.seconds * base + DOUBT);
        of(&self.ages[moment.age]) * of(&self.hours[moment.hours]) * of(&self.weekdays[moment.weekday])
    }

    /// From the rates by age, as a life table has it.
    pub fn quantiles(&self) -> Quantiles {
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
        Quantiles(found)
    }
}
