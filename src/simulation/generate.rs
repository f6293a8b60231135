//! Generated journeys. The same seed gives the same journeys.
//!
//! They compare policies and do not predict a real shop. Times are local at the destination, in four zones of the
//! United States. `LogNormal(m, s)` has the median m; s is the standard deviation of its logarithm.
//!
//! | property | distribution |
//! |---|---|
//! | registered | over a year; 85 % on weekdays; 08 to 18 h |
//! | carrier | USPS 45 %, UPS 35 %, FedEx 20 % |
//! | label known to the carrier | 0 to 10 min after the registration |
//! | first scan | LogNormal(18 h, 0.8) later, 3 to 110 h |
//! | hub scans | 3 to 9; between two LogNormal(m, 0.75), m of USPS 10 h, UPS 8 h, FedEx 7 h; at least 15 min |
//! | exceptions | 12 % of parcels, once, at a hub; the next scan LogNormal(16 h, 0.7) later |
//! | no end | 4 %, at a hub |
//! | out for delivery | the next 05:30 to 10:00, no Sunday; in 8 % no scan says so |
//! | delivery | triangular from 08:30 to 20:30, most likely 13:30, at least 30 min after; 3 % to a collection location |
//! | failed attempts | 6 %: attempted then, out again on the next day |
//! | estimate | from the first scan on: right in 75 %, a day early in 15 %, a day late in 6 %, two days early in 4 %; half of the wrong ones are corrected halfway, and dropped at the delivery |
//! | corrections | 10 %, 1 to 160 h after the delivery |

use std::time::Duration;

use fastrand::Rng;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::journey::{SimulatedAnswer, SimulatedJourney};
use crate::domain::polling::cadence::CadenceFields;
use crate::domain::tracking::StatusCode;

/// The first day of the year in which labels are registered.
const NEW_YEAR: Date = Date::constant(2026, 1, 1);

const HOUR: f64 = 3_600.0;

/// Carriers, their share of the parcels in percent, and the median time between two hub scans in hours.
const CARRIERS: [(&str, u32, f64); 3] =
    [("stamps_com", 45, 10.0), ("ups", 35, 8.0), ("fedex_walleted", 20, 7.0)];

/// Generates `count` journeys that begin within a year.
pub fn journeys(count: u32, seed: u64) -> Vec<SimulatedJourney> {
    let mut rng = Rng::with_seed(seed);
    (1..=count).map(|number| GeneratedParcel::new(&mut rng).journey(number)).collect()
}

/// State of a generated parcel.
struct GeneratedParcel<'a> {
    rng: &'a mut Rng,
    offset: Offset,
    carrier: (&'static str, f64),
    now: Timestamp,
    fields: CadenceFields,
    answers: Vec<SimulatedAnswer>,
}

impl<'a> GeneratedParcel<'a> {
    fn new(rng: &'a mut Rng) -> Self {
        let zone = pick(rng, &[(-5, 47), (-6, 29), (-7, 7), (-8, 17)]);
        let (carrier, median) = pick(rng, &CARRIERS.map(|(name, share, hours)| ((name, hours), share)));
        let offset = Offset::constant(zone);
        let day = loop {
            let day = NEW_YEAR.saturating_add(i64::from(rng.u16(0..365)).days());
            let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
            // 15 % of the labels come on Saturday and Sunday.
            if !weekend || rng.f64() < 0.15 / 0.85 * 2.5 {
                break day;
            }
        };
        let at = day.to_datetime(clock(rng.f64() * 10.0 + 8.0));
        let now = instant(offset, at);
        let fields = CadenceFields {
            status: Some(StatusCode::NotYetInSystem),
            out_for_delivery: false,
            estimate: None,
            utc_offset: Some(offset),
        };
        Self { rng, offset, carrier: (carrier, median), now, fields, answers: Vec::new() }
    }

    fn journey(mut self, number: u32) -> SimulatedJourney {
        let registered_at = self.now;
        let known_after = self.rng.f64() / 6.0;
        self.wait(known_after);
        self.show(if self.carrier.0 == "stamps_com" {
            StatusCode::Accepted
        } else {
            StatusCode::NotYetInSystem
        });
        let first_scan = self.log_normal(18.0, 0.8).clamp(3.0, 110.0);
        self.wait(first_scan);
        let accepted = self.answers.len();
        self.show(StatusCode::InTransit);
        let hubs = self.rng.u32(3..=9);
        let exception = self.chance(12).then(|| self.rng.u32(0..hubs));
        let lost = self.chance(4).then(|| self.rng.u32(0..hubs));
        for hub in 0..hubs {
            let gap = self.log_normal(self.carrier.1, 0.75).max(0.25);
            self.wait(gap);
            self.show(StatusCode::InTransit);
            if exception == Some(hub) {
                let after = self.log_normal(2.0, 0.8);
                self.wait(after);
                self.show(StatusCode::Exception);
                let held = self.log_normal(16.0, 0.7);
                self.wait(held);
                self.show(StatusCode::InTransit);
            }
            if lost == Some(hub) {
                return self.end(number, registered_at, accepted, None);
            }
        }
        self.last_mile();
        let delivered_on = self.local().date();
        if self.chance(10) {
            let later = 1.0 + self.rng.f64() * 159.0;
            self.wait(later);
            let status = self.fields.status.unwrap_or(StatusCode::Delivered);
            self.show(status);
        }
        self.end(number, registered_at, accepted, Some(delivered_on))
    }

    /// Adds the days from out for delivery to the delivery.
    fn last_mile(&mut self) {
        let mut failed = self.chance(6);
        loop {
            let morning = 5.5 + self.rng.f64() * 4.5;
            self.now = self.next_working(morning);
            self.fields.out_for_delivery = true;
            if !self.chance(8) {
                self.show(StatusCode::InTransit);
            }
            let handed = triangular(self.rng.f64(), 8.5, 13.5, 20.5);
            let at = instant(self.offset, self.local().date().to_datetime(clock(handed)));
            self.now = at.max(self.now + SignedDuration::from_mins(30));
            self.fields.out_for_delivery = false;
            if !failed {
                break;
            }
            failed = false;
            self.show(StatusCode::DeliveryAttempt);
        }
        let end = if self.chance(3) { StatusCode::ServicePoint } else { StatusCode::Delivered };
        self.show(end);
    }

    /// Adds the estimates, which depend on the delivery.
    fn end(
        mut self,
        number: u32,
        registered_at: Timestamp,
        accepted: usize,
        ends_on: Option<Date>,
    ) -> SimulatedJourney {
        let ends_on = ends_on.unwrap_or_else(|| self.local().date().saturating_add(2.days()));
        let off = pick(self.rng, &[(0, 75), (-1, 15), (1, 6), (-2, 4)]);
        let put_right = self.chance(50);
        let halfway = accepted + (self.answers.len() - accepted) / 2;
        for (index, answer) in self.answers.iter_mut().enumerate().skip(accepted) {
            let wrong_by = if put_right && index >= halfway { 0 } else { off };
            let estimate = ends_on.saturating_add(i64::from(wrong_by).days());
            answer.fields.estimate = (!answer.is_terminal()).then_some(estimate);
        }
        SimulatedJourney {
            label_id: format!("se-{number}"),
            registered_at,
            carrier: Some(self.carrier.0.into()),
            answers: self.answers,
        }
    }

    fn show(&mut self, status: StatusCode) {
        self.fields.status = Some(status);
        self.answers.push(SimulatedAnswer { at: self.now, fields: self.fields.clone(), is_change: true });
    }

    fn wait(&mut self, hours: f64) {
        self.now += Duration::from_secs_f64(hours * HOUR);
    }

    fn local(&self) -> DateTime {
        self.offset.to_datetime(self.now)
    }

    /// Returns the next time at this hour on a day other than Sunday.
    fn next_working(&self, hour: f64) -> Timestamp {
        let mut day = self.local().date();
        loop {
            let at = instant(self.offset, day.to_datetime(clock(hour)));
            if at > self.now && day.weekday() != Weekday::Sunday {
                return at;
            }
            day = day.saturating_add(1.days());
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        // Box-Muller transform.
        let (radius, angle) = (1.0 - self.rng.f64(), self.rng.f64());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        median * (sigma * normal).exp()
    }
}

fn pick<T: Copy>(rng: &mut Rng, shares: &[(T, u32)]) -> T {
    let mut left = rng.u32(0..shares.iter().map(|(_, share)| share).sum());
    for (what, share) in shares {
        if left < *share {
            return *what;
        }
        left -= share;
    }
    shares[shares.len() - 1].0
}

/// Inverts the triangular distribution from `least` to `most`, most likely `mode`, at `share` of it.
fn triangular(share: f64, least: f64, mode: f64, most: f64) -> f64 {
    let span = most - least;
    if share < (mode - least) / span {
        least + (share * span * (mode - least)).sqrt()
    } else {
        most - ((1.0 - share) * span * (most - mode)).sqrt()
    }
}

/// Returns the time of day in hours.
fn clock(hours: f64) -> Time {
    let seconds = (hours * HOUR) as i64;
    Time::midnight().saturating_add(seconds.seconds())
}

fn instant(offset: Offset, local: DateTime) -> Timestamp {
    offset.to_timestamp(local).unwrap_or(Timestamp::MAX)
}
