//! Freshness: the delay until events are noticed, and the lateness of polls.
//!
//! The time at which the API began to show an event is unknown. The last good poll did not have it, so the time between
//! the two polls is the longest delay by trackpost ([`FreshnessKind::SinceLastPoll`]). The time since the event happened
//! ([`FreshnessKind::SinceScan`]) includes the delays of the carrier and of ShipStation. It depends on times that may be
//! hours in the future or lack a zone. Implausible times are only counted ([`FreshnessKind::ImplausibleTime`]).
//!
//! First answers, backfilled or returned events, and labels that were finished or expired are not counted.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::label::LabelState;
use crate::domain::named_enum::named_enum;
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::tracking::TrackingEvent;
use crate::domain::tracking::history::MessageEvent;

named_enum! {
    /// Kind of measurement.
    pub enum FreshnessKind {
        /// Per new event: the time since the last good poll, which did not have it.
        SinceLastPoll = "since_last_poll",
        /// Per new event: the time since it happened, by its own time.
        SinceScan = "since_scan",
        /// Per new event without a plausible time.
        ImplausibleTime = "implausible_time",
        /// Per poll that was later than planned by more than the first of [`BOUNDS`]: the delay.
        LatePoll = "late_poll",
    }
}

/// Upper bounds of all buckets except the last. The database stores bucket numbers, so changing the bounds needs a
/// migration.
pub const BOUNDS: [Duration; 8] = [
    minutes(5),
    minutes(10),
    minutes(15),
    minutes(30),
    minutes(60),
    minutes(120),
    minutes(360),
    minutes(1440),
];

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// An older event comes from a carrier that reports late, or has a wrong date.
const LONGEST_AGO: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Index of a bucket between [`BOUNDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(usize);

impl Bucket {
    pub const COUNT: usize = BOUNDS.len() + 1;

    /// A bound belongs to the bucket that it ends.
    pub fn of(delay: SignedDuration) -> Self {
        let delay = Duration::try_from(delay).unwrap_or_default();
        Self(BOUNDS.iter().position(|bound| delay <= *bound).unwrap_or(BOUNDS.len()))
    }

    pub fn index(self) -> usize {
        self.0
    }
}

/// `within 30m`, `in over 24h`.
impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, bound) = match BOUNDS.get(self.0) {
            Some(bound) => ("within", *bound),
            None => ("in over", BOUNDS[BOUNDS.len() - 1]),
        };
        match bound.as_secs() / 60 {
            minutes if minutes % 60 == 0 => write!(f, "{word} {}h", minutes / 60),
            minutes => write!(f, "{word} {minutes}m"),
        }
    }
}

/// One more measurement in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    pub kind: FreshnessKind,
    /// Whether the event is a delivery: its status is DE or SP.
    pub delivered: bool,
    pub bucket: Bucket,
}

/// Returns the measurements of the events that an answer at `now` adds to a label.
pub fn delays_of_events(
    label: &LabelRecord,
    added: &[MessageEvent],
    answer: &[TrackingEvent],
    now: Timestamp,
) -> Vec<Measurement> {
    let is_active = label.poll_state.state == LabelState::Active;
    let Some(answered_at) = label.poll_state.last_answer_at.filter(|_| is_active) else { return Vec::new() };
    let own = Bucket::of(now.duration_since(answered_at));
    let new = added.iter().filter(|event| !event.late_now && !event.returned);
    let measurements = new.flat_map(|event| {
        let scan = event.index.and_then(|index| answer.get(index));
        let delivered = scan.is_some_and(TrackingEvent::is_delivery);
        let ago = scan.and_then(TrackingEvent::instant).map(|at| now.duration_since(at));
        let (kind, bucket) = match ago.filter(|ago| !ago.is_negative() && *ago <= LONGEST_AGO) {
            Some(ago) => (FreshnessKind::SinceScan, Bucket::of(ago)),
            None => (FreshnessKind::ImplausibleTime, Bucket(0)),
        };
        [
            Measurement { kind: FreshnessKind::SinceLastPoll, delivered, bucket: own },
            Measurement { kind, delivered, bucket },
        ]
    });
    measurements.collect()
}

/// Returns the measurement of a poll sent at `sent_at`, if it was late. `due_at`: its planned time, if it had one.
pub fn lateness(due_at: Option<Timestamp>, sent_at: Timestamp) -> Option<Measurement> {
    let bucket = Bucket::of(sent_at.duration_since(due_at?));
    (bucket.index() > 0).then_some(Measurement { kind: FreshnessKind::LatePoll, delivered: false, bucket })
}

/// Number of measurements in each bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram(pub [u64; Bucket::COUNT]);

impl Histogram {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the bucket at which this share of all measurements is reached; `None` if there are none.
    pub fn quantile(&self, share: f64) -> Option<Bucket> {
        let rank = (share * self.total() as f64).ceil().max(1.0) as u64;
        let mut reached = 0;
        let within = self.0.iter().position(|count| {
            reached += count;
            reached >= rank
        });
        within.map(Bucket)
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, more)| *mine += more);
    }
}

/// Freshness of an account over some time, without the delays of carrier and ShipStation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FreshnessFigures {
    /// Delivery scans (DE or SP).
    pub deliveries: Histogram,
    /// All other events.
    pub others: Histogram,
    /// Late polls.
    pub late_polls: Histogram,
    /// The factor by which all waits stretch now, at least 1.
    pub stretch: f64,
    /// The mean lateness of polls now, as a fraction of their intervals.
    pub lateness: f64,
}

/// Formats one sentence for the log.
impl fmt::Display for FreshnessFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in [("deliveries", &self.deliveries), ("other events", &self.others)] {
            write!(f, "{name}: {}", histogram.total())?;
            if let (Some(half), Some(most)) = (histogram.quantile(0.5), histogram.quantile(0.95)) {
                write!(f, ", half noticed {half}, 95 % {most}")?;
            }
            f.write_str("; ")?;
        }
        let (late_polls, stretch, lateness) = (self.late_polls.total(), self.stretch, self.lateness);
        write!(
            f,
            "polls more than 5m late: {late_polls}; stretch {stretch:.2}; mean lateness {lateness:.2} of the interval"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::polling::label_record::PollState;
    use crate::domain::tracking::matching::{EventId, Fingerprint};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const ANSWERED: &str = "2026-11-22T11:40:00Z";
    const NOW: &str = "2026-11-22T12:00:00Z";

    fn label() -> LabelRecord {
        let registered = LabelRecord::registered(at("2026-11-01T00:00:00Z"));
        let poll_state = PollState {
            first_answer_at: Some(registered.registered_at),
            last_answer_at: Some(at(ANSWERED)),
            next_poll_at: Some(at("2026-11-22T11:59:00Z")),
            wait: Some(minutes(20)),
            ..registered.poll_state
        };
        LabelRecord { poll_state, ..registered }
    }

    fn event(times: &str, status: &str) -> MessageEvent {
        let raw = format!(r#"{{"status_code":"{status}",{times}}}"#);
        MessageEvent {
            event_id: "evt_00000000000000000000000000".parse::<EventId>().unwrap(),
            revision: 1,
            late: false,
            late_now: false,
            returned: false,
            fingerprint: Some(Fingerprint::of(&raw)),
            raw: raw.into(),
            previous: None,
            changed: Vec::new(),
            index: None,
        }
    }

    fn occurred(at: &str) -> String {
        format!(r#""occurred_at":"{at}""#)
    }

    fn counted(label: &LabelRecord, events: &[MessageEvent]) -> Vec<(FreshnessKind, bool, usize)> {
        let answer: Vec<_> = events.iter().map(|event| TrackingEvent::parse(&event.raw).unwrap()).collect();
        let indexed =
            |(index, event): (usize, &MessageEvent)| MessageEvent { index: Some(index), ..event.clone() };
        let events: Vec<_> = events.iter().enumerate().map(indexed).collect();
        let measurements = delays_of_events(label, &events, &answer, at(NOW)).into_iter();
        measurements
            .map(|measurement| (measurement.kind, measurement.delivered, measurement.bucket.index()))
            .collect()
    }

    #[test]
    fn our_delay_is_the_time_between_two_polls() {
        let events = [
            event(&occurred("2026-11-22T11:51:00Z"), "IT"),
            event(&occurred("2026-11-22T05:00:00Z"), "de"),
            event(&occurred("2026-11-22T11:59:00Z"), "SP"),
        ];
        let own = |delivered| (FreshnessKind::SinceLastPoll, delivered, 3);
        assert_eq!(
            counted(&label(), &events),
            [
                own(false),
                (FreshnessKind::SinceScan, false, 1),
                own(true),
                (FreshnessKind::SinceScan, true, 7),
                own(true),
                (FreshnessKind::SinceScan, true, 0)
            ]
        );
    }

    #[test]
    fn an_implausible_time_is_only_counted() {
        for times in [
            occurred("2026-11-22T19:00:00Z"),
            occurred("2026-11-01T19:00:00Z"),
            occurred("2026-11-22T11:50:00"),
            r#""occurred_at":null,"carrier_occurred_at":"2026-11-22T11:50:00Z""#.to_owned(),
        ] {
            let counted = counted(&label(), &[event(&times, "IT")]);
            assert_eq!(
                counted,
                [(FreshnessKind::SinceLastPoll, false, 3), (FreshnessKind::ImplausibleTime, false, 0)],
                "{times}"
            );
        }
        let pulled =
            r#""occurred_at":"2026-11-22T18:50:00Z","carrier_occurred_at":"2026-11-22T03:50:00-08:00""#;
        assert_eq!(
            counted(&label(), &[event(pulled, "IT")])[1],
            (FreshnessKind::SinceScan, false, 1),
            "its own offset"
        );
    }

    #[test]
    fn changes_unrelated_to_our_delay_are_not_counted() {
        let new = event(&occurred("2026-11-22T11:51:00Z"), "IT");
        let backfilled = MessageEvent { late_now: true, late: true, ..new.clone() };
        let returned = MessageEvent { returned: true, ..new.clone() };
        assert_eq!(counted(&label(), &[backfilled, returned]), []);
        let mut first = label();
        first.poll_state.last_answer_at = None;
        let mut finished = label();
        finished.poll_state.state = LabelState::Finished;
        for label in [first, finished] {
            assert_eq!(counted(&label, std::slice::from_ref(&new)), []);
        }
    }

    #[test]
    fn only_a_scheduled_poll_can_be_late() {
        let late_polls = |label: &LabelRecord, sent_at| {
            lateness(label.poll_state.planned_poll_at(), at(sent_at))
                .map(|measurement| measurement.bucket.index())
        };
        assert_eq!(late_polls(&label(), "2026-11-22T12:04:00Z"), None);
        assert_eq!(late_polls(&label(), "2026-11-22T12:04:01Z"), Some(1));
        assert_eq!(late_polls(&label(), "2026-11-24T00:00:00Z"), Some(8));
        let mut by_hand = label();
        by_hand.poll_state.wait = None;
        assert_eq!(late_polls(&by_hand, "2026-11-24T00:00:00Z"), None);
    }

    #[test]
    fn quantiles_are_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.add(&Histogram([0, 0, 0, 94, 0, 0, 5, 0, 1]));
        let quantile = |share| histogram.quantile(share).unwrap().to_string();
        assert_eq!(
            [0.5, 0.94, 0.95, 1.0].map(quantile),
            ["within 30m", "within 30m", "within 6h", "in over 24h"]
        );
    }

    #[test]
    fn the_log_line_is_a_sentence() {
        let figures = FreshnessFigures {
            deliveries: Histogram([0, 0, 0, 9, 0, 1, 0, 0, 0]),
            late_polls: Histogram([0, 2, 0, 0, 1, 0, 0, 0, 0]),
            stretch: 1.25,
            lateness: 0.253,
            ..FreshnessFigures::default()
        };
        assert_eq!(
            figures.to_string(),
            "deliveries: 10, half noticed within 30m, 95 % within 2h; other events: 0; \
             polls more than 5m late: 3; stretch 1.25; mean lateness 0.25 of the interval"
        );
    }
}
