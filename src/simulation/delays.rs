//! Statistics of delays.

use std::time::Duration;

use serde::Serialize;

/// Seconds from a change to the poll that detected it; null if nothing was detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Delays {
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
}

impl Delays {
    /// Quantiles are the nearest measured value.
    pub fn of(mut delays: Vec<Duration>) -> Self {
        delays.sort_unstable();
        let sum: Duration = delays.iter().sum();
        let mean = (!delays.is_empty()).then(|| rounded(sum.as_secs_f64() / delays.len() as f64));
        let quantile = |share: f64| {
            let rank = (share * delays.len() as f64).ceil().max(1.0) as usize;
            delays.get(rank - 1).map(|delay| rounded(delay.as_secs_f64()))
        };
        Self { mean, p50: quantile(0.5), p95: quantile(0.95) }
    }
}

/// Rounds to milliseconds.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_observed_values() {
        let delays = Delays::of((1..=100).rev().map(Duration::from_secs).collect());
        assert_eq!(delays, Delays { mean: Some(50.5), p50: Some(50.0), p95: Some(95.0) });
        let one = Delays::of(vec![Duration::from_millis(1_500)]);
        assert_eq!(one, Delays { mean: Some(1.5), p50: Some(1.5), p95: Some(1.5) });
        assert_eq!(Delays::of(Vec::new()), Delays::default());
    }
}
