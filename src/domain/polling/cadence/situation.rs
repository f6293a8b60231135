//! What the cadence knows of a label, and how an answer changes it.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use super::surroundings::{guess_offset, spread};
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::{StatusCode, Tracking};

/// What the cadence looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// `None`: never answered, or a code we don't know.
    pub status: Option<StatusCode>,
    pub out_for_delivery: bool,
    /// The estimated delivery's calendar day.
    pub estimate: Option<Date>,
    /// Hours east of UTC at the destination, as good a guess as there is.
    pub utc_offset: Offset,
    /// When *we* saw the last change, else when the label was registered; the carrier's times are not to be trusted.
    pub quiet_since: Timestamp,
    /// Unchanged polls in a row.
    pub unchanged: u32,
    /// The moment a terminal status was seen, if one was.
    pub finished_at: Option<Timestamp>,
    /// Only one answer was seen so far: the phase is spread by [`spread`] of the label.
    pub first: Option<f64>,
}

/// What an answer shows of a parcel, as far as the cadence cares.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// `None`: the answer says nothing, or a code we don't know.
    pub status: Option<StatusCode>,
    pub out_for_delivery: bool,
    pub estimate: Option<Date>,
    /// Of the newest event; `None` without one.
    pub utc_offset: Option<Offset>,
}

impl Sight {
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
    /// A label nobody has asked about yet.
    pub fn of_new(label_id: &str, registered_at: Timestamp) -> Self {
        Self {
            status: None,
            out_for_delivery: false,
            estimate: None,
            utc_offset: guess_offset(None, None),
            quiet_since: registered_at,
            unchanged: 0,
            finished_at: None,
            first: Some(spread(label_id)),
        }
    }

    /// Takes in an answer that is news. A status that says nothing leaves the last one.
    pub fn see(&mut self, sight: &Sight, now: Timestamp) {
        self.status = sight.status.or(self.status);
        self.out_for_delivery = sight.out_for_delivery;
        self.estimate = sight.estimate;
        self.utc_offset = sight.utc_offset.unwrap_or(self.utc_offset);
        self.quiet_since = now;
        self.unchanged = 0;
        self.finished_at = self.status.is_some_and(StatusCode::is_terminal).then_some(now);
    }
}
