//! The lowest mean delay that any policy could reach with the same number of polls, if it knew the true rates.
//!
//! For changes at rates λ and polls at rates r the mean delay is Σ λ/(2r), least under Σ r = B for r ∝ √λ; that is (Σ
//! t√λ)² / (2·polls·changes), over cells in which λ is constant and labels spend the times t (Cho and Garcia-Molina
//! 2003; Azar et al. 2018). A cell is a true state of the parcel (out for delivery included), the time in that state,
//! and the time of day at the destination. The rates are measured on the simulated journeys. Such a policy knows each
//! parcel's true state at once and at no cost; a real policy does not.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::journey::{SimulatedAnswer, SimulatedJourney};
use crate::domain::time::signed;
use crate::domain::tracking::StatusCode;

/// Cell of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    status: Option<StatusCode>,
    out_for_delivery: bool,
    /// Index into [`AGES`].
    age: usize,
    /// Part of the day, two hours each.
    part_of_day: i8,
    estimated_today: bool,
}

/// Upper ends of the ages, in hours since the last change.
const AGES: [i64; 9] = [1, 3, 6, 12, 24, 48, 96, 240, 1_440];
/// Step in which journeys are split into cells.
const STEP: SignedDuration = SignedDuration::from_mins(30);

/// Time and changes in a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    seconds: f64,
    changes: f64,
    deliveries: f64,
}

/// Weight of a delivery, in other changes.
pub const DELIVERY: f64 = 10.0;

/// The lowest possible delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Of all changes.
    pub all: LowestDelay,
    /// Of deliveries, if all polls served them alone.
    pub deliveries: LowestDelay,
    /// Of all changes, if a delivery counts as [`DELIVERY`] changes.
    pub weighted: LowestDelay,
}

/// The lowest sum of the delays of some changes, times the polls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LowestDelay {
    product: f64,
    changes: f64,
}

impl LowestDelay {
    fn of(cells: &BTreeMap<Cell, Rate>, worth: impl Fn(&Rate) -> f64) -> Self {
        let roots: f64 = cells.values().map(|rate| (rate.seconds * worth(rate)).sqrt()).sum();
        Self { product: roots * roots / 2.0, changes: cells.values().map(worth).sum() }
    }

    /// Returns the lowest mean delay with this many polls, in seconds.
    pub fn mean(self, polls: u64) -> Option<f64> {
        (polls > 0 && self.changes > 0.0).then(|| self.product / (polls as f64 * self.changes))
    }
}

impl Bound {
    /// Computes the bound over these journeys, each polled until its end or until `give_up_after` without a change.
    pub fn of(journeys: &[SimulatedJourney], give_up_after: Duration) -> Self {
        let mut cells: BTreeMap<Cell, Rate> = BTreeMap::new();
        for journey in journeys {
            add_journey(journey, give_up_after, &mut cells);
        }
        Self {
            all: LowestDelay::of(&cells, |rate| rate.changes),
            deliveries: LowestDelay::of(&cells, |rate| rate.deliveries),
            weighted: LowestDelay::of(&cells, |rate| rate.changes + (DELIVERY - 1.0) * rate.deliveries),
        }
    }
}

/// Adds a journey's times and changes to the cells.
fn add_journey(journey: &SimulatedJourney, give_up_after: Duration, cells: &mut BTreeMap<Cell, Rate>) {
    let give_up_after = signed(give_up_after);
    let (mut now, mut since) = (journey.registered_at, journey.registered_at);
    let mut before: Option<&SimulatedAnswer> = None;
    for answer in journey.answers.iter().filter(|answer| answer.is_change) {
        let at = answer.at.max(now);
        if at.duration_since(since) > give_up_after {
            break;
        }
        add_time(before, since, now, at, cells);
        let rate = cells.entry(cell(before, since, at)).or_default();
        rate.changes += 1.0;
        rate.deliveries += f64::from(u8::from(answer.is_terminal()));
        (now, since, before) = (at, at, Some(answer));
        if answer.is_terminal() {
            return;
        }
    }
    add_time(before, since, now, since + give_up_after, cells);
}

fn add_time(
    before: Option<&SimulatedAnswer>,
    since: Timestamp,
    mut from: Timestamp,
    until: Timestamp,
    cells: &mut BTreeMap<Cell, Rate>,
) {
    while from < until {
        // Longer steps for parcels without a change for days.
        let step = if from.duration_since(since) > SignedDuration::from_hours(96) { STEP * 4 } else { STEP };
        let next = (from + step).min(until);
        let middle = from + next.duration_since(from) / 2;
        cells.entry(cell(before, since, middle)).or_default().seconds +=
            next.duration_since(from).as_secs_f64();
        from = next;
    }
}

fn cell(before: Option<&SimulatedAnswer>, since: Timestamp, at: Timestamp) -> Cell {
    let age = at.duration_since(since).as_hours();
    let age = AGES.iter().position(|hours| age < *hours).unwrap_or(AGES.len());
    let fields = before.map(|answer| &answer.fields);
    let offset = fields.and_then(|fields| fields.utc_offset).unwrap_or(jiff::tz::Offset::constant(-6));
    let local = offset.to_datetime(at);
    Cell {
        status: fields.and_then(|fields| fields.status),
        out_for_delivery: fields.is_some_and(|fields| fields.out_for_delivery),
        age,
        part_of_day: local.hour() / 2,
        estimated_today: fields.and_then(|fields| fields.estimate).is_some_and(|day| day <= local.date()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::polling::cadence::CadenceFields;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3_600).unwrap()
    }

    #[test]
    fn at_one_rate_even_polls_are_optimal() {
        // Memoryless changes in one cell: the bound is half the interval.
        let fields =
            CadenceFields { status: None, out_for_delivery: false, estimate: None, utc_offset: None };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut hours = 0.0;
        let answers = (0..40_000).map(|_| {
            hours -= 0.5 * (1.0 - rng.f64()).ln();
            let at = at(0) + SignedDuration::from_secs_f64(hours * 3_600.0);
            SimulatedAnswer { at, fields: fields.clone(), is_change: true }
        });
        let answers: Vec<SimulatedAnswer> = answers.collect();
        let journey =
            SimulatedJourney { label_id: "se-1".to_owned(), registered_at: at(0), carrier: None, answers };
        let bound = Bound::of(&[journey], Duration::from_secs(86_400 * 365));
        // A poll every quarter of an hour is 7.5 minutes late on average.
        let least = bound.all.mean((hours * 4.0) as u64).unwrap();
        assert!((440.0..=450.5).contains(&least), "{least}");
        assert_eq!((bound.deliveries.mean(100), bound.all.mean(0)), (None, None));
    }
}
