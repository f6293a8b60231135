//! What the configured labels will cost, and how fresh they will be: an estimate, made before anything runs.
//!
//! It assumes that every label is in transit and changes once a day, so that a day is a walk down the `IT` row; that no
//! estimate or delivery attempt makes a row denser; and that a delivery comes while the parcel is known to be out for
//! delivery, within that row's hours, so that it is noticed after half of that row's interval, at the median. Finished
//! labels cost nothing, so a long list of old ones costs less than this says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::cadence::{Cadence, Look, RowName, Situation, guess_offset};
use super::rhythm::Learnt;
use super::tracking::StatusCode;

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
    /// Of the account that uses most of its limit; over 1, its labels are looked at that much less often.
    pub share_of_limit: f64,
    /// The median time from a delivery to our notice of it, in the account that is worst off.
    pub delivered_delay: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);
/// Looks followed one by one; a cadence that is denser goes on as it is then.
const FOLLOWED: u32 = 2_000;

/// The forecast for these accounts.
pub fn forecast(cadence: &Cadence, loads: &[Load]) -> Forecast {
    let each = polls_per_label(cadence);
    let share = |load: &Load| each * load.labels as f64 / load.requests_per_day.max(1.0);
    let share_of_limit = loads.iter().map(share).fold(0.0, f64::max);
    let dense = cadence.rows.get(&RowName::OutForDelivery).and_then(|row| row.intervals.first());
    let dense = dense.copied().unwrap_or_default();
    Forecast {
        polls_per_day: each * loads.iter().map(|load| load.labels as f64).sum::<f64>(),
        share_of_limit,
        delivered_delay: (dense / 2).mul_f64(share_of_limit.max(1.0)),
    }
}

/// Polls a day of a label in transit that changes once a day.
fn polls_per_label(cadence: &Cadence) -> f64 {
    let start = Timestamp::UNIX_EPOCH;
    let mut now = start;
    for unchanged in 0..FOLLOWED {
        let situation = Situation {
            status: Some(StatusCode::InTransit),
            out_for_delivery: false,
            estimate: None,
            utc_offset: guess_offset(None, None),
            quiet_since: start,
            unchanged,
            finished_at: None,
            first: None,
        };
        let Look::Again(next) = cadence.next(&situation, Learnt::NOTHING, now, 1.0, 0.0) else { break };
        let (past, interval) = (now.duration_since(start), next.at.duration_since(now));
        let left = SignedDuration::try_from(DAY).unwrap_or(SignedDuration::MAX) - past;
        if interval >= left {
            return f64::from(unchanged) + left.as_secs_f64() / interval.as_secs_f64().max(0.001);
        }
        now = next.at;
    }
    let past = now.duration_since(start).as_secs_f64();
    if past > 0.0 { f64::from(FOLLOWED) * DAY.as_secs_f64() / past } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::cadence::Row;

    fn cadence(in_transit: &[u64], out_for_delivery: u64) -> Cadence {
        let row = |seconds: &[u64]| Row {
            intervals: seconds.iter().copied().map(Duration::from_secs).collect(),
            slow_after: Vec::new(),
            hours: None,
            learn: false,
        };
        let mut rows: BTreeMap<RowName, Row> =
            RowName::ALL.into_iter().map(|name| (name, row(in_transit))).collect();
        rows.insert(RowName::OutForDelivery, row(&[out_for_delivery]));
        Cadence { rows, give_up_after: DAY * 60, settle: Vec::new() }
    }

    const HOUR: u64 = 3_600;

    #[test]
    fn a_day_is_a_walk_down_the_row() {
        // After 3, 7, 13 and 19 hours, and five sixths of the next step.
        let it = cadence(&[3 * HOUR, 4 * HOUR, 6 * HOUR], 1_200);
        let load = Load { labels: 100, requests_per_day: 160.0 * 1_440.0 };
        let forecast = forecast(&it, &[load]);
        assert!((forecast.polls_per_day - 483.33).abs() < 0.01, "{forecast:?}");
        assert!((forecast.share_of_limit - 483.33 / 230_400.0).abs() < 1e-6);
        assert_eq!(forecast.delivered_delay, Duration::from_secs(600));
    }

    #[test]
    fn an_account_over_its_limit_is_late() {
        let loads =
            [Load { labels: 10, requests_per_day: 1_000.0 }, Load { labels: 100, requests_per_day: 1_200.0 }];
        let forecast = forecast(&cadence(&[HOUR], 1_200), &loads);
        assert!((forecast.polls_per_day - 2_640.0).abs() < 1e-6);
        assert!((forecast.share_of_limit - 2.0).abs() < 1e-9);
        assert_eq!(forecast.delivered_delay, Duration::from_secs(1_200));
    }

    #[test]
    fn the_densest_cadence_and_none_at_all_have_a_forecast() {
        let dense = forecast(&cadence(&[1], 1), &[Load { labels: 1, requests_per_day: 86_400.0 }]);
        assert!((dense.polls_per_day - 86_400.0).abs() < 1.0, "{dense:?}");
        let nothing = forecast(&cadence(&[HOUR], 1_200), &[]);
        assert_eq!((nothing.polls_per_day, nothing.share_of_limit), (0.0, 0.0));
    }
}
