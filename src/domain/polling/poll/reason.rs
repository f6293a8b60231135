//! Why a label's next poll is when it is: decided with the poll before it, stored, and printed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::polling::cadence::{Next, RowName, SETTLE_ROW};

/// The reason for the due time of a label. A label without one is due as soon as the quota allows: it is new, came back,
/// or was asked for by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// A row of the cadence.
    Cadence(Cadenced),
    /// A further poll so long after the label was finished.
    Settle { interval_ms: u64 },
    /// The label failed so often in a row.
    Failed { failures: u32, interval_ms: u64 },
    /// The API refused the label so often in a row.
    Refused { refusals: u32, interval_ms: u64 },
    /// The API refused the account when asked about this label: other labels are its probe.
    Unauthorized { interval_ms: u64 },
    /// The carrier is asked too often.
    CarrierThrottled { interval_ms: u64 },
    /// This machine could not ask.
    OurFault { interval_ms: u64 },
}

/// What the cadence decided, with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cadenced {
    pub row: String,
    /// The wait before jitter.
    pub interval_ms: u64,
    /// What the table says.
    pub table_ms: u64,
    /// Unchanged polls in a row, which chose the step of the row.
    pub unchanged: u32,
    /// Quiet for so long, so the row is slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_ms: Option<u64>,
    /// The row whose hours it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens: Option<String>,
    /// What learned rates say instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Learned>,
    /// The first wait is shortened by the label's own phase.
    #[serde(default, skip_serializing_if = "is_false")]
    pub first: bool,
    /// The last poll before the label is given up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub last: bool,
    /// Brought forward to the moment when silence or a passed estimate is to be judged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alert: bool,
}

/// What was learned of the parcels of a carrier in a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// A carrier, a carrier and a service after a `/`, or "" for all.
    pub carrier: String,
    pub state: String,
    /// Changes seen.
    pub changes: f64,
    /// Within so many hours came a quarter, a half and three quarters of the changes; `None`: never.
    pub quartile_hours: [Option<f64>; 3],
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Reason {
    /// The reason of the cadence's next poll; `alert`: it was brought forward to judge an alert.
    pub fn of(next: &Next, alert: bool) -> Self {
        let interval_ms = millis(next.interval);
        if next.row == SETTLE_ROW {
            return Self::Settle { interval_ms };
        }
        let why = &next.why;
        Self::Cadence(Cadenced {
            row: next.row.to_owned(),
            interval_ms,
            table_ms: millis(why.table),
            unchanged: why.unchanged,
            slowed_ms: why.slowed.map(millis),
            opens: why.opens.map(str::to_owned),
            learned: why.learnt.as_ref().map(|lesson| Learned {
                carrier: lesson.kind.carrier.to_string(),
                state: lesson.kind.state.as_str().to_owned(),
                changes: lesson.changes.round(),
                quartile_hours: lesson.quantiles.0.map(|hours| Some(hours).filter(|hours| hours.is_finite())),
            }),
            first: why.first,
            last: why.last,
            alert,
        })
    }

    /// The row of the cadence, where one decided.
    pub fn row(&self) -> Option<&str> {
        match self {
            Self::Cadence(cadenced) => Some(&cadenced.row),
            Self::Settle { .. } => Some(SETTLE_ROW),
            _ => None,
        }
    }

    /// The wait before jitter.
    pub fn interval(&self) -> Duration {
        let (Self::Cadence(Cadenced { interval_ms, .. })
        | Self::Settle { interval_ms }
        | Self::Failed { interval_ms, .. }
        | Self::Refused { interval_ms, .. }
        | Self::Unauthorized { interval_ms }
        | Self::CarrierThrottled { interval_ms }
        | Self::OurFault { interval_ms }) = self;
        Duration::from_millis(*interval_ms)
    }

    /// As it is stored.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a reason is plain values")
    }

    /// What was stored; `None` for what this version does not know.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Learned {
    pub fn state(&self) -> Option<RowName> {
        RowName::parse(&self.state)
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let learned = Learned {
            carrier: "ups".to_owned(),
            state: "IT".to_owned(),
            changes: 120.0,
            quartile_hours: [Some(5.0), Some(8.5), None],
        };
        let cadenced = Cadenced {
            row: "IT".to_owned(),
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
            Reason::Cadence(cadenced),
            Reason::Settle { interval_ms: 1 },
            Reason::Failed { failures: 3, interval_ms: 240_000 },
            Reason::Refused { refusals: 2, interval_ms: 1 },
            Reason::Unauthorized { interval_ms: 60_000 },
            Reason::CarrierThrottled { interval_ms: 5 },
            Reason::OurFault { interval_ms: 10_000 },
        ];
        for reason in reasons {
            assert_eq!(Reason::from_json(&reason.to_json()), Some(reason));
        }
        assert_eq!(Reason::from_json(r#"{"reason":"of_another_version"}"#), None);
    }
}
