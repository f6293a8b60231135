//! The walks of one account, one after another: the next request, and the effect of its answer.

use jiff::{SignedDuration, Timestamp};

use super::{
    DiscoveryProgress, ListPage, ListRequest, PageResult, PageSize, Walk, WalkPurpose, pause, retry_in,
};
use crate::domain::account::Discover;
use crate::domain::clock::set_back_by;
use crate::domain::time::{after, earlier, later};
use crate::domain::tracking::reading::Reading;

/// Walks of one account. Only its progress is stored.
#[derive(Clone, Debug)]
pub struct Walker {
    discover: Discover,
    progress: DiscoveryProgress,
    walk: Option<Walk>,
    /// Purpose of the last walk.
    last: Option<WalkPurpose>,
    page_size: PageSize,
    /// Time of the next walk for new labels; `None`: now.
    new_labels_at: Option<Timestamp>,
    paused_until: Option<Timestamp>,
    /// Requests in a row without a list.
    failures: u32,
    stepped_at: Option<Timestamp>,
}

impl Walker {
    /// Continues from the progress of an earlier process.
    pub fn new(discover: Discover, progress: DiscoveryProgress) -> Self {
        Self {
            discover,
            progress,
            walk: None,
            last: None,
            page_size: PageSize::default(),
            new_labels_at: None,
            paused_until: None,
            failures: 0,
            stepped_at: None,
        }
    }

    pub fn progress(&self) -> DiscoveryProgress {
        self.progress
    }

    /// Returns when the pause after the last request ends.
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.paused_until
    }

    /// Returns the request that is due at `now`, or when the next one is due.
    pub fn next_request(&mut self, now: Timestamp) -> Result<ListRequest, Timestamp> {
        if let Some(by) = set_back_by(self.stepped_at.replace(now), now) {
            // Each wait keeps its length.
            let waits = [&mut self.paused_until, &mut self.new_labels_at].into_iter().flatten();
            waits.for_each(|until| *until = earlier(*until, by));
            self.walk.iter_mut().for_each(|walk| walk.set_back(by));
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(until);
        }
        let walk = match self.walk.take() {
            Some(walk) => walk,
            None => self.begin_walk(now)?,
        };
        self.last = Some(walk.purpose());
        let request = walk.request();
        self.walk = Some(walk);
        Ok(request)
    }

    fn begin_walk(&self, now: Timestamp) -> Result<Walk, Timestamp> {
        let Discover { interval, lookback, .. } = self.discover;
        let position = self.progress.position_at(now);
        let walk = match self.progress.next_walk(self.last, self.new_labels_at, interval, now)? {
            WalkPurpose::NewLabels => Walk::for_new_labels(position, lookback, now),
            WalkPurpose::Voids => Walk::for_voids(position, lookback, now),
        };
        Ok(walk.in_pages_of(self.page_size))
    }

    /// Applies the page of the last request. `allowed`: the requests a second that the account may send. The caller
    /// writes the progress with the labels.
    pub fn take(&mut self, page: ListPage, allowed: f64, now: Timestamp) -> PageResult {
        let Some(mut walk) = self.walk.take() else { return PageResult::default() };
        let result = walk.take(page, now);
        if let Some(position) = result.position {
            self.progress.position = Some(position);
            self.progress.confirmed |= result.confirmed;
        }
        self.failures = 0;
        self.paused_until = Some(later(now, pause(allowed, now)));
        match (result.done, walk.purpose()) {
            (false, _) => self.walk = Some(walk),
            (true, WalkPurpose::NewLabels) => {
                self.new_labels_at = Some(after(walk.began_at(), self.discover.interval));
            }
            (true, WalkPurpose::Voids) => self.progress.voids_searched_at = Some(walk.began_at()),
        }
        if result.done {
            self.page_size = self.page_size.larger();
        }
        result
    }

    /// Applies a failed request. Returns the wait until the next one. A 429 concerns the account and is handled there;
    /// anything else is a failure of the list.
    pub fn fail(&mut self, reading: &Reading, now: Timestamp) -> Option<SignedDuration> {
        if matches!(reading, Reading::Refused { .. } | Reading::Garbled { .. } | Reading::TimedOut) {
            // The page itself may be the cause, so the walk begins again from the position with smaller pages.
            self.page_size = self.page_size.smaller();
            self.walk = None;
        }
        if matches!(reading, Reading::Throttled { .. }) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = retry_in(self.failures);
        self.paused_until = Some(later(now, wait));
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::label::Metadata;
    use crate::domain::polling::discovery::{ListedLabel, ListedState};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn walker() -> Walker {
        let (interval, lookback) = (Duration::from_secs(300), Duration::from_secs(86_400));
        Walker::new(Discover { enabled: true, interval, lookback }, DiscoveryProgress::default())
    }

    #[test]
    fn a_clock_set_back_lengthens_no_wait() {
        let mut walker = walker();
        assert!(walker.next_request(at(0)).is_ok());
        walker.take(ListPage { labels: Vec::new(), more: false, invalid_ids: 0 }, 0.1, at(0));
        assert_eq!(walker.next_request(at(10)), Err(at(40)));
        assert_eq!(walker.next_request(at(-7_000)), Err(at(-6_970)), "30 s remain");
        assert!(walker.next_request(at(-6_970)).unwrap().voided_only);
        walker.take(ListPage { labels: Vec::new(), more: false, invalid_ids: 0 }, 10.0, at(-6_960));
        let next = walker.next_request(at(-6_950)).unwrap_err();
        assert!(next <= at(-6_700), "{next}: the interval has its length, too");
        assert!(!walker.next_request(next).unwrap().voided_only);
    }

    #[test]
    fn a_walk_that_began_before_the_clock_was_set_back_delays_no_later_one() {
        let mut walker = walker();
        assert!(walker.next_request(at(0)).is_ok());
        walker.fail(&Reading::ServerError { status: 500 }, at(0));
        let now = walker.next_request(at(-20_000)).unwrap_err();
        assert!(!walker.next_request(now).unwrap().voided_only);
        walker.take(ListPage { labels: Vec::new(), more: false, invalid_ids: 0 }, 10.0, now);
        assert!(walker.new_labels_at <= Some(now + SignedDuration::from_secs(300)));
    }

    #[test]
    fn a_position_from_a_clock_that_was_ahead_is_replaced() {
        let mut walker = walker();
        let empty = ListPage { labels: Vec::new(), more: false, invalid_ids: 0 };
        let ahead = 30 * 86_400;
        assert!(walker.next_request(at(ahead)).is_ok());
        walker.take(empty.clone(), 10.0, at(ahead));
        assert_eq!(walker.progress().position, Some(at(ahead - 86_400)));
        let mut now = at(600);
        let request = loop {
            match walker.next_request(now) {
                Ok(request) if !request.voided_only => break request,
                Ok(_) => drop(walker.take(empty.clone(), 10.0, now)),
                Err(at) => now = at,
            }
        };
        assert!(
            request.created_from <= at(960 - 86_400),
            "{request:?}: the walk begins as the first one does"
        );
        let label = ListedLabel {
            id: "se-1".parse().unwrap(),
            created_at: Some(at(500)),
            state: ListedState::Tracked,
            metadata: Metadata::new(),
        };
        let taken = walker.take(ListPage { labels: vec![label], more: false, invalid_ids: 0 }, 10.0, at(700));
        assert_eq!((taken.tracked.len(), walker.progress().position), (1, Some(at(500))));
        assert_eq!(walker.progress().position_at(at(-9_000_000)), Some(at(500)), "a label confirmed it");
    }

    #[test]
    fn only_a_failure_that_the_page_may_cause_begins_the_walk_again() {
        let mut walker = walker();
        let request = walker.next_request(at(0)).unwrap();
        assert_eq!(walker.fail(&Reading::Throttled { retry_after: None }, at(0)), None);
        assert_eq!(walker.next_request(at(1)), Ok(request));
        let wait = walker.fail(&Reading::ServerError { status: 500 }, at(1)).unwrap();
        assert_eq!(walker.next_request(at(1) + wait), Ok(request));
        assert!(walker.fail(&Reading::TimedOut, at(70)).unwrap() > wait);
        let again = walker.next_request(at(9_000)).unwrap();
        assert_eq!((again.page_size, request.page_size), (50, 100));
    }
}
