//! Formats of the three carriers: their names, null or "", and times.
//!
//! Errors of the real answers are kept: `Z` on a local time (UPS), 7 h added twice (USPS), a delivery date hours before
//! its own scan (FedEx).

use fastrand::Rng;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::scan::{Form, Scan};
use super::towns::Town;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carrier {
    Ups,
    Fedex,
    Usps,
}

/// UTC offset of USPS times, regardless of the place.
const USPS_OFFSET: i8 = -7;

impl Carrier {
    pub const ALL: [Self; 3] = [Self::Ups, Self::Fedex, Self::Usps];

    /// The `carrier_code` of a tracking answer.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Ups => "ups",
            Self::Fedex => "fedex_walleted",
            Self::Usps => "stamps_com",
        }
    }

    /// The `carrier_id` of a tracking answer: a number, not the `se-…` id of a label's carrier.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Ups => 3,
            Self::Fedex => 194,
            Self::Usps => 1,
        }
    }

    pub(super) fn draw_tracking_number(self, rng: &mut Rng) -> String {
        let mut digits = |count: usize| -> String { (0..count).map(|_| rng.digit(10)).collect() };
        match self {
            Self::Ups => format!("1ZTP{}03{}", digits(4), digits(8)),
            Self::Fedex => format!("39{}", digits(10)),
            Self::Usps => format!("94001{}", digits(17)),
        }
    }

    pub(super) fn tracking_url(self, number: &str) -> String {
        match self {
            Self::Ups => format!(
                "http://wwwapps.ups.com/WebTracking/processRequest?HTMLVersion=5.0&Requester=NES&AgreeToTermsAndConditions=yes&loc=en_US&tracknum={number}"
            ),
            Self::Fedex => {
                format!("https://www.fedex.com/fedextrack/?action=track&trackingnumber={number}")
            }
            Self::Usps => format!("https://tools.usps.com/go/TrackConfirmAction.action?tLabels={number}"),
        }
    }

    /// An unknown text: null for most, "" for UPS.
    pub(super) fn nothing(self) -> Option<String> {
        (self == Self::Ups).then(String::new)
    }

    /// `occurred_at` and `carrier_occurred_at` of a scan that happened at `at`.
    pub(super) fn times(self, at: Timestamp, scan: Scan, town: &Town, form: Form) -> (String, String) {
        let local = naive(at, town.utc_offset);
        match self {
            Self::Ups if scan == Scan::Label => (at.to_string(), local),
            Self::Ups => (at.to_string(), format!("{local}Z")),
            Self::Fedex => (at.to_string(), at.to_string()),
            Self::Usps if form == Form::Shouted => (at.to_string(), format!("{local}Z")),
            Self::Usps => {
                let shifted = at + SignedDuration::from_hours(7);
                (shifted.to_string(), format!("{}-07:00", naive(at, USPS_OFFSET)))
            }
        }
    }

    /// `ship_date`, for a parcel taken over at `at`.
    pub(super) fn ship_date(self, at: Timestamp) -> String {
        match self {
            Self::Fedex => naive(at, 0),
            _ => at.to_string(),
        }
    }

    /// `estimated_delivery_date` for the day of `at` at the destination.
    pub(super) fn estimate(self, at: Timestamp, town: &Town, moving: bool) -> String {
        let day = Offset::constant(town.utc_offset).to_datetime(at).date();
        match self {
            Self::Ups if !moving => format!("{day}T00:00:00"),
            Self::Ups => format!("{day}T23:00:00Z"),
            Self::Fedex => format!("{day}T20:00:00"),
            Self::Usps => format!("{day}T21:00:00Z"),
        }
    }

    /// UPS gives an estimate from the label on, and never withdraws it.
    pub(super) fn shows_estimate(self, moving: bool, arrived: bool) -> bool {
        self == Self::Ups || (moving && !arrived)
    }

    pub(super) fn actual_delivery_date(self, at: Timestamp) -> String {
        match self {
            Self::Fedex => naive(at - SignedDuration::from_hours(14), 0),
            _ => at.to_string(),
        }
    }
}

/// A local time without its zone.
fn naive(at: Timestamp, utc_offset: i8) -> String {
    Offset::constant(utc_offset).to_datetime(at).to_string()
}
