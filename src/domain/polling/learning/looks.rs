//! From what was learnt to the next look.
//!
//! For changes at a rate λ that is known, looks at a rate r ∝ √λ give the least mean delay for their number (Cho and
//! Garcia-Molina 2003). The table says how many looks a state gets; the rhythm says when: the same looks, or a share of
//! them, go to the hours and ages in which something happens. The next look is due when the rate, summed up from now on,
//! makes one.

use std::time::Duration;

use jiff::civil::Time;
use jiff::{SignedDuration, Timestamp};

use super::tally::{AGES, Count, Quantiles};
use super::{Kind, LearnedRates, Moment, Tally};
use crate::domain::polling::cadence::{Cadence, Row, RowName, Situation};
use crate::domain::tracking::StatusCode;

/// How often to look at parcels of a kind.
#[derive(Clone, Debug, PartialEq)]
struct Looks<'a> {
    kind: &'a Kind,
    tally: &'a Tally,
    /// Looks a second at the base rate of changes.
    base: f64,
}

/// So many changes are believed half.
const HALF: f64 = 50.0;
/// The share of the table's looks that is needed when they come at the right time …
const THRIFT: f64 = 0.78;
/// … and of those for parcels that are out for delivery, where the table looks through the night and the early hours.
const THRIFT_OUT: f64 = 0.63;
/// How finely the rate is summed up.
const STEP: SignedDuration = SignedDuration::from_mins(10);
/// No wait is longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(24);

impl<'a> Looks<'a> {
    /// For `kind`, which has `row` in the table and, outside of its hours, `outside`.
    fn new(kind: &'a Kind, tally: &'a Tally, row: &Row, outside: &Row) -> Self {
        let asked: f64 = match row.hours {
            Some(hours) => {
                let row_at = |block: usize| {
                    let middle = Time::new(block as i8 * 2 + 1, 0, 0, 0).unwrap_or_default();
                    if hours.contain(middle) { row } else { outside }
                };
                let blocks = tally.hours.iter().enumerate();
                blocks.map(|(block, count)| count.seconds / first(row_at(block))).sum()
            }
            None => tally.ages.iter().zip(rates(row)).map(|(count, rate)| count.seconds * rate).sum(),
        };
        let rate = tally.base();
        // The mean of the square root of the ratios, over the time watched: what makes the looks add up.
        let mean_root = |counts: &[Count]| {
            let roots: f64 = counts.iter().map(|count| (count.seconds * count.changes / rate).sqrt()).sum();
            roots / tally.seconds()
        };
        let roots = mean_root(&tally.ages) * mean_root(&tally.hours) * mean_root(&tally.weekdays);
        let thrift = if kind.state == RowName::OutForDelivery { THRIFT_OUT } else { THRIFT };
        Self { kind, tally, base: thrift * asked / (tally.seconds() * roots) }
    }

    /// Looks a second at such a moment.
    fn rate(&self, moment: Moment) -> f64 {
        self.base * self.tally.ratio(moment).sqrt()
    }
}

/// What is known when a next look is to be found.
#[derive(Clone, Copy, Debug)]
pub struct Suggestion<'a> {
    pub rates: Option<&'a LearnedRates>,
    pub carrier: Option<&'a str>,
    pub service: Option<&'a str>,
}

/// A wait as it was learnt.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub wait: Duration,
    /// The time between two looks at its end.
    pub pace: Duration,
    pub lesson: Lesson,
}

/// What was learnt of a kind, for who asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    pub kind: Kind,
    /// Changes seen.
    pub changes: f64,
    pub quantiles: Quantiles,
}

impl Suggestion<'_> {
    /// Nothing: the table alone decides.
    pub const NOTHING: Self = Self { rates: None, carrier: None, service: None };

    /// Whether the looks of a state are learnt, and may be.
    pub fn knows(&self, cadence: &Cadence, state: RowName) -> bool {
        let best = self.rates.and_then(|rates| rates.best(self.carrier, self.service, state));
        best.is_some() && cadence.rows.get(&state).is_some_and(|row| row.learn)
    }

    /// How long to wait from `now`, where the table says `table`; `None` where nothing was learnt, or is to be.
    pub fn wait(
        &self,
        cadence: &Cadence,
        situation: &Situation,
        now: Timestamp,
        table: Duration,
    ) -> Option<Found> {
        let rates = self.rates?;
        let outside = &cadence.rows[&RowName::Status(StatusCode::InTransit)];
        let looks = |state| {
            let row = cadence.rows.get(&state).filter(|row| row.learn)?;
            let (kind, tally) = rates.best(self.carrier, self.service, state)?;
            Some(Looks::new(kind, tally, row, outside))
        };
        let mut state = super::state(situation, now);
        let here = looks(state)?;
        let mut current = here.clone();
        let (mut sum, mut at) = (0.0, now);
        let rate = loop {
            let middle = at + STEP / 2;
            let then = super::state(situation, middle);
            if then != state {
                state = then;
                current = looks(then).unwrap_or(current);
            }
            let rate = current.rate(Moment::of(situation.quiet_since, middle, situation.utc_offset));
            let piece = rate * STEP.as_secs_f64();
            if sum + piece >= 1.0 {
                at += SignedDuration::from_secs_f64((1.0 - sum) / rate);
                break rate;
            }
            sum += piece;
            at += STEP;
            if at.duration_since(now) >= LONGEST {
                break rate;
            }
        };
        let changes = here.tally.changes();
        let weight = changes / (changes + HALF);
        let blend = |learnt: f64| {
            let table = table.as_secs_f64().max(1.0);
            Duration::from_secs_f64(table * (learnt.max(1.0) / table).powf(weight))
        };
        Some(Found {
            wait: blend(at.duration_since(now).as_secs_f64()),
            pace: blend(1.0 / rate.max(1e-6)),
            lesson: Lesson { kind: here.kind.clone(), changes, quantiles: here.tally.quantiles() },
        })
    }
}

fn first(row: &Row) -> f64 {
    row.intervals.first().map_or(3_600.0, Duration::as_secs_f64)
}

/// Looks a second that a row asks for, by age.
fn rates(row: &Row) -> [f64; AGES.len() + 1] {
    let mut looks = [0.0; AGES.len() + 1];
    let (mut age, mut unchanged) = (0.0, 0);
    let open = 480.0 * 3_600.0;
    while age < open {
        let (interval, _) = row.interval(unchanged, Duration::from_secs_f64(age));
        age += interval.as_secs_f64().max(60.0);
        unchanged += 1;
        let bucket = AGES.iter().position(|hours| age < hours * 3_600.0).unwrap_or(AGES.len());
        looks[bucket] += 1.0;
    }
    let mut from = 0.0;
    for (index, looks) in looks.iter_mut().enumerate() {
        let until = AGES.get(index).map_or(open, |hours| hours * 3_600.0);
        *looks /= until - from;
        from = until;
    }
    looks
}
