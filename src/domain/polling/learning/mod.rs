//! What one's own history teaches: how long carriers take from one change to the next, and at what time of the day.
//!
//! Every wait that was lived through is counted, by state, by the time since the last change, by the hour and the
//! weekday at the destination: so many seconds watched, so many changes. Their ratio is the rate of changes, which says
//! when a look is worth most. Waits without a change count too, so silence is not taken for speed. Nothing is kept of a
//! single label.

mod looks;
mod tally;

use std::collections::BTreeMap;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::cadence::{RowName, Situation};
use crate::domain::label::LabelState;
use crate::domain::polling::label_record::{LabelRecord, PollState};
use crate::domain::tracking::StatusCode;

pub use looks::{Found, Lesson, Suggestion};
pub use tally::{Quantiles, Tally};

/// Whose parcels, in which state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// A carrier, a carrier and a service after a `/`, or "" for all.
    pub carrier: Box<str>,
    pub state: RowName,
}

/// What was learnt, by kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearnedRates {
    kinds: BTreeMap<Kind, Tally>,
}

/// A wait that was lived through: from one good answer to the next.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    pub carrier: Option<&'a str>,
    pub service: Option<&'a str>,
    /// As it was at the beginning of the wait.
    pub situation: &'a Situation,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Whether the answer at its end was news.
    pub changed: bool,
}

/// A wait is cut into pieces of this length, which belong to one hour, age and day.
const PIECE: SignedDuration = SignedDuration::from_mins(30);
/// Of longer waits only the end counts: whoever looks this rarely learns little.
const LONGEST: SignedDuration = SignedDuration::from_hours(48);
/// What was learnt so long ago counts half.
const HALF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// So many changes make a kind known by itself.
const KNOWN: f64 = 200.0;
/// Kinds that are kept; what comes beyond counts for its carrier only, or for all.
const MOST: usize = 1_000;
/// Fewer changes say nothing.
const LEAST: f64 = 40.0;

impl LearnedRates {
    /// Counts a wait in.
    pub fn learn(&mut self, wait: Wait<'_>) {
        let from = wait.from.max(wait.until.saturating_sub(LONGEST).unwrap_or(wait.from));
        let length = wait.until.duration_since(from).as_secs_f64();
        if length <= 0.0 {
            return;
        }
        let offset = wait.situation.utc_offset;
        let mut at = from;
        while at < wait.until {
            let next = at.saturating_add(PIECE).unwrap_or(wait.until).min(wait.until);
            let seconds = next.duration_since(at).as_secs_f64();
            // Nobody saw when in the wait it changed: each piece has its share.
            let changes = if wait.changed { seconds / length } else { 0.0 };
            let middle = at + next.duration_since(at) / 2;
            let state = state(wait.situation, middle);
            for carrier in names(wait.carrier, wait.service) {
                let kind = Kind { carrier, state };
                if self.kinds.len() >= MOST && !self.kinds.contains_key(&kind) {
                    continue;
                }
                let tally = self.kinds.entry(kind).or_default();
                tally.add(Moment::of(wait.situation.quiet_since, middle, offset), seconds, changes);
            }
            at = next;
        }
    }

    /// Learns from a good answer at `now` about `label`, which left it as `after`; failures since the good one before it
    /// don't matter. `false` if there was nothing to learn, as from the first.
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

    /// Forgets: what is a season old counts half.
    pub fn fade(&mut self, passed: SignedDuration) {
        let left = 0.5_f64.powf(passed.as_secs_f64().max(0.0) / HALF_LIFE.as_secs_f64());
        for tally in self.kinds.values_mut() {
            tally.fade(left);
        }
        self.kinds.retain(|_, tally| tally.seconds() > 60.0);
    }

    /// The best known kind that fits: carrier and service, else the carrier, else all of them.
    pub fn best(
        &self,
        carrier: Option<&str>,
        service: Option<&str>,
        state: RowName,
    ) -> Option<(&Kind, &Tally)> {
        let mut fits = names(carrier, service)
            .into_iter()
            .rev()
            .filter_map(|carrier| self.kinds.get_key_value(&Kind { carrier, state }));
        let best = fits.clone().find(|(_, tally)| tally.changes() >= KNOWN).or_else(|| fits.next_back());
        best.filter(|(_, tally)| tally.changes() >= LEAST)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Kind, &Tally)> {
        self.kinds.iter()
    }
}

impl FromIterator<(Kind, Tally)> for LearnedRates {
    fn from_iter<T: IntoIterator<Item = (Kind, Tally)>>(kinds: T) -> Self {
        Self { kinds: kinds.into_iter().collect() }
    }
}

/// What a kind is looked for under, the most general first.
fn names(carrier: Option<&str>, service: Option<&str>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = vec!["".into()];
    if let Some(carrier) = carrier {
        names.push(carrier.into());
        names.extend(service.map(|service| format!("{carrier}/{service}").into()));
    }
    names
}

/// The state of a parcel at a moment, as rates tell them apart: out for delivery and the estimated days at any hour.
pub fn state(situation: &Situation, at: Timestamp) -> RowName {
    let status = situation.status.unwrap_or(StatusCode::Unknown);
    if situation.out_for_delivery {
        return RowName::OutForDelivery;
    }
    let estimated = matches!(status, StatusCode::InTransit | StatusCode::Accepted)
        && situation.estimate.is_some_and(|day| {
            let today = situation.utc_offset.to_datetime(at).date();
            day == today || day.tomorrow().is_ok_and(|next| next == today)
        });
    if estimated { RowName::EstimateDay } else { RowName::Status(status) }
}

/// Where a moment is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Of [`tally::AGES`].
    age: usize,
    /// Two hours each, of the day at the destination.
    hours: usize,
    /// From Monday.
    weekday: usize,
}

impl Moment {
    fn of(quiet_since: Timestamp, at: Timestamp, offset: Offset) -> Self {
        let age = at.duration_since(quiet_since).as_secs_f64() / 3_600.0;
        let local = offset.to_datetime(at);
        Self {
            age: tally::AGES.iter().position(|hours| age < *hours).unwrap_or(tally::AGES.len()),
            hours: usize::from(local.hour().unsigned_abs()) / 2,
            weekday: usize::from(local.weekday().to_monday_zero_offset().unsigned_abs()),
        }
    }
}

#[cfg(test)]
mod tests;
