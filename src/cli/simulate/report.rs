//! Result of a policy: as JSON (contract 4.5), and as a table.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::super::{output, table};
use crate::simulation::RunResult;
use crate::simulation::bound::{Bound, DELIVERY};
use crate::simulation::delays::Delays;

#[derive(Debug, Serialize)]
pub(super) struct PolicyReport {
    pub(super) policy: String,
    labels: usize,
    polls: u64,
    pub(super) polls_per_label: f64,
    changes: u64,
    detected: usize,
    delay_seconds: Delays,
    delivered_delay_seconds: Delays,
    max_requests_in_60s: usize,
    /// Polls by the row of the cadence that scheduled them; "first": the first poll of a label.
    polls_by_row: BTreeMap<Cow<'static, str>, u64>,
    bound: Bounds,
    /// Delays of deliveries, for the bars.
    #[serde(skip)]
    pub(super) delivered: Vec<Duration>,
}

/// Lowest possible mean delays with as many polls, and the ratio of the mean delays of the policy to them.
#[derive(Debug, Serialize)]
struct Bounds {
    mean: Option<f64>,
    ratio: Option<f64>,
    delivered_mean: Option<f64>,
    /// The same where a delivery counts as ten other changes.
    weighted_mean: Option<f64>,
    weighted_ratio: Option<f64>,
}

impl PolicyReport {
    pub(super) fn of(policy: String, labels: usize, outcome: RunResult, bound: Bound) -> Self {
        let detected = outcome.delays.len();
        let (mean, weighted_mean) = (bound.all.mean(outcome.polls), bound.weighted.mean(outcome.polls));
        let sum = |delays: &[Duration]| delays.iter().sum::<Duration>().as_secs_f64();
        let extra = DELIVERY - 1.0;
        let weighted = (sum(&outcome.delays) + extra * sum(&outcome.delivered_delays))
            / (detected as f64 + extra * outcome.delivered_delays.len() as f64);
        let delay_seconds = Delays::of(outcome.delays);
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        Self {
            policy,
            labels,
            polls: outcome.polls,
            polls_per_label: round(outcome.polls as f64 / labels.max(1) as f64),
            changes: outcome.changes,
            detected,
            delay_seconds,
            delivered_delay_seconds: Delays::of(outcome.delivered_delays.clone()),
            max_requests_in_60s: outcome.max_requests_in_60s,
            polls_by_row: outcome.rows,
            bound: Bounds {
                mean: mean.map(round),
                ratio: delay_seconds.mean.zip(mean).map(|(ours, least)| round(ours / least)),
                delivered_mean: bound.deliveries.mean(outcome.polls).map(round),
                weighted_mean: weighted_mean.map(round),
                weighted_ratio: weighted_mean
                    .filter(|_| weighted.is_finite())
                    .map(|least| round(weighted / least)),
            },
            delivered: outcome.delivered_delays,
        }
    }
}

pub(super) fn print(reports: &[PolicyReport]) {
    let rows: Vec<[String; 13]> = reports
        .iter()
        .map(|report| {
            let (all, delivered) = (report.delay_seconds, report.delivered_delay_seconds);
            [
                report.policy.clone(),
                format!("{:.1}", report.polls_per_label),
                seconds_text(all.mean),
                seconds_text(all.p50),
                seconds_text(all.p95),
                seconds_text(delivered.mean),
                seconds_text(delivered.p50),
                seconds_text(delivered.p95),
                seconds_text(report.bound.mean),
                ratio_text(report.bound.ratio),
                ratio_text(report.bound.weighted_ratio),
                format!("{}/{}", report.detected, report.changes),
                report.max_requests_in_60s.to_string(),
            ]
        })
        .collect();
    let heading = [
        "POLICY",
        "POLLS/LABEL",
        "MEAN",
        "P50",
        "P95",
        "DELIVERED MEAN",
        "P50",
        "P95",
        "BEST MEAN",
        "MEAN/BEST",
        "WEIGHTED",
        "SEEN",
        "MOST/60S",
    ];
    let least = &["MOST/60S", "SEEN", "WEIGHTED", "MEAN/BEST", "P95"];
    table::print(heading, least, &rows);
    output::line("");
    output::line(
        "Delays are measured from a change to the poll that found it. BEST MEAN: lower bound of MEAN, for as many polls \
         and known rates of change. MEAN/BEST: MEAN divided by BEST MEAN. WEIGHTED: the same ratio if a delivery counts \
         as ten other changes. SEEN: changes that a poll found. MOST/60S: most requests in any 60 s.",
    );
}

fn ratio_text(ratio: Option<f64>) -> String {
    output::or_dash(ratio.map(|ratio| format!("{ratio:.2}")))
}

/// Seconds as minutes or hours.
fn seconds_text(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 5_400.0 => format!("{:.1}m", seconds / 60.0),
        Some(seconds) => format!("{:.1}h", seconds / 3_600.0),
    }
}
