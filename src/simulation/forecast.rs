//! The forecast: polls and freshness of the configured labels (contract 4.4).
//!
//! A few hundred generated journeys run under the cadence without learned rates. All configured labels count as active,
//! so a list with old labels costs less than forecast. If an account's labels need more than its quota, all waits
//! stretch, and so do the delays.

use std::time::Duration;

use super::delays::Delays;
use super::{RunSettings, generate, run};
use crate::domain::polling::cadence::{Cadence, RowName};

/// Labels of an account, and its requests a day.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub labels: usize,
    pub requests_per_day: f64,
}

/// Forecast of one label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelForecast {
    pub polls_per_day: f64,
    /// The median time to notice a delivery.
    delivered_delay: Duration,
}

/// Forecast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Polls of all accounts together, before waits stretch to fit a quota.
    pub polls_per_day: f64,
    /// Share of its limit that the account with the largest share uses. Above 1, its waits stretch by this factor.
    pub share_of_limit: f64,
    /// The median time to notice a delivery, in the account with the highest stretch.
    pub delivered_delay: Duration,
}

/// Number of generated journeys.
const JOURNEYS: u32 = 300;
/// Maximum number of polls of a forecast. A cadence of seconds needs only the first hours.
const MOST_POLLS: u64 = 50_000;
const DAY: f64 = 86_400.0;

/// Simulates the journeys. Takes some tenths of a second of computing.
pub fn forecast(cadence: &Cadence) -> LabelForecast {
    let settings =
        RunSettings { cadence, requests_per_minute: u32::MAX, seed: 1, learn: false, most_polls: MOST_POLLS };
    let played = run(&generate::journeys(JOURNEYS, 1), settings);
    let polls_per_day = played.polls as f64 * DAY / played.polled.as_secs_f64().max(1.0);
    let delivered_delay = match Delays::of(played.delivered_delays).p50 {
        Some(seconds) => Duration::from_secs_f64(seconds),
        // No delivery was detected yet: half a wait is the estimate.
        None => cadence
            .rows
            .get(&RowName::OutForDelivery)
            .and_then(|row| row.intervals.first())
            .map_or(Duration::ZERO, |wait| *wait / 2),
    };
    LabelForecast { polls_per_day, delivered_delay }
}

impl LabelForecast {
    /// Returns the forecast for these accounts.
    pub fn of(self, loads: &[Load]) -> Forecast {
        let share = |load: &Load| self.polls_per_day * load.labels as f64 / load.requests_per_day.max(1.0);
        let share_of_limit = loads.iter().map(share).fold(0.0, f64::max);
        Forecast {
            polls_per_day: self.polls_per_day * loads.iter().map(|load| load.labels as f64).sum::<f64>(),
            share_of_limit,
            delivered_delay: self.delivered_delay.mul_f64(share_of_limit.max(1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400 * 60);

    fn flat(seconds: u64) -> Cadence {
        Cadence::flat(Duration::from_secs(seconds), GIVE_UP_AFTER)
    }

    #[test]
    fn an_hour_between_two_polls_is_24_polls_a_day() {
        let load = Load { labels: 100, requests_per_day: 160.0 * 1_440.0 };
        let forecast = forecast(&flat(3_600)).of(&[load]);
        assert!((forecast.polls_per_day / 2_400.0 - 1.0).abs() < 0.02, "{forecast:?}");
        assert!((forecast.share_of_limit * 230_400.0 / forecast.polls_per_day - 1.0).abs() < 1e-9);
        let minutes = forecast.delivered_delay.as_secs_f64() / 60.0;
        assert!((25.0..36.0).contains(&minutes), "{forecast:?}");
    }

    #[test]
    fn an_account_over_its_limit_is_late() {
        let loads =
            [Load { labels: 10, requests_per_day: 1_000.0 }, Load { labels: 100, requests_per_day: 1_200.0 }];
        let each = forecast(&flat(3_600));
        let stretched = each.of(&loads);
        assert!((stretched.share_of_limit - 2.0).abs() < 0.05, "{stretched:?}");
        let alone = each.of(&loads[..1]);
        let times = stretched.delivered_delay.as_secs_f64() / alone.delivered_delay.as_secs_f64();
        assert!((times - stretched.share_of_limit).abs() < 1e-6);
    }

    #[test]
    fn the_densest_cadence_and_zero_labels_have_a_forecast() {
        let dense = forecast(&flat(1)).of(&[Load { labels: 1, requests_per_day: 86_400.0 }]);
        assert!((dense.polls_per_day / 86_400.0 - 1.0).abs() < 0.02, "{dense:?}");
        assert!(dense.delivered_delay <= Duration::from_secs(2), "{dense:?}");
        let nothing = forecast(&flat(3_600)).of(&[]);
        assert_eq!((nothing.polls_per_day, nothing.share_of_limit), (0.0, 0.0));
    }
}
