//! Explanations: recorded polls and deliveries in sentences, for the command line and the status page.
//!
//! Nothing is decided here; the reasons were stored with the decisions.

pub mod delivery;
pub mod detail;
pub mod event;
pub mod next;
pub mod outlooks;
pub mod poll;
mod reason;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::config::duration;
use crate::domain::degraded::DegradationKind;

/// The kind of a degraded part, printed before its name.
pub fn kind_in_words(what: DegradationKind) -> &'static str {
    match what {
        DegradationKind::Daemon => "daemon",
        DegradationKind::Shortage => "this machine",
        DegradationKind::Clock => "clock",
        DegradationKind::Account => "account",
        DegradationKind::Subscriber => "subscriber",
        DegradationKind::FirstPolls => "first polls of account",
        DegradationKind::Reload => "reload",
        DegradationKind::LabelFile => "label file left out:",
        DegradationKind::LabelRow => "label rows left out of",
        DegradationKind::Watch => "label files are not watched",
        DegradationKind::Wal => "database",
    }
}

/// Formats a measured duration, rounded: `<1 ms`, `87 ms`, `5 s`, `1.2 s`, `2m`.
pub fn measured(took: Duration) -> String {
    match u64::try_from(took.as_millis()).unwrap_or(u64::MAX) {
        0 => "<1 ms".to_owned(),
        ms @ ..1_000 => format!("{ms} ms"),
        ms @ ..60_000 if ms % 1_000 < 100 => format!("{} s", ms / 1_000),
        ms @ ..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => roughly(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))),
    }
}

/// Formats a span of time, rounded: `59s`, `2h5m`, `1d3h`.
pub fn roughly(span: SignedDuration) -> String {
    let seconds = span.unsigned_abs().as_secs();
    let unit = match seconds {
        ..60 => 1,
        60..3_600 => 60,
        3_600..86_400 => 300,
        _ => 3_600,
    };
    duration::format(Duration::from_secs(seconds - seconds % unit))
}

/// Formats the factor by which all waits of an account are longer than planned; `None`: no request is allowed.
pub fn stretch_text(stretch: Option<f64>) -> String {
    stretch.map_or_else(|| "no requests allowed".to_owned(), |stretch| format!("{stretch:.2}"))
}

/// Formats an instant for people, to the second.
pub fn instant_text(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// The same, or a dash.
pub fn instant_or_dash(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), instant_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_durations_are_rounded() {
        for (ms, shown) in
            [(0, "<1 ms"), (87, "87 ms"), (1_000, "1 s"), (5_002, "5 s"), (1_250, "1.2 s"), (61_500, "1m")]
        {
            assert_eq!(measured(Duration::from_millis(ms)), shown);
        }
    }

    #[test]
    fn spans_are_rounded_for_people() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (119, "1m"), (-7_500, "2h5m"), (7_299, "2h"), (100_000, "1d3h")]
        {
            assert_eq!(roughly(SignedDuration::from_secs(seconds)), shown);
        }
    }
}
