//! Change rates learned from the answers of this installation: the age and the time of the day at which changes come.
//!
//! Each wait between two good answers adds seconds polled and changes seen, by carrier, service and state, by the time
//! since the last change, and by hour and weekday at the destination. Changes divided by seconds are the rate of
//! changes, which shows when a poll is worth most. Waits without a change count too. Nothing is kept about a single
//! label.

mod counts;
mod suggest;

use std::collections::BTreeMap;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::cadence::{RowName, Situation};
use crate::domain::label::LabelState;
use crate::domain::polling::label_record::{LabelRecord, PollState};

pub use counts::RateCounts;

/// Parcels of a carrier in a state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateGroup {
    /// A carrier, a carrier and a service after a `/`, or "" for all.
    pub carrier: Box<str>,
    pub state: RowName,
}

/// The learned rates by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearnedRates {
    groups: BTreeMap<RateGroup, RateCounts>,
}

/// A wait from one good answer to the next.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    pub carrier: Option<&'a str>,
    pub service: Option<&'a str>,
    /// The situation at the beginning of the wait.
    pub situation: &'a Situation,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Whether the answer at the end had a change.
    pub changed: bool,
}

/// Length of the pieces into which a wait is split. Each belongs to one hour, age and day.
const PIECE: SignedDuration = SignedDuration::from_mins(30);
/// Maximum wait that counts. Of a longer one only the last part counts, because long waits say little about when the
/// change came.
const MAX_WAIT: SignedDuration = SignedDuration::from_hours(48);
/// The half-life of counts.
const HALF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Number of changes with which a group is used before a more general one.
const ENOUGH_CHANGES: f64 = 200.0;
/// The largest number of groups. Beyond it a wait counts for the more general groups only.
const MAX_GROUPS: usize = 1_000;
/// A group with fewer changes is not used.
const MIN_CHANGES: f64 = 40.0;

impl LearnedRates {
    /// Adds a wait.
    pub fn learn(&mut self, wait: Wait<'_>) {
        let from = wait.from.max(wait.until.saturating_sub(MAX_WAIT).unwrap_or(wait.from));
        let length = wait.until.duration_since(from).as_secs_f64();
        if length <= 0.0 {
            return;
        }
        let offset = wait.situation.utc_offset;
        let carriers = names(wait.carrier, wait.service);
        let mut at = from;
        while at < wait.until {
            let next = at.saturating_add(PIECE).unwrap_or(wait.until).min(wait.until);
            let seconds = next.duration_since(at).as_secs_f64();
            // When in the wait the change came is unknown, so each piece gets its share.
            let changes = if wait.changed { seconds / length } else { 0.0 };
            let middle = at + next.duration_since(at) / 2;
            let state = state(wait.situation, middle);
            for carrier in &carriers {
                let group = RateGroup { carrier: carrier.clone(), state };
                if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&group) {
                    continue;
                }
                let rate_counts = self.groups.entry(group).or_default();
                rate_counts.add(Period::of(wait.situation.quiet_since, middle, offset), seconds, changes);
            }
            at = next;
        }
    }

    /// Learns from a good answer at `now` about `label`, which changed it to `after`. Failed polls since the last good
    /// answer do not matter. Returns `false` if there was nothing to learn, as from the first answer.
    pub fn learn_from(&mut self, label: &LabelRecord, after: &PollState, now: Timestamp) -> bool {
        let before = &label.poll_state;
        let active = before.state == LabelState::Active;
        let Some(from) = before.last_answer_at.filter(|_| active) else { return false };
        self.learn(Wait {
            carrier: after.carrier_code.as_deref(),
            service: label.service(),
            situation: &before.situation(&label.key, label.registered_at, false),
            from,
            until: now,
            changed: after.last_changed_at == Some(now),
        });
        true
    }

    /// Reduces older counts after `passed`.
    pub fn fade(&mut self, passed: SignedDuration) {
        let left = 0.5_f64.powf(passed.as_secs_f64().max(0.0) / HALF_LIFE.as_secs_f64());
        for rate_counts in self.groups.values_mut() {
            rate_counts.fade(left);
        }
        self.groups.retain(|_, rate_counts| rate_counts.seconds() > 60.0);
    }

    /// Returns the group that is known best: carrier and service, else the carrier, else all carriers.
    pub fn best(
        &self,
        carrier: Option<&str>,
        service: Option<&str>,
        state: RowName,
    ) -> Option<(&RateGroup, &RateCounts)> {
        let mut fits = names(carrier, service)
            .into_iter()
            .rev()
            .filter_map(|carrier| self.groups.get_key_value(&RateGroup { carrier, state }));
        let best = fits
            .clone()
            .find(|(_, rate_counts)| rate_counts.changes() >= ENOUGH_CHANGES)
            .or_else(|| fits.next_back());
        best.filter(|(_, rate_counts)| rate_counts.changes() >= MIN_CHANGES)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&RateGroup, &RateCounts)> {
        self.groups.iter()
    }
}

impl FromIterator<(RateGroup, RateCounts)> for LearnedRates {
    fn from_iter<T: IntoIterator<Item = (RateGroup, RateCounts)>>(groups: T) -> Self {
        Self { groups: groups.into_iter().collect() }
    }
}

/// Returns the carrier names of the groups of a parcel, the most general first.
fn names(carrier: Option<&str>, service: Option<&str>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = vec!["".into()];
    if let Some(carrier) = carrier {
        names.push(carrier.into());
        names.extend(service.map(|service| format!("{carrier}/{service}").into()));
    }
    names
}

/// Returns the state of a parcel at a time. Out for delivery and the estimated days apply at any hour.
pub fn state(situation: &Situation, at: Timestamp) -> RowName {
    if situation.out_for_delivery {
        return RowName::OutForDelivery;
    }
    let today = situation.utc_offset.to_datetime(at).date();
    match situation.estimate_days() {
        Some(days) if days.contains(&today) => RowName::EstimateDay,
        _ => RowName::Status(situation.row_status()),
    }
}

/// A part of the age, the day and the week, in which rates are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// Index into [`counts::AGES`].
    age: usize,
    /// Index of the part of the day at the destination. A part has two hours.
    hours: usize,
    /// 0 is Monday.
    weekday: usize,
}

impl Period {
    fn of(quiet_since: Timestamp, at: Timestamp, offset: Offset) -> Self {
        let age = at.duration_since(quiet_since).as_secs_f64() / 3_600.0;
        let local = offset.to_datetime(at);
        Self {
            age: counts::AGES.iter().position(|hours| age < *hours).unwrap_or(counts::AGES.len()),
            hours: usize::from(local.hour().unsigned_abs()) / 2,
            weekday: usize::from(local.weekday().to_monday_zero_offset().unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests;
