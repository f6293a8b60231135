//! The difference between a label and its newest answer (contract 5).
//!
//! The order of the changes is the order of the messages: events oldest first, revisions, retractions, the estimate,
//! the status, milestones. The summary is made from this list elsewhere.

use jiff::Timestamp;

use crate::domain::messages::change::{Change, StatusPair};
use crate::domain::polling::label_record::PollState;
use crate::domain::tracking::estimate::estimate_day;
use crate::domain::tracking::history::{MessageEvent, MessageEvents};
use crate::domain::tracking::matching::{EventId, LocalTime};
use crate::domain::tracking::{DeliveryScans, StatusCode, Tracking, TrackingEvent};

/// A label before and after an answer.
#[derive(Clone, Copy)]
pub struct BeforeAfter<'a> {
    pub before: &'a PollState,
    pub after: &'a PollState,
    pub tracking: &'a Tracking,
    pub deliveries: DeliveryScans,
    /// Whether the answer is the label's first.
    pub first: bool,
}

/// Returns the changes of an answer.
pub fn changes(step: &BeforeAfter<'_>, events: MessageEvents) -> Vec<Change> {
    let BeforeAfter { before, after, .. } = *step;
    if step.first && is_without_content(after, step.tracking) {
        return Vec::new();
    }
    let milestones = step.milestones(&events);
    let status = (!same_pair(&before.status_pair(), &after.status_pair())).then(|| Change::Status {
        from: before.status_pair(),
        to: after.status_pair(),
        event: step.status_event(&events),
    });
    let mut changes: Vec<Change> = events.added.into_iter().map(Change::Added).collect();
    if !events.revised.is_empty() {
        changes.push(Change::Revised(events.revised));
    }
    if !events.retracted.is_empty() {
        changes.push(Change::Retracted(events.retracted));
    }
    if !same_estimate(before.estimate.as_deref(), after.estimate.as_deref()) {
        changes.push(Change::Estimate { from: before.estimate.clone(), to: after.estimate.clone() });
    }
    changes.extend(status);
    changes.extend(milestones);
    changes
}

/// Whether a first answer is not a change: it has no events, and its status is "not in the system yet" or unknown.
fn is_without_content(after: &PollState, tracking: &Tracking) -> bool {
    tracking.events.is_empty()
        && matches!(after.status(), None | Some(StatusCode::NotYetInSystem | StatusCode::Unknown))
}

/// Test whether a scan has a certain milestone.
type IsMilestone = fn(&TrackingEvent) -> bool;

const IS_EXCEPTION: IsMilestone = |event| event.status() == Some(StatusCode::Exception);

impl BeforeAfter<'_> {
    /// Returns the milestones of scans that are new or became milestones, anywhere in the list, and of the status.
    /// A scan makes a milestone once.
    fn milestones(&self, events: &MessageEvents) -> Vec<Change> {
        let BeforeAfter { before, after, deliveries, .. } = *self;
        let (was_delivered, is_delivered) = (before.is_delivered(), after.is_delivered());
        let mut found = Vec::new();
        let current = self.new_delivery_at(events, deliveries.current);
        let again = was_delivered && deliveries.superseded.is_some() && current.is_some();
        if was_delivered && (again || !is_delivered) {
            found.push(self.reopened(events));
        }

        // A backfilled "out for delivery" is outdated, unless only its time is vague. A backfilled exception still
        // happened.
        let out = self.newest(events, TrackingEvent::is_out_for_delivery);
        let out = out.filter(|event| !event.late_now || event.index == Some(0));
        let became_out = after.out_for_delivery && !before.out_for_delivery;
        // Carriers list an out-for-delivery scan also after the delivery, with any time. The parcel is not out again.
        let is_over = was_delivered && is_delivered && !again;
        if !is_over && (out.is_some() || (became_out && !self.is_on_top(TrackingEvent::is_out_for_delivery)))
        {
            found.push(Change::OutForDelivery(out.cloned()));
        }

        let exception = self.newest(events, IS_EXCEPTION);
        let became_exception =
            after.status() == Some(StatusCode::Exception) && before.status() != Some(StatusCode::Exception);
        if exception.is_some() || (became_exception && !self.is_on_top(IS_EXCEPTION)) {
            found.push(Change::Exception(exception.cloned()));
        }

        let left = self.new_delivery_at(events, deliveries.superseded);
        if again || (is_delivered && !was_delivered) {
            let brought = current.or_else(|| self.newest(events, TrackingEvent::is_delivery));
            if brought.is_some() || after.is_terminal() {
                found.push(Change::Delivered(brought.cloned()));
            }
        } else if let Some(left) = left.filter(|_| !is_delivered) {
            // The parcel was delivered and moved again since the last poll.
            found.push(Change::Delivered(Some(left.clone())));
            if !was_delivered {
                found.push(self.reopened(events));
            }
        }
        found
    }

    fn reopened(&self, events: &MessageEvents) -> Change {
        let event = events.added.last().map(|event| event.event_id);
        Change::Reopened { from: self.before.status_pair(), to: self.after.status_pair(), event }
    }

    /// Returns the newest scan that has the milestone now and did not have it before: new scans first, then revised scans.
    fn newest<'e>(&self, events: &'e MessageEvents, is: IsMilestone) -> Option<&'e MessageEvent> {
        let candidates = events.added.iter().rev().chain(events.revised.iter().rev());
        candidates.into_iter().find(|event| self.is_newly(event, is))
    }

    /// Returns the event of the scan at that index if it became a delivery with this answer.
    fn new_delivery_at<'e>(
        &self,
        events: &'e MessageEvents,
        index: Option<usize>,
    ) -> Option<&'e MessageEvent> {
        let mut candidates = events.added.iter().chain(&events.revised).filter(|event| event.index == index);
        candidates.find(|event| index.is_some() && self.is_newly(event, TrackingEvent::is_delivery))
    }

    fn is_newly(&self, event: &MessageEvent, is: IsMilestone) -> bool {
        let now = event.index.and_then(|index| self.tracking.events.get(index));
        let had_milestone = || match &event.previous {
            Some(raw) => TrackingEvent::parse(raw).is_ok_and(|before| is(&before)),
            // An event that returns unchanged made its milestone before.
            None => event.returned,
        };
        now.is_some_and(is) && !had_milestone()
    }

    /// Whether the newest scan, by its time or by its index, has the milestone already.
    fn is_on_top(&self, is: IsMilestone) -> bool {
        let newest = self.newest_where(|_| true).map(|index| &self.tracking.events[index]);
        [self.tracking.events.first(), newest].into_iter().flatten().any(is)
    }

    /// Returns the newest scan by its time; of equal times, the one listed first.
    fn newest_where(&self, wanted: impl Fn(&TrackingEvent) -> bool) -> Option<usize> {
        let wanted = self.tracking.events.iter().enumerate().rev().filter(|(_, event)| wanted(event));
        wanted.max_by_key(|(_, event)| LocalTime::of(event)).map(|(index, _)| index)
    }

    /// Returns the scan of the new status: the newest with the same code, else the newest new one.
    fn status_event(&self, events: &MessageEvents) -> Option<EventId> {
        let status = self.after.status();
        let index = self.newest_where(|event| status.is_some() && event.status() == status);
        let id = |index| events.ids.iter().find(|(at, _)| *at == index).map(|(_, id)| *id);
        index.and_then(id).or_else(|| events.added.last().map(|event| event.event_id))
    }
}

/// Whether two estimates name the same day at the destination. Hour and spelling do not matter.
///
/// Carriers' local times often end in a false `Z`, so the day is compared as spelled. The same instant under two
/// offsets is also the same.
fn same_estimate(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a.is_none() && b.is_none() };
    let instant = |text: &str| text.parse::<Timestamp>().ok();
    let same_instant = instant(a).is_some() && instant(a) == instant(b);
    match (estimate_day(a), estimate_day(b)) {
        (Some(a), Some(b)) => a == b || same_instant,
        _ => a.trim() == b.trim(),
    }
}

fn same_pair(a: &StatusPair, b: &StatusPair) -> bool {
    let folded = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_ascii_uppercase());
    folded(&a.code) == folded(&b.code) && folded(&a.detail) == folded(&b.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_a_day_and_not_a_spelling() {
        for (a, b, same) in [
            ("2026-08-27T10:00:00", "2026-08-27T20:00:00Z", true),
            ("2026-08-27", "8/27/2026", true),
            ("2026-08-27T23:00:00-05:00", "2026-08-28T04:00:00Z", true),
            ("2026-08-27T10:00:00", "2026-08-28T10:00:00", false),
            ("soon", " soon ", true),
            ("soon", "2026-08-28", false),
        ] {
            assert_eq!(same_estimate(Some(a), Some(b)), same, "{a} {b}");
        }
        assert!(same_estimate(None, None));
        assert!(!same_estimate(None, Some("2026-08-28")));
    }
}
