//! Journeys of parcels as scripts: each scan, its place, its time, and when the API first shows it.
//!
//! A script is a table of lines. A revised scan is two lines with the same time; the second is shown from the end of
//! the first. A duplicated scan is the same line twice. Times are minutes since the registration.

use super::scan::{Form, Scan};
use crate::domain::named_enum::named_enum;

named_enum! {
    /// A kind of journey.
    pub enum JourneyKind {
        /// Picked up, carried, out for delivery, delivered.
        Delivered = "delivered",
        /// Held up (`EX`), attempted (`AT`), then delivered.
        ExceptionThenDelivered = "exception, then delivered",
        /// Out for delivery, refused, returned. Ends in `EX` without a delivery.
        ReturnedToSender = "returned to sender",
        /// Left at a collection point (`SP`).
        CollectionPoint = "collection point",
        /// Delivered, with scans that are rewritten, doubled and inserted later.
        Revised = "revised",
        /// A label that no carrier ever scans.
        NeverScanned = "never scanned",
    }
}

impl JourneyKind {
    /// Chooses a journey by a random number: most are delivered.
    pub(super) fn draw(number: u64) -> Self {
        match number % 20 {
            0..=10 => Self::Delivered,
            11..=13 => Self::ExceptionThenDelivered,
            14 => Self::ReturnedToSender,
            15 | 16 => Self::CollectionPoint,
            17 | 18 => Self::Revised,
            _ => Self::NeverScanned,
        }
    }

    pub(super) fn script(self) -> JourneyScript {
        match self {
            Self::Delivered => DELIVERED,
            Self::ExceptionThenDelivered => EXCEPTION,
            Self::ReturnedToSender => RETURNED,
            Self::CollectionPoint => COLLECTION,
            Self::Revised => REVISED,
            Self::NeverScanned => JourneyScript { lines: &[], estimates: &[] },
        }
    }
}

/// One of the three towns of a parcel's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Origin,
    Middle,
    Destination,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ScriptLine {
    pub(super) scan: Scan,
    pub(super) stop: Stop,
    pub(super) form: Form,
    /// Time of the scan.
    pub(super) scanned: u32,
    /// When the API first shows it.
    pub(super) seen: u32,
    /// End of being shown in this form.
    pub(super) until: Option<u32>,
}

/// Delay of a scan from the carrier to the API, in minutes.
const API_DELAY: u32 = 6;

const fn line(scan: Scan, stop: Stop, scanned: u32) -> ScriptLine {
    ScriptLine { scan, stop, form: Form::Full, scanned, seen: scanned + API_DELAY, until: None }
}

impl ScriptLine {
    /// This form of the scan is shown until `until`.
    const fn first_as(self, form: Form, until: u32) -> Self {
        Self { form, until: Some(until), ..self }
    }

    const fn seen(self, seen: u32) -> Self {
        Self { seen, ..self }
    }
}

pub(super) struct JourneyScript {
    pub(super) lines: &'static [ScriptLine],
    /// Estimates of delivery: when the API starts to show each, and its time. Each is valid until the next.
    pub(super) estimates: &'static [(u32, u32)],
}

use Scan::{
    Attempt, Collection, Delay, Delivered, Depot, HubIn, HubOut, Label, OutForDelivery, PickedUp, Refused,
    Returned, Transit,
};
use Stop::{Destination, Middle, Origin};

const DELIVERED: JourneyScript = JourneyScript {
    lines: &[
        line(Label, Origin, 12),
        line(PickedUp, Origin, 480),
        line(HubIn, Origin, 700),
        line(HubOut, Origin, 900),
        line(HubIn, Middle, 1680),
        line(HubOut, Middle, 1900),
        line(Depot, Destination, 2760),
        line(OutForDelivery, Destination, 2900),
        line(Delivered, Destination, 3240),
    ],
    estimates: &[(18, 3240)],
};

const EXCEPTION: JourneyScript = JourneyScript {
    lines: &[
        line(Label, Origin, 12),
        line(PickedUp, Origin, 480),
        line(HubIn, Origin, 700),
        line(HubOut, Origin, 900),
        line(Delay, Middle, 1700),
        line(HubIn, Middle, 2600),
        line(HubOut, Middle, 2900),
        line(Depot, Destination, 4200),
        line(OutForDelivery, Destination, 4330),
        line(Attempt, Destination, 4700),
        line(OutForDelivery, Destination, 5760),
        line(Delivered, Destination, 6100),
    ],
    estimates: &[(18, 3240), (1706, 4700), (4706, 6100)],
};

const RETURNED: JourneyScript = JourneyScript {
    lines: &[
        line(Label, Origin, 12),
        line(PickedUp, Origin, 480),
        line(HubIn, Origin, 700),
        line(HubOut, Origin, 900),
        line(HubIn, Middle, 1680),
        line(Depot, Destination, 2760),
        line(OutForDelivery, Destination, 2900),
        line(Refused, Destination, 3240),
        line(HubOut, Destination, 3900),
        line(HubIn, Middle, 5300),
        line(Returned, Origin, 7400),
    ],
    estimates: &[(18, 3240)],
};

const COLLECTION: JourneyScript = JourneyScript {
    lines: &[
        line(Label, Origin, 12),
        line(PickedUp, Origin, 480),
        line(HubIn, Origin, 700),
        line(HubOut, Origin, 900),
        line(HubIn, Middle, 1680),
        line(HubOut, Middle, 1900),
        line(Depot, Destination, 2760),
        line(OutForDelivery, Destination, 2900),
        line(Collection, Destination, 3200),
    ],
    estimates: &[(18, 3200)],
};

/// Lines without an end: this is the number of events at the end of the journey.
const REVISED: JourneyScript = JourneyScript {
    lines: &[
        line(Label, Origin, 12),
        line(PickedUp, Origin, 480),
        // Gets its place later; a similar scan follows a minute later.
        line(HubIn, Origin, 700).first_as(Form::Bare, 1000),
        line(HubIn, Origin, 700).seen(1000),
        line(HubIn, Origin, 701),
        // The same event a second time.
        line(HubOut, Origin, 900),
        line(HubOut, Origin, 900).seen(960),
        // Two rows rewritten at once, and a third that is shown late, between them.
        line(HubIn, Middle, 1680).first_as(Form::Shouted, 2300),
        line(HubIn, Middle, 1680).seen(2300),
        line(HubOut, Middle, 1900).first_as(Form::Shouted, 2300),
        line(HubOut, Middle, 1900).seen(2300),
        line(Transit, Middle, 1800).seen(2400),
        // The corrected hour.
        line(Delay, Middle, 2100).first_as(Form::WrongZone, 2850),
        line(Delay, Middle, 2100).seen(2850),
        line(Depot, Destination, 2760),
        line(OutForDelivery, Destination, 2900),
        line(Delivered, Destination, 3240).first_as(Form::Bare, 3400),
        line(Delivered, Destination, 3240).seen(3400),
    ],
    estimates: &[(18, 3240), (2406, 4680), (2906, 3240)],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_shown_until_its_next_form() {
        for journey in JourneyKind::ALL {
            let lines = journey.script().lines;
            for line in lines {
                assert!(line.seen >= line.scanned, "{journey:?} shows {:?} before it happens", line.scan);
                let Some(until) = line.until else { continue };
                let next = lines.iter().find(|next| next.scanned == line.scanned && next.seen == until);
                assert!(next.is_some_and(|next| next.scan == line.scan), "{journey:?} loses {:?}", line.scan);
            }
        }
    }

    #[test]
    fn a_delivered_parcel_was_out_for_delivery() {
        for journey in JourneyKind::ALL {
            let scans: Vec<Scan> = journey.script().lines.iter().map(|line| line.scan).collect();
            if scans.iter().any(|scan| matches!(scan, Delivered | Collection)) {
                assert!(scans.contains(&OutForDelivery), "{journey:?}");
            }
        }
    }

    #[test]
    fn random_choice_takes_every_journey_and_most_arrive() {
        let drawn: Vec<JourneyKind> = (0..20).map(JourneyKind::draw).collect();
        assert!(JourneyKind::ALL.iter().all(|journey| drawn.contains(journey)));
        assert!(drawn.iter().filter(|&&journey| journey == JourneyKind::Delivered).count() > 10);
    }
}
