//! Suggestion of the next poll from learned rates.
//!
//! If changes come at a known rate λ, polls at a rate proportional to √λ give the least mean delay for their number
//! (Cho and Garcia-Molina 2003). The table sets how many polls a state gets. The learned rates move them to the hours
//! and ages in which changes come. The next poll is due when the poll rate, summed up from now on, reaches one.

use std::time::Duration;

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};

use super::counts::{AGES, Count};
use super::{LearnedRates, Period, RateCounts, RateGroup};
use crate::domain::polling::cadence::{Cadence, Row, RowName, Situation, Suggestion};
use crate::domain::polling::reason::Learned;
use crate::domain::tracking::StatusCode;

/// The poll rates of a group of parcels.
#[derive(Clone, Debug, PartialEq)]
struct PollRates<'a> {
    group: &'a RateGroup,
    rate_counts: &'a RateCounts,
    /// Polls a second at the mean rate of changes.
    base: f64,
}

/// The number of changes at which table and learned rates have the same weight.
const EQUAL_WEIGHT_CHANGES: f64 = 50.0;
/// The share of the table's polls that is needed if they come at the right time. In the simulation it is the smallest
/// share with which deliveries are noticed as early as with the table alone.
const POLL_SHARE: f64 = 0.78;
/// The same for parcels that are out for delivery, which the table also polls in the night and the early hours.
const POLL_SHARE_OUT: f64 = 0.63;
/// The step in which the rate is summed up.
const STEP: SignedDuration = SignedDuration::from_mins(10);
/// The longest wait.
const MAX_WAIT: SignedDuration = SignedDuration::from_hours(24);

impl<'a> PollRates<'a> {
    /// `row` is the row of the group in the table; `outside` applies outside of its hours.
    fn new(group: &'a RateGroup, rate_counts: &'a RateCounts, row: &Row, outside: &Row) -> Self {
        let polls: f64 = match row.hours {
            Some(hours) => {
                let row_at = |block: usize| {
                    let middle = Time::new(block as i8 * 2 + 1, 0, 0, 0).unwrap_or_default();
                    if hours.contain(middle) { row } else { outside }
                };
                let blocks = rate_counts.hours.iter().enumerate();
                blocks.map(|(block, count)| count.seconds / first(row_at(block))).sum()
            }
            None => rate_counts.ages.iter().zip(rates(row)).map(|(count, rate)| count.seconds * rate).sum(),
        };
        let rate = rate_counts.base();
        // The mean square root of the ratios over the time polled. Dividing by it keeps the number of polls.
        let mean_root = |counts: &[Count]| {
            let roots: f64 = counts.iter().map(|count| (count.seconds * count.changes / rate).sqrt()).sum();
            roots / rate_counts.seconds()
        };
        let roots =
            mean_root(&rate_counts.ages) * mean_root(&rate_counts.hours) * mean_root(&rate_counts.weekdays);
        let share = if group.state == RowName::OutForDelivery { POLL_SHARE_OUT } else { POLL_SHARE };
        Self { group, rate_counts, base: share * polls / (rate_counts.seconds() * roots) }
    }

    /// Polls a second in a period.
    fn rate(&self, period: Period) -> f64 {
        self.base * self.rate_counts.ratio(period).sqrt()
    }

    fn learned(&self, changes: f64) -> Learned {
        Learned {
            carrier: self.group.carrier.to_string(),
            state: self.group.state.as_str().to_owned(),
            changes: changes.round(),
            quartile_hours: self.rate_counts.quartiles(),
        }
    }
}

impl LearnedRates {
    /// Returns the wait from `now` that makes the poll rate, summed up from now on, one poll. `None` if too little was
    /// learned, or the row has `learn = false`.
    pub fn suggest(
        &self,
        cadence: &Cadence,
        situation: &Situation,
        carrier: Option<&str>,
        service: Option<&str>,
        now: Timestamp,
    ) -> Option<Suggestion> {
        let outside = &cadence.rows[&RowName::Status(StatusCode::InTransit)];
        let rates_of = |state| {
            let row = cadence.rows.get(&state).filter(|row| row.learn)?;
            let (group, rate_counts) = self.best(carrier, service, state)?;
            Some(PollRates::new(group, rate_counts, row, outside))
        };
        let mut state = super::state(situation, now);
        let here = rates_of(state)?;
        let mut current = here.clone();
        let (mut sum, mut at) = (0.0, now);
        let rate = loop {
            let middle = at + STEP / 2;
            let then = super::state(situation, middle);
            if then != state {
                state = then;
                current = rates_of(then).unwrap_or(current);
            }
            let rate = current.rate(Period::of(situation.quiet_since, middle, situation.utc_offset));
            let piece = rate * STEP.as_secs_f64();
            if sum + piece >= 1.0 {
                at += SignedDuration::from_secs_f64((1.0 - sum) / rate);
                break rate;
            }
            sum += piece;
            at += STEP;
            if at.duration_since(now) >= MAX_WAIT {
                break rate;
            }
        };
        let changes = here.rate_counts.changes();
        let with_hours = [RowName::OutForDelivery, RowName::EstimateDay];
        Some(Suggestion {
            wait: at.duration_since(now).unsigned_abs(),
            pace: Duration::from_secs_f64(1.0 / rate.max(1e-6)),
            weight: changes / (changes + EQUAL_WEIGHT_CHANGES),
            learned: here.learned(changes),
            known_rows: with_hours.into_iter().filter(|row| rates_of(*row).is_some()).collect(),
        })
    }
}

fn first(row: &Row) -> f64 {
    row.intervals.first().map_or(3_600.0, Duration::as_secs_f64)
}

/// Returns the polls a second that a row asks for, by age.
fn rates(row: &Row) -> [f64; AGES.len() + 1] {
    let mut polls = [0.0; AGES.len() + 1];
    let (mut age, mut unchanged) = (0.0, 0);
    let open = 480.0 * 3_600.0;
    while age < open {
        let (interval, _) = row.interval(unchanged, Duration::from_secs_f64(age));
        age += interval.as_secs_f64().max(60.0);
        unchanged += 1;
        let bucket = AGES.iter().position(|hours| age < hours * 3_600.0).unwrap_or(AGES.len());
        polls[bucket] += 1.0;
    }
    let mut from = 0.0;
    for (index, polls) in polls.iter_mut().enumerate() {
        let until = AGES.get(index).map_or(open, |hours| hours * 3_600.0);
        *polls /= until - from;
        from = until;
    }
    polls
}
