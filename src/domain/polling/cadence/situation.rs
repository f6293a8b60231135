//! The input of the cadence about a label, and its change by an answer.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::offset::{guess_offset, phase};
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::{StatusCode, Tracking};

/// The input of the cadence about a label.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// `None`: no answer yet, or an unknown code.
    pub status: Option<StatusCode>,
    pub out_for_delivery: bool,
    /// The estimated delivery's calendar day.
    pub estimate: Option<Date>,
    /// The offset from UTC at the destination, guessed.
    pub utc_offset: Offset,
    /// When trackpost saw the last change, else when the label was registered. Carriers' times are unreliable.
    pub quiet_since: Timestamp,
    /// Unchanged polls in a row.
    pub unchanged: u32,
    /// When a terminal status was seen, if one was.
    pub finished_at: Option<Timestamp>,
    /// The label's phase until its second answer.
    pub phase: Option<f64>,
}

impl Situation {
    /// The status whose row applies: IT for a label that was reopened while its status is still terminal.
    pub fn row_status(&self) -> StatusCode {
        let status = self.status.unwrap_or(StatusCode::Unknown);
        if status.is_terminal() { StatusCode::InTransit } else { status }
    }

    /// The days at the destination on which the row `estimate_day` applies: the estimated day and the next.
    pub fn estimate_days(&self) -> Option<[Date; 2]> {
        let on_the_way = matches!(self.row_status(), StatusCode::InTransit | StatusCode::Accepted);
        self.estimate.filter(|_| on_the_way).map(|day| [day, day.tomorrow().unwrap_or(day)])
    }
}

/// The part of an answer that the cadence needs.
#[derive(Clone, Debug, PartialEq)]
pub struct CadenceFields {
    /// `None`: the answer has no code, or an unknown one.
    pub status: Option<StatusCode>,
    pub out_for_delivery: bool,
    pub estimate: Option<Date>,
    /// From the newest event; `None` without one.
    pub utc_offset: Option<Offset>,
}

impl CadenceFields {
    pub fn of(tracking: &Tracking) -> Self {
        Self {
            status: tracking.status(),
            out_for_delivery: tracking.is_out_for_delivery(),
            estimate: tracking.estimated_delivery_date.as_deref().and_then(estimate_day),
            utc_offset: tracking
                .events
                .first()
                .map(|newest| guess_offset(newest.longitude(), newest.country_code())),
        }
    }
}

impl Situation {
    /// Returns the situation of a label that was never polled.
    pub fn of_new(label_id: &str, registered_at: Timestamp) -> Self {
        Self {
            status: None,
            out_for_delivery: false,
            estimate: None,
            utc_offset: guess_offset(None, None),
            quiet_since: registered_at,
            unchanged: 0,
            finished_at: None,
            phase: Some(phase(label_id)),
        }
    }

    /// Updates the situation after an answer that changed something. An unknown status keeps the last one.
    pub fn update(&mut self, observation: &CadenceFields, now: Timestamp) {
        self.status = observation.status.or(self.status);
        self.out_for_delivery = observation.out_for_delivery;
        self.estimate = observation.estimate;
        self.utc_offset = observation.utc_offset.unwrap_or(self.utc_offset);
        self.quiet_since = now;
        self.unchanged = 0;
        self.finished_at = self.status.is_some_and(StatusCode::is_terminal).then_some(now);
    }
}
