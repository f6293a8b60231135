//! What is new: the difference between what a label was and what the API says now (contract 5).
//!
//! Order matters to receivers: events oldest first, revisions, retractions, the estimate, the status, then milestones.
//! The summary is made elsewhere, from this list.

use jiff::Timestamp;

use super::cadence::estimate_day;
use super::message::news::{Change, StatusPair, ToldEvent};
use super::snapshot::Standing;
use super::tracking::{StatusCode, Tracking, TrackingEvent};

/// The events of a poll, ready to be told.
#[derive(Clone, Debug, Default)]
pub struct ToldEvents {
    /// New and returned ones, oldest first.
    pub added: Vec<ToldEvent>,
    pub revised: Vec<ToldEvent>,
    pub retracted: Vec<ToldEvent>,
}

/// The changes from `before` to `after`, which was made of `tracking`. `first` tells that no answer was seen before.
pub fn changes(
    before: &Standing,
    after: &Standing,
    tracking: &Tracking,
    events: ToldEvents,
    first: bool,
) -> Vec<Change> {
    if first && says_nothing(after, tracking) {
        return Vec::new();
    }
    let milestones = milestones(before, after, &events);
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
    if !same_pair(&before.pair(), &after.pair()) {
        changes.push(Change::Status { from: before.pair(), to: after.pair() });
    }
    changes.extend(milestones);
    changes
}

/// A first answer without events that only says "not in the system yet" is no news to anybody.
fn says_nothing(after: &Standing, tracking: &Tracking) -> bool {
    tracking.events.is_empty()
        && matches!(after.status(), None | Some(StatusCode::NotYetInSystem | StatusCode::Unknown))
}

fn milestones(before: &Standing, after: &Standing, events: &ToldEvents) -> Vec<Change> {
    let mut found = Vec::new();
    let newest_new = |wanted: fn(&TrackingEvent) -> bool, late_too: bool| {
        events
            .added
            .iter()
            .rev()
            .filter(|event| late_too || !event.behind)
            .find(|event| TrackingEvent::parse(&event.raw).is_ok_and(|event| wanted(&event)))
            .cloned()
    };
    let is_exception: fn(&TrackingEvent) -> bool = |event| event.status() == Some(StatusCode::Exception);
    let is_delivery: fn(&TrackingEvent) -> bool = |event| event.status().is_some_and(StatusCode::is_terminal);

    let reopened = before.is_terminal() && !after.is_terminal();
    if reopened {
        found.push(Change::Reopened { from: before.pair(), to: after.pair() });
    }
    // A backfilled "out for delivery" is no longer true; a backfilled exception still happened.
    let out = newest_new(TrackingEvent::is_out_for_delivery, false);
    if out.is_some() || (after.out_for_delivery && !before.out_for_delivery) {
        found.push(Change::OutForDelivery(out));
    }
    let exception = newest_new(is_exception, true);
    let turned_bad =
        after.status() == Some(StatusCode::Exception) && before.status() != Some(StatusCode::Exception);
    if exception.is_some() || turned_bad {
        found.push(Change::Exception(exception));
    }
    if after.is_terminal() && !before.is_terminal() {
        found.push(Change::Delivered(newest_new(is_delivery, true)));
    }
    found
}

/// Whether two estimates name the same day at the destination; hour and spelling are no news.
///
/// A carrier's wall clock often ends in a false `Z`, so the day is the one that is spelled. The same instant under two
/// offsets is the same all the same.
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
