//! Alerts without a scan as their cause: no scan for too long, a passed estimate (contract 5.3).
//!
//! They are judged only at a good answer, so that an outage never causes an alert. The next poll is brought forward to
//! the time of the next alert. Each alert is sent once per episode. A new scan, or another estimated day, begins a new
//! episode.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use super::cadence::phase;
use crate::domain::clock::Gaps;
use crate::domain::label::LabelState;
use crate::domain::messages::change::Change;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::matching::LocalTime;
use crate::domain::tracking::{StatusCode, TrackingEvent};

/// Thresholds of the alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertSettings {
    /// Business days without a scan, by status; absent or 0: never stalled.
    pub stalled_after: BTreeMap<StatusCode, u32>,
    /// Days after the estimated one; 0: never late.
    pub late_after: u32,
}

/// Maximum time by which a scan may lie ahead, because zones are guessed and carriers' clocks are wrong.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(14);
/// Maximum age of a scan. Older ones belong to a recycled number or are typing errors.
const MAX_SCAN_AGE: SignedDuration = SignedDuration::from_hours(24 * 400);

/// The time after midnight over which the polls of labels that are late on the same day are spread.
const LATE_SPREAD: SignedDuration = SignedDuration::from_hours(2);

/// Detail codes of a parcel that is only announced, for any status.
const ANNOUNCED_CODES: [&str; 3] =
    ["ELEC_ADVICE_RECD_BY_CARRIER", "SHIPMENT_CREATED", "AWAITING_PICKUP_DROP_OFF"];

impl AlertSettings {
    /// Returns the alerts that are due at `now`. `after`: the state after the answer.
    pub fn due_changes(
        &self,
        after: &PollState,
        label: &LabelRecord,
        gaps: &Gaps,
        now: Timestamp,
    ) -> Vec<Change> {
        let mut found = Vec::new();
        if let Some((at, business_days)) = self.stalled_at(after, label.registered_at)
            && now >= at
        {
            let since = after.newest_scan_at.unwrap_or(label.registered_at);
            found.push(Change::Stalled { since, business_days });
        }
        if let (Some(at), Some(estimate)) =
            (self.late_at(after, label).map(|at| gaps.defer(at)), &after.estimate)
            && now >= at
        {
            found.push(Change::Late { estimate: estimate.clone() });
        }
        found
    }

    /// Returns the next time after `now` at which an alert is due, or the label finishes.
    pub fn next(
        &self,
        after: &PollState,
        label: &LabelRecord,
        gaps: &Gaps,
        now: Timestamp,
    ) -> Option<Timestamp> {
        self.times(after, label, gaps).filter(|at| *at > now).min()
    }

    /// Returns the first time, past or future, at which an alert that was not sent yet is due.
    pub fn due_at(&self, poll_state: &PollState, label: &LabelRecord) -> Option<Timestamp> {
        if poll_state.state != LabelState::Active {
            return None;
        }
        self.times(poll_state, label, &Gaps::default()).min()
    }

    /// Returns the times, past or future, at which an alert that was not sent yet is due, or the label finishes.
    fn times(
        &self,
        poll_state: &PollState,
        label: &LabelRecord,
        gaps: &Gaps,
    ) -> impl Iterator<Item = Timestamp> {
        let stalled = self.stalled_at(poll_state, label.registered_at).map(|(at, _)| at);
        let late = self.late_at(poll_state, label).map(|at| gaps.defer(at));
        [stalled, late, poll_state.finishes_at()].into_iter().flatten()
    }

    fn stalled_at(&self, after: &PollState, registered_at: Timestamp) -> Option<(Timestamp, u32)> {
        if after.stalled_sent || after.is_delivered() {
            return None;
        }
        let announced =
            after.status_detail_code.as_deref().is_some_and(|detail| ANNOUNCED_CODES.contains(&detail));
        let status = match after.status() {
            _ if announced => StatusCode::NotYetInSystem,
            status => status.unwrap_or(StatusCode::Unknown),
        };
        let days = self.stalled_after.get(&status).copied().filter(|days| *days > 0)?;
        let since = after.newest_scan_at.unwrap_or(registered_at);
        let offset = after.utc_offset();
        let local = offset.to_datetime(since);
        let day = business_days_after(local.date(), days)?;
        let at = offset.to_timestamp(day.to_datetime(local.time())).ok()?;
        Some((at, days))
    }

    fn late_at(&self, after: &PollState, label: &LabelRecord) -> Option<Timestamp> {
        if after.late_sent || after.is_delivered() || self.late_after == 0 {
            return None;
        }
        let day = estimate_day(after.estimate.as_deref()?)?;
        let late = day.checked_add(i64::from(self.late_after).days()).ok()?;
        let midnight = after.utc_offset().to_timestamp(late.at(0, 0, 0, 0)).ok()?;
        // Spread, because ten thousand parcels may be late on the same day.
        midnight.checked_add(LATE_SPREAD.mul_f64(phase(label.key.id.as_str()))).ok()
    }
}

/// Returns the day that is `days` business days (Monday to Friday) after `day`.
fn business_days_after(day: Date, days: u32) -> Option<Date> {
    let mut at = day;
    let mut left = days;
    while left > 0 {
        at = at.tomorrow().ok()?;
        if !matches!(at.weekday(), Weekday::Saturday | Weekday::Sunday) {
            left -= 1;
        }
    }
    Some(at)
}

/// Returns the time of the newest scan of an answer: its own time if that is plausible at `now`, else the time at which
/// it was first seen, which is now if the top scan `is_new`.
///
/// The zone of carriers' times is unreliable. `offset`, the guessed offset of the destination, is exact enough for
/// days.
pub fn newest_scan(
    events: &[TrackingEvent],
    is_new: impl Fn(usize) -> bool,
    offset: jiff::tz::Offset,
    now: Timestamp,
) -> Option<Timestamp> {
    let plausible = |event: &TrackingEvent| {
        let at = offset.to_timestamp(LocalTime::of(event)?.civil()).ok()?;
        let is_plausible =
            at <= now.saturating_add(MAX_AHEAD).ok()? && at >= now.saturating_sub(MAX_SCAN_AGE).ok()?;
        is_plausible.then(|| at.min(now))
    };
    match events.first() {
        Some(top) if is_new(0) && plausible(top).is_none() => Some(now),
        _ => events.iter().filter_map(plausible).max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alerts() -> AlertSettings {
        AlertSettings {
            stalled_after: [(StatusCode::NotYetInSystem, 5), (StatusCode::InTransit, 3)].into(),
            late_after: 1,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A label with a short wait after midnight.
    fn label() -> LabelRecord {
        LabelRecord::registered(at("2026-11-01T00:00:00Z"))
    }

    fn poll_state(status: &str, scan: &str) -> PollState {
        let scan = at(scan);
        PollState {
            status_code: Some(status.to_owned()),
            newest_scan_at: Some(scan),
            utc_offset_minutes: Some(-300),
            ..PollState::new(scan)
        }
    }

    #[test]
    fn weekends_are_not_business_days() {
        // Friday afternoon.
        let friday = poll_state("IT", "2026-11-20T20:00:00Z");
        assert_eq!(
            alerts().next(&friday, &label(), &Gaps::default(), at("2026-11-21T00:00:00Z")),
            Some(at("2026-11-25T20:00:00Z"))
        );
        assert!(
            alerts().due_changes(&friday, &label(), &Gaps::default(), at("2026-11-25T19:59:59Z")).is_empty()
        );
        let due = alerts().due_changes(&friday, &label(), &Gaps::default(), at("2026-11-25T20:00:00Z"));
        assert_eq!(due, [Change::Stalled { since: at("2026-11-20T20:00:00Z"), business_days: 3 }]);
    }

    #[test]
    fn an_announced_parcel_has_more_time() {
        let announced = PollState {
            status_detail_code: Some("ELEC_ADVICE_RECD_BY_CARRIER".to_owned()),
            ..poll_state("IT", "2026-11-20T20:00:00Z")
        };
        let next = alerts().next(&announced, &label(), &Gaps::default(), at("2026-11-21T00:00:00Z"));
        assert_eq!(next, Some(at("2026-11-27T20:00:00Z")));
    }

    #[test]
    fn late_begins_a_day_after_the_estimate_in_local_time() {
        let late = PollState {
            estimate: Some("2026-11-23T10:00:00".to_owned()),
            ..poll_state("IT", "2026-11-23T12:00:00Z")
        };
        assert!(
            alerts().due_changes(&late, &label(), &Gaps::default(), at("2026-11-24T04:59:59Z")).is_empty()
        );
        let due = alerts().due_changes(&late, &label(), &Gaps::default(), at("2026-11-24T07:00:00Z"));
        assert_eq!(due.len(), 1);
        let sent = PollState { late_sent: true, ..late };
        assert!(
            alerts().due_changes(&sent, &label(), &Gaps::default(), at("2026-11-24T08:00:00Z")).is_empty()
        );
    }

    #[test]
    fn a_delivered_label_is_neither_stalled_nor_late() {
        let done =
            PollState { estimate: Some("2026-11-01".to_owned()), ..poll_state("DE", "2026-11-01T20:00:00Z") };
        assert!(
            alerts().due_changes(&done, &label(), &Gaps::default(), at("2026-12-25T20:00:00Z")).is_empty()
        );
    }

    #[test]
    fn a_scan_counts_from_its_own_time_if_plausible() {
        let scan = |time: &str| {
            let event =
                |time: &str| TrackingEvent::parse(&format!(r#"{{"carrier_occurred_at":"{time}"}}"#)).unwrap();
            let events = [event(time), event("2026-11-20T08:00:00Z")];
            newest_scan(&events, |index| index == 0, jiff::tz::Offset::UTC, at("2026-11-22T12:00:00Z"))
        };
        assert_eq!(scan("2026-11-22T11:00:00Z"), Some(at("2026-11-22T11:00:00Z")));
        assert_eq!(scan("2026-11-22T19:00:00Z"), Some(at("2026-11-22T12:00:00Z")), "a false zone");
        for (time, what) in
            [("2027-11-22T11:00:00Z", "a year ahead"), ("1970-01-01T00:00:00Z", "long ago"), ("", "none")]
        {
            assert_eq!(scan(time), Some(at("2026-11-22T12:00:00Z")), "{what}: when it was first seen");
        }
    }

    #[test]
    fn an_old_scan_without_a_plausible_time_is_ignored() {
        let events = ["2026-11-20T08:00:00Z", "2027-11-22T11:00:00Z"]
            .map(|time| TrackingEvent::parse(&format!(r#"{{"occurred_at":"{time}"}}"#)).unwrap());
        let scan =
            newest_scan(&events, |index| index == 0, jiff::tz::Offset::UTC, at("2026-11-22T12:00:00Z"));
        assert_eq!(scan, Some(at("2026-11-20T08:00:00Z")));
    }
}
