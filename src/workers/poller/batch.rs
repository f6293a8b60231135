//! Unchanged polls and measurements that are not written yet.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::domain::polling::freshness::Measurement;
use crate::domain::polling::poll::UnchangedPlan;
use crate::domain::polling::schedule::Entry;
use crate::domain::time::later;
use crate::store::freshness::CarrierMeasurement;
use crate::store::polls::UnchangedPoll;

/// Time after its first poll at which a batch is written.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(1);

/// The next batch. It holds at most one poll per label.
#[derive(Debug, Default)]
pub struct UnwrittenPolls {
    unchanged: HashMap<i64, UnchangedPoll>,
    measurements: Vec<CarrierMeasurement>,
    /// End of the first poll of the batch.
    since: Option<Timestamp>,
}

impl UnwrittenPolls {
    /// Begins the batch at `at`, if it is empty.
    pub fn touch(&mut self, at: Timestamp) {
        self.since.get_or_insert(at);
    }

    /// Adds an unchanged poll of the label of `entry`.
    pub fn add_unchanged(&mut self, entry: &Entry, next: UnchangedPlan, at: Timestamp) {
        let poll = UnchangedPoll {
            row: entry.row,
            version: i64::from(entry.version),
            polled_at: at,
            unchanged: entry.unchanged().saturating_add(1),
            next,
        };
        self.unchanged.insert(entry.row, poll);
    }

    /// Adds measurements of a poll.
    pub fn measure(
        &mut self,
        carrier: Option<Arc<str>>,
        measurements: impl IntoIterator<Item = Measurement>,
    ) {
        self.measurements.extend(measurements.into_iter().map(|measurement| (carrier.clone(), measurement)));
    }

    /// Removes the poll of a label that is polled again.
    pub fn withdraw(&mut self, row: i64) -> Option<UnchangedPoll> {
        self.unchanged.remove(&row)
    }

    /// Brings the batch forward after the clock was set back: it is due a second from `now` at the latest, and each
    /// label after its whole wait.
    pub fn set_back(&mut self, now: Timestamp) {
        self.since = self.since.map(|since| since.min(now));
        for poll in self.unchanged.values_mut() {
            let wait = SignedDuration::from_millis(poll.next.wait_ms.into());
            poll.next.next_poll_at = poll.next.next_poll_at.min(later(now, wait));
        }
    }

    /// Returns when the batch is due; `None` while it is empty.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.since.map(|since| later(since, MAX_AGE))
    }

    /// Returns the unchanged polls and the measurements to write; `None` if the batch is empty.
    pub fn take(&mut self) -> Option<(Vec<UnchangedPoll>, Vec<CarrierMeasurement>)> {
        self.since.take()?;
        let mut unchanged: Vec<UnchangedPoll> = self.unchanged.drain().map(|(_, poll)| poll).collect();
        // Neighbouring rows share pages.
        unchanged.sort_unstable_by_key(|poll| poll.row);
        Some((unchanged, std::mem::take(&mut self.measurements)))
    }
}
