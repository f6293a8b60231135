//! The API's answer about a parcel at an instant: the script's lines in its carrier's format.

use std::time::Duration;

use jiff::SignedDuration;

use crate::domain::tracking::StatusCode;

use super::super::carriers::Carrier;
use super::super::journeys::ScriptLine;
use super::super::scan::{Form, Scan};
use super::super::vocabulary::status_description;
use super::super::wire::{TrackingBody, WireEvent};
use super::Parcel;

impl Parcel {
    pub(super) fn body(&self, elapsed: Duration) -> TrackingBody {
        let shown = self.visible_lines(elapsed);
        let Some(newest) = shown.first().copied() else { return self.blank() };
        let carrier = self.carrier;
        let status = newest.scan.status(carrier);
        let detail = newest.scan.detail(carrier);
        let words = newest.scan.words(carrier);
        let taken_over = shown.iter().find(|line| line.scan == Scan::PickedUp);
        let delivered = shown.iter().find(|line| line.scan == Scan::Delivered);
        TrackingBody {
            status_code: status.as_str(),
            status_detail_code: detail.map(|(code, _)| code),
            status_detail_description: detail.map(|(_, text)| text),
            carrier_detail_code: words.carrier_detail_code,
            // UPS reports "Accepted" for a label that is not yet in its system.
            status_description: match (carrier, newest.scan) {
                (Carrier::Ups, Scan::Label) => "Accepted",
                _ => status_description(status),
            },
            carrier_status_code: words.event_code.to_owned(),
            carrier_status_description: self.sentence(newest, words.description),
            ship_date: taken_over.map(|line| carrier.ship_date(self.at(line))),
            estimated_delivery_date: self.estimate(elapsed, taken_over.is_some(), newest.scan),
            actual_delivery_date: delivered.map(|line| carrier.actual_delivery_date(self.at(line))),
            events: shown.into_iter().map(|line| self.event(line)).collect(),
            ..self.blank()
        }
    }

    /// Returns the answer about a label without a scan.
    fn blank(&self) -> TrackingBody {
        let (code, sentence) = match self.carrier {
            Carrier::Usps => (
                "150006",
                "Tracking is not available for this item. This may be because USPS has not yet received the item.",
            ),
            Carrier::Ups => ("003", "Order Processed: Ready for UPS"),
            Carrier::Fedex => ("IN", "Initiated"),
        };
        TrackingBody {
            tracking_number: self.tracking_number.clone(),
            tracking_url: self.carrier.tracking_url(&self.tracking_number),
            status_code: StatusCode::NotYetInSystem.as_str(),
            status_detail_code: None,
            status_detail_description: None,
            carrier_code: self.carrier.code(),
            carrier_id: self.carrier.number(),
            carrier_detail_code: None,
            status_description: status_description(StatusCode::NotYetInSystem),
            carrier_status_code: code.to_owned(),
            carrier_status_description: sentence.to_owned(),
            ship_date: None,
            estimated_delivery_date: None,
            actual_delivery_date: None,
            exception_description: None,
            events: Vec::new(),
        }
    }

    fn event(&self, line: &ScriptLine) -> WireEvent {
        let (carrier, scan, town) = (self.carrier, line.scan, self.town(line));
        let words = scan.words(carrier);
        let status = scan.status(carrier);
        let detail = scan.detail(carrier);
        let (occurred_at, carrier_occurred_at) = carrier.times(self.at(line), scan, town, line.form);
        let shouted = line.form == Form::Shouted;
        let pushed = shouted && carrier == Carrier::Usps;
        let placed = line.form != Form::Bare && scan != Scan::Label;
        let at_hub = matches!(scan, Scan::HubIn | Scan::HubOut | Scan::Transit);
        let text = |text: &str| if shouted { text.to_uppercase() } else { text.to_owned() };
        WireEvent {
            occurred_at,
            carrier_occurred_at,
            description: text(words.description),
            city_locality: match placed {
                // A pushed row names the facility, truncated to 31 characters.
                true if pushed => Some(town.facility().chars().take(31).collect()),
                true => Some(text(town.city)),
                false => carrier.nothing(),
            },
            state_province: match placed {
                true if pushed => None,
                true => Some(town.state.to_owned()),
                false => carrier.nothing(),
            },
            postal_code: match carrier {
                Carrier::Ups => Some(String::new()),
                Carrier::Usps if placed && (pushed || !at_hub) => Some(town.postal_code.to_owned()),
                _ => None,
            },
            country_code: (!pushed).then_some("US"),
            company_name: (carrier == Carrier::Usps && placed && at_hub && !pushed).then(|| town.facility()),
            signer: (carrier == Carrier::Ups && scan == Scan::Label).then_some(""),
            event_code: words.event_code,
            carrier_detail_code: words.carrier_detail_code,
            status_code: status.as_str(),
            status_description: status_description(status),
            carrier_status_code: words.event_code,
            carrier_status_description: text(words.description),
            status_detail_code: detail.map(|(code, _)| code),
            status_detail_description: detail.map(|(_, text)| text),
            proof_of_delivery_url: None,
            latitude: placed.then_some(town.latitude),
            longitude: placed.then_some(town.longitude),
        }
    }

    /// Polled USPS answers have a sentence; the others repeat the newest event.
    fn sentence(&self, line: &ScriptLine, description: &str) -> String {
        let town = self.town(line);
        match self.carrier {
            Carrier::Usps if line.form == Form::Full && line.scan != Scan::Label => format!(
                "{description}: the latest scan of your item was in {}, {} {}.",
                town.city.to_uppercase(),
                town.state,
                town.postal_code
            ),
            _ if line.form == Form::Shouted => description.to_uppercase(),
            _ => description.to_owned(),
        }
    }

    fn estimate(&self, elapsed: Duration, moving: bool, newest: Scan) -> Option<String> {
        let over = matches!(newest, Scan::Delivered | Scan::Collection | Scan::Refused | Scan::Returned);
        if !self.carrier.shows_estimate(moving, over) {
            return None;
        }
        let estimates = self.journey.script().estimates;
        let (_, promised) = estimates.iter().rev().find(|(from, _)| self.passed(*from) <= elapsed)?;
        let at = self.registered_at + SignedDuration::try_from(self.passed(*promised)).ok()?;
        Some(self.carrier.estimate(at, self.route[2], moving))
    }
}
