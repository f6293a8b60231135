//! Bars of how soon deliveries are noticed.

use std::time::Duration;

use super::super::output;
use super::report::PolicyReport;

/// Upper bound of each bar in minutes, and its name.
const STEPS: [(u64, &str); 9] = [
    (5, "  5m"),
    (10, " 10m"),
    (15, " 15m"),
    (30, " 30m"),
    (60, "  1h"),
    (120, "  2h"),
    (360, "  6h"),
    (1_440, " 24h"),
    (u64::MAX, "more"),
];
const WIDTH: f64 = 50.0;

pub(super) fn print(reports: &[PolicyReport]) {
    for report in reports.iter().filter(|report| !report.delivered.is_empty()) {
        output::line("");
        output::line(format!("{}: deliveries noticed within", report.policy));
        for line in bars(&report.delivered) {
            output::line(line);
        }
    }
}

/// Returns a line per step with the share noticed within it.
fn bars(delays: &[Duration]) -> Vec<String> {
    let mut above = Duration::ZERO;
    let mut lines = Vec::with_capacity(STEPS.len());
    let mut sum = 0;
    for (minutes, name) in STEPS {
        let below = Duration::from_secs(minutes.saturating_mul(60));
        let within = delays.iter().filter(|delay| **delay >= above && **delay < below).count();
        sum += within;
        above = below;
        let share = within as f64 / delays.len() as f64;
        let bar = "█".repeat((share * WIDTH).round() as usize);
        lines.push(format!("  {name} {:>3.0}% {bar}", 100.0 * sum as f64 / delays.len() as f64));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_add_up() {
        let delays: Vec<Duration> = [60, 120, 599, 3_700].map(Duration::from_secs).to_vec();
        let bars = bars(&delays);
        assert_eq!(bars[0], format!("    5m  50% {}", "█".repeat(25)));
        assert_eq!(bars[1], format!("   10m  75% {}", "█".repeat(13)));
        assert_eq!(bars[2], "   15m  75% ");
        assert!(bars[5].contains("100%") && bars[8].contains("100%"));
    }
}
