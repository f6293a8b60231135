//! A parcel on its journey: what the API answers about it, a pure function of its label, a seed and the time passed.
//!
//! Nothing of "now" gets into an answer: while no line of the script comes or goes, the bytes stay the same.

use std::time::Duration;

use axum::body::Bytes;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::domain::label::LabelId;
use crate::domain::tracking::StatusCode;

use super::carriers::Carrier;
use super::journeys::{Form, Journey, Line, Stop};
use super::places::{PLACES, Place};
use super::vocabulary::{Scan, status_description};
use super::wire::{EventBody, TrackingBody};

/// A parcel, its route and its pace.
#[derive(Clone, Debug)]
pub struct Parcel {
    journey: Journey,
    carrier: Carrier,
    registered_at: Timestamp,
    tracking_number: String,
    route: [&'static Place; 3],
    /// How much longer than its script it takes, in per mille.
    pace: u64,
    /// Sets the seconds of its scans.
    salt: u32,
}

impl Parcel {
    /// The parcel of `label`, journey and carrier by a hash of its id.
    pub fn new(label: &LabelId, seed: u64, registered_at: Timestamp) -> Self {
        let mut dice = dice(label, seed);
        let journey = Journey::draw(dice.u64(..));
        let carrier = Carrier::ALL[dice.usize(..Carrier::ALL.len())];
        Self::on(journey, carrier, label, seed, registered_at)
    }

    /// The parcel of `label` on a journey of the caller's choice.
    pub fn on(
        journey: Journey,
        carrier: Carrier,
        label: &LabelId,
        seed: u64,
        registered_at: Timestamp,
    ) -> Self {
        let mut dice = dice(label, !seed);
        let mut indices: Vec<usize> = (0..PLACES.len()).collect();
        dice.shuffle(&mut indices);
        Self {
            journey,
            carrier,
            registered_at: Timestamp::from_second(registered_at.as_second())
                .expect("whole seconds are in range"),
            tracking_number: carrier.draw_tracking_number(&mut dice),
            route: [&PLACES[indices[0]], &PLACES[indices[1]], &PLACES[indices[2]]],
            pace: dice.u64(800..=1250),
            salt: dice.u32(..),
        }
    }

    pub fn journey(&self) -> Journey {
        self.journey
    }

    pub fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// How many events the API shows in the end.
    pub fn scans(&self) -> usize {
        self.journey.script().lines.iter().filter(|line| line.until.is_none()).count()
    }

    /// How long after the registration the last line of its script has come.
    pub fn ends_after(&self) -> Duration {
        let last = self.journey.script().lines.iter().map(|line| line.seen).max();
        last.map_or(Duration::ZERO, |minute| self.passed(minute))
    }

    /// The moment of [`Self::ends_after`], in the parcels' time.
    pub fn ends_at(&self) -> Timestamp {
        // The registration was cut to the second.
        self.registered_at
            + SignedDuration::try_from(self.ends_after()).unwrap_or(SignedDuration::MAX)
            + SignedDuration::from_secs(1)
    }

    /// The status in the end: `DE` or `SP` if it arrives.
    pub fn ends_in(&self) -> StatusCode {
        let last = self.journey.script().lines.iter().max_by_key(|line| line.scanned);
        last.map_or(StatusCode::NotYetInSystem, |line| line.scan.status(self.carrier))
    }

    /// The body of the tracking answer, this long after the registration.
    pub fn answer(&self, elapsed: Duration) -> Bytes {
        serde_json::to_vec(&self.body(elapsed)).expect("a tracking body is plain values").into()
    }

    fn body(&self, elapsed: Duration) -> TrackingBody {
        let shown = self.shown(elapsed);
        let Some(newest) = shown.first().copied() else { return self.blank() };
        let carrier = self.carrier;
        let status = newest.scan.status(carrier);
        let detail = newest.scan.detail(carrier);
        let words = newest.scan.words(carrier);
        let taken_over = shown.iter().find(|line| line.scan == Scan::PickedUp);
        let delivered = shown.iter().find(|line| line.scan == Scan::Delivered);
        TrackingBody {
            tracking_number: self.tracking_number.clone(),
            tracking_url: carrier.tracking_url(&self.tracking_number),
            status_code: status.as_str(),
            status_detail_code: detail.map(|(code, _)| code),
            status_detail_description: detail.map(|(_, text)| text),
            carrier_code: carrier.code(),
            carrier_id: carrier.number(),
            carrier_detail_code: words.carrier_detail_code,
            // UPS says Accepted of a label that is not yet in its system.
            status_description: match (carrier, newest.scan) {
                (Carrier::Ups, Scan::Label) => "Accepted",
                _ => status_description(status),
            },
            carrier_status_code: words.event_code.to_owned(),
            carrier_status_description: self.sentence(newest, words.description),
            ship_date: taken_over.map(|line| carrier.ship_date(self.at(line))),
            estimated_delivery_date: self.estimate(elapsed, taken_over.is_some(), newest.scan),
            actual_delivery_date: delivered.map(|line| carrier.actual_delivery_date(self.at(line))),
            exception_description: None,
            events: shown.into_iter().map(|line| self.event(line)).collect(),
        }
    }

    /// What is said of a label no carrier has seen.
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

    fn event(&self, line: &Line) -> EventBody {
        let (carrier, scan, place) = (self.carrier, line.scan, self.place(line));
        let words = scan.words(carrier);
        let status = scan.status(carrier);
        let detail = scan.detail(carrier);
        let (occurred_at, carrier_occurred_at) = carrier.times(self.at(line), scan, place, line.form);
        let shouted = line.form == Form::Shouted;
        let pushed = shouted && carrier == Carrier::Usps;
        let placed = line.form != Form::Bare && scan != Scan::Label;
        let at_hub = matches!(scan, Scan::HubIn | Scan::HubOut | Scan::Transit);
        let text = |text: &str| if shouted { text.to_uppercase() } else { text.to_owned() };
        EventBody {
            occurred_at,
            carrier_occurred_at,
            description: text(words.description),
            city_locality: match placed {
                // A pushed row names the facility, cut at 31 characters.
                true if pushed => Some(place.facility().chars().take(31).collect()),
                true => Some(text(place.city)),
                false => carrier.nothing(),
            },
            state_province: match placed {
                true if pushed => None,
                true => Some(place.state.to_owned()),
                false => carrier.nothing(),
            },
            postal_code: match carrier {
                Carrier::Ups => Some(String::new()),
                Carrier::Usps if placed && (pushed || !at_hub) => Some(place.postal_code.to_owned()),
                _ => None,
            },
            country_code: (!pushed).then_some("US"),
            company_name: (carrier == Carrier::Usps && placed && at_hub && !pushed).then(|| place.facility()),
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
            latitude: placed.then_some(place.latitude),
            longitude: placed.then_some(place.longitude),
        }
    }

    /// Polled USPS speaks in a sentence; the others repeat the newest event.
    fn sentence(&self, line: &Line, description: &str) -> String {
        let place = self.place(line);
        match self.carrier {
            Carrier::Usps if line.form == Form::Full && line.scan != Scan::Label => format!(
                "{description}: the latest scan of your item was in {}, {} {}.",
                place.city.to_uppercase(),
                place.state,
                place.postal_code
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

    /// The lines of the script that the API shows now, newest scan first.
    fn shown(&self, elapsed: Duration) -> Vec<&'static Line> {
        let mut lines: Vec<&'static Line> = self
            .journey
            .script()
            .lines
            .iter()
            .filter(|line| self.passed(line.seen) <= elapsed)
            .filter(|line| line.until.is_none_or(|until| elapsed < self.passed(until)))
            .collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.scanned));
        lines
    }

    fn place(&self, line: &Line) -> &'static Place {
        match line.stop {
            Stop::Origin => self.route[0],
            Stop::Middle => self.route[1],
            Stop::Destination => self.route[2],
        }
    }

    /// When a scan happened, to the second; an hour early as long as its zone is wrong.
    fn at(&self, line: &Line) -> Timestamp {
        let second = self.salt.wrapping_add(line.scanned.wrapping_mul(37)) % 60;
        let passed = self.passed(line.scanned).as_secs() / 60 * 60 + u64::from(second);
        let wrong = if line.form == Form::WrongZone { 3600 } else { 0 };
        self.registered_at + SignedDuration::from_secs(i64::try_from(passed).expect("a few days") - wrong)
    }

    /// How long after the registration this minute of the script is.
    fn passed(&self, minute: u32) -> Duration {
        Duration::from_millis(u64::from(minute) * 60 * self.pace)
    }
}

/// The same dice for the same label and seed, on every machine.
fn dice(label: &LabelId, seed: u64) -> Rng {
    let digest = Sha256::digest(format!("{seed}:{label}"));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    Rng::with_seed(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
