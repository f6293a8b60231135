//! What a poller has in memory and the database has not: unchanged polls, and requests that were made.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::domain::polling::freshness::Notice;
use crate::domain::polling::poll::Unchanged;
use crate::domain::polling::schedule::Entry;
use crate::domain::time::later;
use crate::store::polls::{Flush, UnchangedPoll};
use crate::workers::account_access::AccountAccess;

/// A batch is written so long after its first poll.
const LONGEST: SignedDuration = SignedDuration::from_secs(1);

/// The next batch. It holds at most one poll per label.
#[derive(Debug, Default)]
pub(super) struct Batch {
    unchanged: HashMap<i64, UnchangedPoll>,
    notices: Vec<(Option<Arc<str>>, Notice)>,
    /// When the first poll of the batch ended.
    since: Option<Timestamp>,
}

impl Batch {
    /// A poll has ended at `at`: its request is to be counted.
    pub fn touch(&mut self, at: Timestamp) {
        self.since.get_or_insert(at);
    }

    /// The label of `entry` was answered about without a change at `at`.
    pub fn unchanged(
        &mut self,
        entry: &Entry,
        carrier: Option<Arc<str>>,
        next: Unchanged,
        notice: Option<Notice>,
        at: Timestamp,
    ) {
        self.notices.extend(notice.map(|notice| (carrier, notice)));
        let poll = UnchangedPoll {
            row: entry.row,
            version: i64::from(entry.version),
            polled_at: at,
            next_poll_at: next.next_poll_at,
            wait_ms: next.wait_ms,
            pace: next.pace,
            unchanged: entry.unchanged().saturating_add(1),
            reason: next.reason,
        };
        self.unchanged.insert(entry.row, poll);
    }

    /// Takes a label's poll out again, as the label is polled once more.
    pub fn withdraw(&mut self, row: i64) -> Option<UnchangedPoll> {
        self.unchanged.remove(&row)
    }

    /// The clock was set back: the batch is due a second from `now` at the latest.
    pub fn set_back(&mut self, now: Timestamp) {
        self.since = self.since.map(|since| since.min(now));
    }

    /// When the batch is to be written; `None` while it is empty.
    pub fn due_at(&self) -> Option<Timestamp> {
        self.since.map(|since| later(since, LONGEST))
    }

    /// What is to be written, if there is something.
    pub fn take(&mut self, access: &AccountAccess, now: Timestamp) -> Option<Flush> {
        self.since.take()?;
        let mut unchanged: Vec<UnchangedPoll> = self.unchanged.drain().map(|(_, poll)| poll).collect();
        // Neighbouring rows share pages.
        unchanged.sort_unstable_by_key(|poll| poll.row);
        Some(Flush {
            account: access.account.name.clone(),
            unchanged,
            notices: std::mem::take(&mut self.notices),
            usage: access.usage(),
            now,
        })
    }
}
