//! When to look again: a table, and a pure function over it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Time;

use super::tracking::StatusCode;

/// The rows of the table (contract 4.1). `DE` and `SP` have none: they end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowName {
    Status(StatusCode),
    /// Shows only in details; see [`super::tracking::Tracking::is_out_for_delivery`].
    OutForDelivery,
    /// The estimated delivery day and the day after, not yet out for delivery.
    EstimateDay,
}

impl RowName {
    pub const ALL: [Self; 8] = [
        Self::Status(StatusCode::Unknown),
        Self::Status(StatusCode::NotYetInSystem),
        Self::Status(StatusCode::Accepted),
        Self::Status(StatusCode::InTransit),
        Self::Status(StatusCode::DeliveryAttempt),
        Self::Status(StatusCode::Exception),
        Self::OutForDelivery,
        Self::EstimateDay,
    ];

    /// The `X` of `[cadence.X]`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status(code) => code.as_str(),
            Self::OutForDelivery => "out_for_delivery",
            Self::EstimateDay => "estimate_day",
        }
    }
}

/// One row: how long to wait while nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The wait after the change, after the first unchanged poll, … The last one repeats. Never empty.
    pub intervals: Vec<Duration>,
    /// (quiet for, interval): once quiet that long, this interval. Ascending.
    pub slow_after: Vec<(Duration, Duration)>,
    /// At the destination; outside of it the row does not apply.
    pub hours: Option<Hours>,
}

/// A span of the day, from `start` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    pub start: Time,
    /// Midnight at the end of the day is `00:00`.
    pub end: Time,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cadence {
    pub rows: BTreeMap<RowName, Row>,
    /// Without any change for so long: expired.
    pub give_up_after: Duration,
    /// Further looks so long after `DE` or `SP`. Ascending.
    pub settle: Vec<Duration>,
}
