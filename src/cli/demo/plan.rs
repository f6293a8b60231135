//! The demo's plan: the parcels, their speed, and the poll interval.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::sandbox::labels;
use super::super::{Failure, args};
use crate::domain::label::LabelId;
use crate::sandbox::{self, Carrier, JourneyKind};

/// Used in turn. Only journeys that end in `DE` or `SP`, so that the end of the demo is defined.
const JOURNEYS: [JourneyKind; 6] = [
    JourneyKind::ExceptionThenDelivered,
    JourneyKind::Delivered,
    JourneyKind::CollectionPoint,
    JourneyKind::Revised,
    JourneyKind::Delivered,
    JourneyKind::Delivered,
];

const MOST_PARCELS: u32 = 2_000;
const SECONDS: std::ops::RangeInclusive<u32> = 5..=3_600;

/// Time after a delivery in which carriers correct events, in the parcels' minutes.
const CORRECTION_MINUTES: u32 = 220;
/// Polls of all labels together in a second.
const POLLS_PER_SECOND: u32 = 60;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);

/// One parcel of the demo.
#[derive(Clone, Debug)]
pub struct DemoParcel {
    pub label: LabelId,
    pub journey: JourneyKind,
    pub carrier: Carrier,
}

#[derive(Clone, Debug)]
pub struct DemoPlan {
    pub parcels: Vec<DemoParcel>,
    pub seed: u64,
    /// Travel time of the slowest parcel.
    pub travel: Duration,
    /// Speed of the parcels as a multiple of the clock.
    pub factor: f64,
    /// Start of the parcels, in their own time: the last one arrives about now.
    pub start: Timestamp,
    /// The wait between two polls of a label.
    pub interval: Duration,
    /// Times of further polls after an arrival.
    pub settle: [Duration; 3],
}

impl DemoPlan {
    pub fn new(args: &args::Demo, now: Timestamp) -> Result<Self, Failure> {
        if !(1..=MOST_PARCELS).contains(&args.parcels) {
            return Err(Failure::usage(format!(
                "--parcels {}: must be from 1 to {MOST_PARCELS}",
                args.parcels
            )));
        }
        if !SECONDS.contains(&args.seconds) {
            let (least, most) = (SECONDS.start(), SECONDS.end());
            return Err(Failure::usage(format!(
                "--seconds {}: must be from {least} to {most}",
                args.seconds
            )));
        }
        let parcels: Vec<DemoParcel> = labels(args.parcels)?
            .into_iter()
            .enumerate()
            .map(|(index, label)| parcel(index, label))
            .collect();
        let seconds = f64::from(args.seconds);
        // The rest is for the start, the polls after the last arrival, and the last callbacks.
        let travel = Duration::from_secs_f64((seconds * 0.6).max(seconds - 4.0));
        let days = slowest(&parcels, args.seed, now);
        let factor = days.as_secs_f64() / travel.as_secs_f64();
        let corrected = Duration::from_secs(u64::from(CORRECTION_MINUTES) * 60).div_f64(factor);
        let first = corrected.max(Duration::from_millis(400));
        Ok(Self {
            seed: args.seed,
            travel,
            factor,
            start: now.saturating_sub(SignedDuration::try_from(days)?)?,
            interval: SHORTEST_INTERVAL.max(Duration::from_secs(1) * args.parcels / POLLS_PER_SECOND),
            settle: [first, first + Duration::from_millis(400), first + Duration::from_millis(800)],
            parcels,
        })
    }
}

fn parcel(index: usize, label: LabelId) -> DemoParcel {
    // Each turn of the journeys begins with another carrier, so that all combinations occur.
    let turn = index / JOURNEYS.len();
    let carrier = Carrier::ALL[(index + turn) % Carrier::ALL.len()];
    DemoParcel { label, journey: JOURNEYS[index % JOURNEYS.len()], carrier }
}

/// Travel time of the slowest parcel, in its own time.
fn slowest(parcels: &[DemoParcel], seed: u64, now: Timestamp) -> Duration {
    let takes = |parcel: &DemoParcel| {
        let DemoParcel { label, journey, carrier } = parcel;
        sandbox::Parcel::on(*journey, *carrier, label, seed, now).ends_after()
    };
    parcels.iter().map(takes).max().unwrap_or_default().max(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(parcels: u32, seconds: u32) -> Result<DemoPlan, String> {
        let args = args::Demo { parcels, seconds, seed: 1, keep: None, json: false };
        DemoPlan::new(&args, "2026-11-22T10:00:00Z".parse().unwrap()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_dozen_shows_every_journey_and_carrier() {
        let plan = plan(12, 20).unwrap();
        for journey in JOURNEYS {
            let of_journey: Vec<&DemoParcel> =
                plan.parcels.iter().filter(|parcel| parcel.journey == journey).collect();
            assert!(of_journey.len() >= 2, "{journey:?}");
        }
        assert!(
            Carrier::ALL.iter().all(|carrier| plan.parcels.iter().any(|parcel| parcel.carrier == *carrier))
        );
        assert_eq!(plan.travel, Duration::from_secs(16));
        assert_eq!(plan.interval, SHORTEST_INTERVAL);
    }

    #[test]
    fn many_parcels_are_polled_less_often() {
        assert_eq!(plan(120, 20).unwrap().interval, Duration::from_secs(2));
        assert_eq!(plan(1, 5).unwrap().travel, Duration::from_secs(3));
    }

    #[test]
    fn polls_after_an_arrival_wait_for_corrections() {
        let slow = plan(12, 3600).unwrap();
        let virtual_wait = slow.settle[0].mul_f64(slow.factor);
        assert!(virtual_wait >= Duration::from_secs(u64::from(CORRECTION_MINUTES) * 60 - 60));
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        assert_eq!(plan(0, 20).unwrap_err(), "error: --parcels 0: must be from 1 to 2000");
        assert_eq!(plan(12, 1).unwrap_err(), "error: --seconds 1: must be from 5 to 3600");
    }
}
