//! Sentences about the stored reason of a poll's time.

use std::time::Duration;

use super::roughly;
use crate::config::duration;
use crate::domain::polling::cadence::RowName;
use crate::domain::polling::reason::{CadenceReason, Learned, PollReason};

/// Returns the sentences of a reason. Failures and refusals are in the sentence about the label's state.
pub(super) fn in_words(reason: &PollReason) -> Vec<String> {
    vec![match reason {
        PollReason::Cadence(cadenced) => return of_cadence(cadenced),
        PollReason::Failed { failures: 0, .. } => {
            "the last poll failed while the account was not ok, which counts for no label".to_owned()
        }
        PollReason::Failed { .. } | PollReason::Refused { .. } => return Vec::new(),
        PollReason::Settle { .. } => {
            format!("a further poll {} after it was finished", span(reason.interval()))
        }
        PollReason::Unauthorized { .. } => {
            "the API rejected the account when this label was polled: waits for the account's probe"
                .to_owned()
        }
        PollReason::CarrierThrottled { .. } => "the API answered 429 for polls of its carrier".to_owned(),
        PollReason::Shortage { .. } => {
            "this machine lacked a resource for the poll, such as file descriptors".to_owned()
        }
    }]
}

fn of_cadence(cadenced: &CadenceReason) -> Vec<String> {
    let mut reasons = Vec::new();
    let (row, table) = (&cadenced.row, span(Duration::from_millis(cadenced.table_ms)));
    reasons.push(match (cadenced.slowed_ms, cadenced.unchanged) {
        (Some(quiet), _) => {
            let quiet = span(Duration::from_millis(quiet));
            format!("row {row} of the cadence: quiet for over {quiet}, so every {table}")
        }
        (None, 0) => format!("row {row} of the cadence: {table} after a change"),
        (None, 1) => format!("row {row} of the cadence: {table} after one unchanged poll"),
        (None, many) => format!("row {row} of the cadence: {table} after {many} unchanged polls"),
    });
    if let Some(opens) = &cadenced.opens {
        reasons.push(format!("moved earlier, to the hours of row {opens}"));
    }
    if let Some(learned) = &cadenced.learned {
        reasons.push(of_learned(learned, Duration::from_millis(cadenced.interval_ms), &table));
    }
    if cadenced.first {
        reasons.push(
            "the first interval is shortened by a part that depends on the label id, to spread polls in time"
                .to_owned(),
        );
    }
    if cadenced.last {
        reasons.push("the last poll before the label expires".to_owned());
    }
    if cadenced.alert {
        reasons.push(
            "moved earlier, to the time at which an alert (stalled, late) is due or the label finishes"
                .to_owned(),
        );
    }
    reasons
}

pub(super) fn times(count: impl Into<u64>) -> String {
    let count = count.into();
    if count == 1 { "once".to_owned() } else { format!("{count} times in a row") }
}

/// Describes the learned wait, which replaces the interval `table` of the cadence.
fn of_learned(learned: &Learned, wait: Duration, table: &str) -> String {
    let state = RowName::parse(&learned.state).map_or_else(|| learned.state.clone(), state_in_words);
    let of = match learned.carrier.as_str() {
        "" => format!("all parcels in {state}"),
        carrier => format!("parcels of {carrier} in {state}"),
    };
    let shares = ["a quarter", "half", "three quarters"].into_iter().zip(learned.quartile_hours);
    let shares: Vec<String> = shares
        .filter_map(|(share, hours)| {
            Some(format!("{share} within {}", span(Duration::from_secs_f64(hours? * 3_600.0))))
        })
        .collect();
    let shares = match shares.is_empty() {
        true => String::new(),
        false => format!(" ({} of the previous change)", shares.join(", ")),
    };
    format!(
        "learned rates from {:.0} changes of {of}{shares}: next poll after {} instead of {table}",
        learned.changes,
        span(wait)
    )
}

fn state_in_words(state: RowName) -> String {
    match state {
        RowName::OutForDelivery => "delivery".to_owned(),
        RowName::EstimateDay => "the days around the estimate".to_owned(),
        RowName::Status(code) => format!("status {}", code.as_str()),
    }
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        ..120 => duration::format(span),
        _ => roughly(jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_texts() {
        let hours = |hours: u64| hours * 3_600_000;
        let learned = Learned {
            carrier: "ups".to_owned(),
            state: "IT".to_owned(),
            changes: 1_234.0,
            quartile_hours: [Some(5.0), Some(8.5), None],
        };
        let mut cadenced = CadenceReason {
            row: "IT".into(),
            interval_ms: hours(2),
            table_ms: hours(3),
            unchanged: 0,
            slowed_ms: None,
            opens: Some("estimate_day".into()),
            learned: None,
            first: true,
            last: true,
            alert: true,
        };
        assert_eq!(
            in_words(&PollReason::Cadence(cadenced.clone())),
            [
                "row IT of the cadence: 3h after a change",
                "moved earlier, to the hours of row estimate_day",
                "the first interval is shortened by a part that depends on the label id, to spread polls in time",
                "the last poll before the label expires",
                "moved earlier, to the time at which an alert (stalled, late) is due or the label finishes",
            ]
        );
        cadenced = CadenceReason {
            table_ms: hours(12),
            slowed_ms: Some(hours(96)),
            opens: None,
            learned: Some(learned),
            first: false,
            last: false,
            alert: false,
            ..cadenced
        };
        assert_eq!(
            in_words(&PollReason::Cadence(cadenced)),
            [
                "row IT of the cadence: quiet for over 4d, so every 12h",
                "learned rates from 1234 changes of parcels of ups in status IT (a quarter within 5h, half within \
                 8h30m of the previous change): next poll after 2h instead of 12h",
            ]
        );
        assert!(in_words(&PollReason::Failed { failures: 3, interval_ms: 1 }).is_empty());
        assert_eq!(in_words(&PollReason::Failed { failures: 0, interval_ms: 1 }).len(), 1);
    }
}
