//! Record of a label between two polls.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::cadence::{self, Situation};
use super::reason::PollReason;
use crate::domain::digest::Digest;
use crate::domain::label::{LabelKey, LabelState, Metadata};
use crate::domain::messages::body::LabelFields;
use crate::domain::messages::change::StatusPair;
use crate::domain::time;
use crate::domain::tracking::StatusCode;

/// A label that was delivered under a newer scan finishes after this time without a change.
const FINISHES_AFTER: SignedDuration = SignedDuration::from_hours(72);

/// The part of a label that a poll can change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PollState {
    pub state: LabelState,
    pub first_answer_at: Option<Timestamp>,
    /// Time of the last good answer since the registration.
    pub last_answer_at: Option<Timestamp>,
    pub last_changed_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub next_poll_at: Option<Timestamp>,
    /// Reason for `next_poll_at`; `None` if the label is due as soon as the quota allows.
    pub reason: Option<PollReason>,
    /// The wait that was planned before `next_poll_at`; `None` if the label is due without one: never polled, or
    /// requested by hand.
    pub wait: Option<Duration>,
    /// Expected interval between polls at that time. Lateness is measured by it. `None` as for `wait`.
    pub pace: Option<Duration>,
    /// Unchanged good answers in a row.
    pub unchanged: u32,
    /// Failures in a row (5xx, time-outs, garbled, no connection), since `failing_since`.
    pub failures: u32,
    pub failing_since: Option<Timestamp>,
    /// Refusals in a row (400, 404), since `refused_since`.
    pub refusals: u32,
    pub refused_since: Option<Timestamp>,
    pub tracking_number: Option<String>,
    pub carrier_code: Option<String>,
    /// In upper case if known, as spelled otherwise.
    pub status_code: Option<String>,
    pub status_description: Option<String>,
    pub status_detail_code: Option<String>,
    /// The estimated delivery as spelled.
    pub estimate: Option<String>,
    pub out_for_delivery: bool,
    /// Minutes east of UTC at the destination, guessed.
    pub utc_offset_minutes: Option<i32>,
    pub answer_digest: Option<Digest>,
    /// Events missing from the last good answer and not yet retracted.
    pub missing_events: u32,
    pub last_seq: i64,
    /// Time of the newest scan if it is plausible, else when it was first seen; `None` before the first scan.
    pub newest_scan_at: Option<Timestamp>,
    /// First time that an answer had a delivery scan below a newer scan; `None` once the status is delivered or the
    /// parcel moves.
    pub delivered_beneath_at: Option<Timestamp>,
    /// Whether the stalled alert of this episode was sent.
    pub stalled_sent: bool,
    /// Whether the late alert of this estimate was sent.
    pub late_sent: bool,
}

impl PollState {
    /// Planned time of the next poll; `None` if it is due as soon as the quota allows.
    pub fn planned_poll_at(&self) -> Option<Timestamp> {
        self.next_poll_at.filter(|_| self.wait.is_some())
    }

    /// Returns the state of a label that was never polled.
    pub fn new(now: Timestamp) -> Self {
        Self { next_poll_at: Some(now), ..Self::default() }
    }

    pub fn status(&self) -> Option<StatusCode> {
        self.status_code.as_deref().and_then(StatusCode::parse)
    }

    pub fn is_terminal(&self) -> bool {
        self.status().is_some_and(StatusCode::is_terminal)
    }

    /// Whether the label is delivered by its status, or by a scan under a newer one.
    pub fn is_delivered(&self) -> bool {
        self.is_terminal() || self.delivered_beneath_at.is_some()
    }

    /// When a label with a delivery under a newer scan finishes, if nothing changes until then.
    pub fn finishes_at(&self) -> Option<Timestamp> {
        let seen_at = self.delivered_beneath_at.filter(|_| self.state == LabelState::Active)?;
        let quiet_since = self.last_changed_at.map_or(seen_at, |changed_at| changed_at.max(seen_at));
        quiet_since.checked_add(FINISHES_AFTER).ok()
    }

    /// Whether the next poll is further ahead than its planned wait allows at `now`, because the clock was set back.
    pub fn is_due_too_late(&self, now: Timestamp) -> bool {
        self.next_poll_at.is_some_and(|at| at > time::after(now, self.wait.unwrap_or_default()))
    }

    pub fn status_pair(&self) -> StatusPair {
        StatusPair { code: self.status_code.clone(), detail: self.status_detail_code.clone() }
    }

    /// The guessed offset from UTC at the destination.
    pub fn utc_offset(&self) -> Offset {
        self.utc_offset_minutes
            .and_then(|minutes| Offset::from_seconds(minutes * 60).ok())
            .unwrap_or_else(|| cadence::guess_offset(None, None))
    }

    /// Returns the input of the cadence.
    pub fn situation(&self, label: &LabelKey, registered_at: Timestamp, first: bool) -> Situation {
        // Delivered under a newer scan: only the status can change, so the IT row applies.
        let undelivered = self.delivered_beneath_at.is_none();
        let estimate = self.estimate.as_deref().filter(|_| undelivered);
        Situation {
            status: if undelivered { self.status() } else { Some(StatusCode::InTransit) },
            out_for_delivery: self.out_for_delivery && undelivered,
            estimate: estimate.and_then(crate::domain::tracking::estimate::estimate_day),
            utc_offset: self.utc_offset(),
            quiet_since: self.last_changed_at.unwrap_or(registered_at),
            unchanged: self.unchanged,
            finished_at: self.finished_at.filter(|_| self.state == LabelState::Finished),
            phase: first.then(|| cadence::phase(label.id.as_str())),
        }
    }
}

/// A label that is polled.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRecord {
    /// The store's own key of the row.
    pub row: i64,
    pub key: LabelKey,
    pub metadata: Metadata,
    /// The registry's version of the label. A poll of an older version is not recorded.
    pub version: i64,
    pub registered_at: Timestamp,
    pub poll_state: PollState,
    /// The last polls, newest last, as JSON; see [`super::poll::PollSummary`].
    pub recent_polls: String,
}

impl LabelRecord {
    /// For tests: the label `se-1` of `main`, registered at `at` and not yet polled.
    #[cfg(test)]
    pub fn registered(at: Timestamp) -> Self {
        Self {
            row: 1,
            key: LabelKey {
                account: crate::domain::label::AccountName::new("main"),
                id: "se-1".parse().unwrap(),
            },
            metadata: Metadata::new(),
            version: 1,
            registered_at: at,
            poll_state: PollState::new(at),
            recent_polls: "[]".to_owned(),
        }
    }

    /// The carrier's service, where the registration names it by its code: `usps_ground_advantage`.
    pub fn service(&self) -> Option<&str> {
        let is_code = |text: &&str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        self.metadata.get("service").and_then(|service| service.as_str()).filter(is_code)
    }

    /// Returns the fields of the label for messages. `poll_state`: the state after the poll.
    pub fn message_fields<'a>(&'a self, poll_state: &'a PollState) -> LabelFields<'a> {
        LabelFields {
            label: &self.key,
            metadata: &self.metadata,
            tracking_number: poll_state.tracking_number.as_deref(),
            carrier_code: poll_state.carrier_code.as_deref(),
            status_code: poll_state.status_code.as_deref(),
            status_description: poll_state.status_description.as_deref(),
        }
    }
}
