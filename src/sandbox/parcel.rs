//! A parcel on its journey. Its answers are a pure function of its label, a seed and the time since the registration.
//!
//! The current time is not part of an answer: between two changes of the script the bytes stay the same.

mod body;

use std::time::Duration;

use axum::body::Bytes;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::domain::label::LabelId;
use crate::domain::tracking::StatusCode;

use super::carriers::Carrier;
use super::journeys::{JourneyKind, ScriptLine, Stop};
use super::scan::Form;
use super::towns::{TOWNS, Town};

/// A parcel, its route and its pace.
#[derive(Clone, Debug)]
pub struct Parcel {
    journey: JourneyKind,
    carrier: Carrier,
    registered_at: Timestamp,
    tracking_number: String,
    route: [&'static Town; 3],
    /// How much longer it takes than its script, in per mille.
    pace: u64,
    /// Sets the seconds of its scans.
    salt: u32,
}

impl Parcel {
    /// Returns the parcel of `label`, with journey and carrier from a hash of its id.
    pub fn new(label: &LabelId, seed: u64, registered_at: Timestamp) -> Self {
        let mut rng = rng(label, seed);
        let journey = JourneyKind::draw(rng.u64(..));
        let carrier = Carrier::ALL[rng.usize(..Carrier::ALL.len())];
        Self::on(journey, carrier, label, seed, registered_at)
    }

    /// Returns the parcel of `label` on the given journey.
    pub fn on(
        journey: JourneyKind,
        carrier: Carrier,
        label: &LabelId,
        seed: u64,
        registered_at: Timestamp,
    ) -> Self {
        let mut rng = rng(label, !seed);
        let mut indices: Vec<usize> = (0..TOWNS.len()).collect();
        rng.shuffle(&mut indices);
        Self {
            journey,
            carrier,
            registered_at: Timestamp::from_second(registered_at.as_second())
                .expect("whole seconds are in range"),
            tracking_number: carrier.draw_tracking_number(&mut rng),
            route: [&TOWNS[indices[0]], &TOWNS[indices[1]], &TOWNS[indices[2]]],
            pace: rng.u64(800..=1250),
            salt: rng.u32(..),
        }
    }

    pub fn journey(&self) -> JourneyKind {
        self.journey
    }

    pub fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// Returns the number of events at the end.
    pub fn scans(&self) -> usize {
        self.journey.script().lines.iter().filter(|line| line.until.is_none()).count()
    }

    /// Returns the time from the registration to the last line of its script.
    pub fn ends_after(&self) -> Duration {
        let last = self.journey.script().lines.iter().map(|line| line.seen).max();
        last.map_or(Duration::ZERO, |minute| self.passed(minute))
    }

    /// Returns the instant of [`Self::ends_after`], in the parcels' time.
    pub fn ends_at(&self) -> Timestamp {
        // The registration was truncated to the second.
        self.registered_at
            + SignedDuration::try_from(self.ends_after()).unwrap_or(SignedDuration::MAX)
            + SignedDuration::from_secs(1)
    }

    /// Returns the final status: `DE` or `SP` if it arrives.
    pub fn ends_in(&self) -> StatusCode {
        let last = self.journey.script().lines.iter().max_by_key(|line| line.scanned);
        last.map_or(StatusCode::NotYetInSystem, |line| line.scan.status(self.carrier))
    }

    /// The body of the tracking answer, this long after the registration.
    pub fn answer(&self, elapsed: Duration) -> Bytes {
        serde_json::to_vec(&self.body(elapsed)).expect("a tracking body is plain values").into()
    }

    /// The lines of the script that the API shows now, newest scan first.
    fn visible_lines(&self, elapsed: Duration) -> Vec<&'static ScriptLine> {
        let mut lines: Vec<&'static ScriptLine> = self
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

    fn town(&self, line: &ScriptLine) -> &'static Town {
        match line.stop {
            Stop::Origin => self.route[0],
            Stop::Middle => self.route[1],
            Stop::Destination => self.route[2],
        }
    }

    /// Returns the time of a scan, to the second; an hour early while its zone is wrong.
    fn at(&self, line: &ScriptLine) -> Timestamp {
        let second = self.salt.wrapping_add(line.scanned.wrapping_mul(37)) % 60;
        let passed = self.passed(line.scanned).as_secs() / 60 * 60 + u64::from(second);
        let wrong = if line.form == Form::WrongZone { 3600 } else { 0 };
        self.registered_at + SignedDuration::from_secs(i64::try_from(passed).expect("a few days") - wrong)
    }

    /// Returns the time from the registration to this minute of the script.
    fn passed(&self, minute: u32) -> Duration {
        Duration::from_millis(u64::from(minute) * 60 * self.pace)
    }
}

/// Returns a generator that gives the same numbers for the same label and seed on every machine.
fn rng(label: &LabelId, seed: u64) -> Rng {
    let digest = Sha256::digest(format!("{seed}:{label}"));
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    Rng::with_seed(u64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;
