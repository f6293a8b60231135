//! What the configured labels will cost, and how fresh they will be: said before anything runs (contract 4.4).
//!
//! A few hundred generated journeys are played under the cadence, as the daemon would without any history; all
//! configured labels are taken for active ones, so a long list of old ones costs less than this says. When an account's
//! labels ask for more than it may, all waits stretch, and so do the delays.

use std::time::Duration;

use super::delays::Delays;
use super::{Terms, generate, run};
use crate::domain::polling::cadence::{Cadence, RowName};

/// An account's labels, and how many requests a day it may make.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub labels: usize,
    pub requests_per_day: f64,
}

/// What is to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Of all accounts, before anything is stretched to fit a quota.
    pub polls_per_day: f64,
    /// Of one label.
    pub polls_per_label_per_day: f64,
    /// Of the account that uses most of its limit; over 1, its labels are looked at that much less often.
    pub share_of_limit: f64,
    /// The median time from a delivery to our notice of it, in the account that is worst off.
    pub delivered_delay: Duration,
}

/// Journeys that are played …
const JOURNEYS: u32 = 300;
/// … and polls at most: a cadence of seconds is told after the first hours.
const MOST_POLLS: u64 = 50_000;
const DAY: f64 = 86_400.0;

/// The forecast for these accounts.
pub fn forecast(cadence: &Cadence, loads: &[Load]) -> Forecast {
    let terms =
        Terms { cadence, requests_per_minute: u32::MAX, seed: 1, learn: false, most_polls: MOST_POLLS };
    let played = run(&generate::journeys(JOURNEYS, 1), terms);
    let each = played.polls as f64 * DAY / played.watched.as_secs_f64().max(1.0);
    let share = |load: &Load| each * load.labels as f64 / load.requests_per_day.max(1.0);
    let share_of_limit = loads.iter().map(share).fold(0.0, f64::max);
    let delay = match Delays::of(played.delivered_delays).p50 {
        Some(seconds) => Duration::from_secs_f64(seconds),
        // None came so far: it comes in the middle of a wait.
        None => cadence
            .rows
            .get(&RowName::OutForDelivery)
            .and_then(|row| row.intervals.first())
            .map_or(Duration::ZERO, |wait| *wait / 2),
    };
    Forecast {
        polls_per_day: each * loads.iter().map(|load| load.labels as f64).sum::<f64>(),
        polls_per_label_per_day: each,
        share_of_limit,
        delivered_delay: delay.mul_f64(share_of_limit.max(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(86_400 * 60);

    fn flat(seconds: u64) -> Cadence {
        Cadence::flat(Duration::from_secs(seconds), PATIENCE)
    }

    #[test]
    fn an_hour_between_two_looks_is_a_day_of_24() {
        let load = Load { labels: 100, requests_per_day: 160.0 * 1_440.0 };
        let forecast = forecast(&flat(3_600), &[load]);
        assert!((forecast.polls_per_day / 2_400.0 - 1.0).abs() < 0.02, "{forecast:?}");
        assert!((forecast.share_of_limit * 230_400.0 / forecast.polls_per_day - 1.0).abs() < 1e-9);
        let minutes = forecast.delivered_delay.as_secs_f64() / 60.0;
        assert!((25.0..36.0).contains(&minutes), "{forecast:?}");
    }

    #[test]
    fn an_account_over_its_limit_is_late() {
        let loads =
            [Load { labels: 10, requests_per_day: 1_000.0 }, Load { labels: 100, requests_per_day: 1_200.0 }];
        let stretched = forecast(&flat(3_600), &loads);
        assert!((stretched.share_of_limit - 2.0).abs() < 0.05, "{stretched:?}");
        let alone = forecast(&flat(3_600), &loads[..1]);
        let times = stretched.delivered_delay.as_secs_f64() / alone.delivered_delay.as_secs_f64();
        assert!((times - stretched.share_of_limit).abs() < 1e-6);
    }

    #[test]
    fn the_densest_cadence_and_no_label_at_all_have_a_forecast() {
        let dense = forecast(&flat(1), &[Load { labels: 1, requests_per_day: 86_400.0 }]);
        assert!((dense.polls_per_day / 86_400.0 - 1.0).abs() < 0.02, "{dense:?}");
        assert!(dense.delivered_delay <= Duration::from_secs(2), "{dense:?}");
        let nothing = forecast(&flat(3_600), &[]);
        assert_eq!((nothing.polls_per_day, nothing.share_of_limit), (0.0, 0.0));
    }
}
