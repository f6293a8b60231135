//! The reason for the time of a label's next poll: decided with the poll before it, stored, and printed.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The row of the polls after a terminal status.
pub const SETTLE_ROW: &str = "settle";

/// Reason for the due time of a label. A label without one is due as soon as the quota allows: it is new, came back, or
/// was requested by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum PollReason {
    /// A row of the cadence decided.
    Cadence(CadenceReason),
    /// A further poll this long after the label was finished.
    Settle { interval_ms: u64 },
    /// The label failed this many times in a row.
    Failed { failures: u32, interval_ms: u64 },
    /// The API refused the label this many times in a row.
    Refused { refusals: u32, interval_ms: u64 },
    /// The API refused the account at the poll of this label. Other labels are used as probes.
    Unauthorized { interval_ms: u64 },
    /// The carrier limits requests.
    CarrierThrottled { interval_ms: u64 },
    /// This machine could not send the request.
    Shortage { interval_ms: u64 },
}

/// The decision of the cadence with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CadenceReason {
    pub row: Cow<'static, str>,
    /// The wait before jitter.
    pub interval_ms: u64,
    /// The interval of the table.
    pub table_ms: u64,
    /// Unchanged polls in a row, which chose the step of the row.
    pub unchanged: u32,
    /// The quiet time that selected a slower interval (`slow_after`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_ms: Option<u64>,
    /// The row of the cadence that begins to apply at the poll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<Cow<'static, str>>,
    /// The learned rates that replaced the interval of the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
    /// Whether this is the first wait, which is shortened by the label's own phase, so that labels registered together
    /// are polled at different times.
    #[serde(default, skip_serializing_if = "is_false")]
    pub first: bool,
    /// Whether this is the last poll before `give_up_after`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub last: bool,
    /// Whether the poll is brought forward to the time at which an alert (stalled, late) is due or the label finishes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alert: bool,
}

/// Learned rates of a carrier's parcels in a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// A carrier, a carrier and a service after a `/`, or "" for all.
    pub carrier: String,
    pub state: String,
    /// The number of changes seen; old ones count in part.
    pub changes: f64,
    /// Hours within which a quarter, a half and three quarters of the changes came; `None`: never.
    pub quartile_hours: [Option<f64>; 3],
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl PollReason {
    /// Returns the reason of a poll that was brought forward to judge an alert, if `alert`.
    pub fn brought_forward(mut self, alert: bool) -> Self {
        if let Self::Cadence(reason) = &mut self {
            reason.alert = alert;
        }
        self
    }

    /// The row of the cadence, if one decided.
    pub fn row(&self) -> Option<&str> {
        match self {
            Self::Cadence(cadence) => Some(&cadence.row),
            Self::Settle { .. } => Some(SETTLE_ROW),
            _ => None,
        }
    }

    /// The wait before jitter.
    pub fn interval(&self) -> Duration {
        let (Self::Cadence(CadenceReason { interval_ms, .. })
        | Self::Settle { interval_ms }
        | Self::Failed { interval_ms, .. }
        | Self::Refused { interval_ms, .. }
        | Self::Unauthorized { interval_ms }
        | Self::CarrierThrottled { interval_ms }
        | Self::Shortage { interval_ms }) = self;
        Duration::from_millis(*interval_ms)
    }

    /// The stored form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a reason is plain values")
    }

    /// Reads the stored form; `None` if this version does not know it.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_reasons_are_read_back() {
        let learned = Learned {
            carrier: "ups".to_owned(),
            state: "IT".to_owned(),
            changes: 120.0,
            quartile_hours: [Some(5.0), Some(8.5), None],
        };
        let cadence = CadenceReason {
            row: "IT".into(),
            interval_ms: 7_200_000,
            table_ms: 10_800_000,
            unchanged: 2,
            slowed_ms: None,
            opens: None,
            learned: Some(learned),
            first: false,
            last: false,
            alert: true,
        };
        let reasons = [
            PollReason::Cadence(cadence),
            PollReason::Settle { interval_ms: 1 },
            PollReason::Failed { failures: 3, interval_ms: 240_000 },
            PollReason::Refused { refusals: 2, interval_ms: 1 },
            PollReason::Unauthorized { interval_ms: 60_000 },
            PollReason::CarrierThrottled { interval_ms: 5 },
            PollReason::Shortage { interval_ms: 10_000 },
        ];
        for reason in reasons {
            assert_eq!(PollReason::from_json(&reason.to_json()), Some(reason));
        }
        assert_eq!(PollReason::from_json(r#"{"reason":"of_another_version"}"#), None);
    }
}
