//! A walk along the list, page by page.
//!
//! Page numbers shift when labels are added or removed, so a walk does not rely on them. While the list is sorted as
//! requested, the next page is the first page from the newest `created_at` seen. The walk turns pages only within one
//! second, or if the list is not sorted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{ListPage, ListedLabel, ListedState, WalkPurpose};
use crate::domain::label::LabelId;
use crate::domain::time::{earlier, signed};

/// Overlap of a walk with the part before the position. It finds labels that appear later than their `created_at`.
pub const OVERLAP: SignedDuration = SignedDuration::from_mins(15);
/// A label in creation holds the position back until a label that is newer by more than this was seen. Both are the
/// vendor's instants, so a jump of our clock does not end it.
pub const HOLD: SignedDuration = SignedDuration::from_hours(6);
/// Age up to which labels can be voided, about a month. A walk for voids goes back this far from the position, or as far
/// as `lookback`. Without a position it goes back from our clock, which may be ahead.
const VOID_WINDOW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Number of equal pages in a row after which a list counts as endless. Fewer may be a coincidence, because pages
/// shift.
const MAX_REPEATS: u32 = 3;
/// Maximum number of pages that a walk turns in a row.
const MAX_PAGES: u32 = 10_000;

/// Parameters of a request for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRequest {
    /// Earliest `created_at`.
    pub created_from: Timestamp,
    /// Page number, from 1.
    pub page: u32,
    /// Maximum number of labels on the page.
    pub page_size: u32,
    pub voided_only: bool,
}

/// Number of labels that a walk requests per page. The vendor documents no maximum. If an answer is too large or too
/// slow, the next walk requests fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(100)
    }
}

impl PageSize {
    /// Returns the size after a failed page.
    pub fn smaller(self) -> Self {
        Self((self.0 / 2).max(5))
    }

    /// Returns the size after a complete walk.
    pub fn larger(self) -> Self {
        Self((self.0 * 2).min(Self::default().0))
    }
}

/// Result of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PageResult {
    /// Labels to register, if they are not registered.
    pub tracked: Vec<ListedLabel>,
    /// Voided labels: discovery withdraws its registration of them.
    pub voided: Vec<LabelId>,
    /// The new position; `None`: unchanged.
    pub position: Option<Timestamp>,
    /// Whether a listed label is at or after the position before the walk.
    pub confirmed: bool,
    /// Whether the walk is complete.
    pub done: bool,
    /// Whether the list has labels that are not voided, although the request filters for voided ones. This ends a walk
    /// for voids.
    pub filter_ignored: bool,
    /// Whether the list has no end. This ends the walk; labels behind this page are not seen.
    pub endless: bool,
}

/// A walk in progress, in memory only. After a restart it begins again from the position.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    purpose: WalkPurpose,
    began_at: Timestamp,
    /// Labels created earlier are ignored.
    since: Timestamp,
    /// The position before the walk; for the first walk, its start.
    base: Timestamp,
    created_from: Timestamp,
    page: u32,
    page_size: u32,
    newest: Option<Timestamp>,
    /// Whether the list is sorted as requested.
    in_order: bool,
    /// `created_at` of the labels in creation that hold the position back.
    undecided: Vec<Timestamp>,
    /// Labels of the last page, and the number of equal pages in a row.
    last_page: Vec<LabelId>,
    repeats: u32,
}

impl Walk {
    /// Returns a walk from the position minus the overlap. The first walk goes `lookback` back.
    pub fn for_new_labels(position: Option<Timestamp>, lookback: Duration, now: Timestamp) -> Self {
        let (base, since) = match position {
            Some(position) => (position, earlier(position, OVERLAP)),
            None => (earlier(now, signed(lookback)), earlier(now, signed(lookback))),
        };
        Self::new(WalkPurpose::NewLabels, base, since, now)
    }

    /// Returns a walk over all labels that can still be voided.
    pub fn for_voids(position: Option<Timestamp>, lookback: Duration, now: Timestamp) -> Self {
        let newest = position.map_or(now, |position| position.min(now));
        let since = earlier(newest, signed(lookback).max(VOID_WINDOW));
        Self::new(WalkPurpose::Voids, since, since, now)
    }

    fn new(purpose: WalkPurpose, base: Timestamp, since: Timestamp, now: Timestamp) -> Self {
        Self {
            purpose,
            began_at: now,
            since,
            base,
            created_from: whole_second(since),
            page: 1,
            page_size: PageSize::default().0,
            newest: None,
            in_order: true,
            undecided: Vec::new(),
            last_page: Vec::new(),
            repeats: 0,
        }
    }

    #[must_use]
    pub fn in_pages_of(self, size: PageSize) -> Self {
        Self { page_size: size.0, ..self }
    }

    pub fn purpose(&self) -> WalkPurpose {
        self.purpose
    }

    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    /// Corrects the start of the walk after the clock was set back by `by`.
    pub fn set_back(&mut self, by: SignedDuration) {
        self.began_at = earlier(self.began_at, by);
    }

    /// Returns the next request.
    pub fn request(&self) -> ListRequest {
        let voided_only = self.purpose == WalkPurpose::Voids;
        ListRequest {
            created_from: self.created_from,
            page: self.page,
            page_size: self.page_size,
            voided_only,
        }
    }

    /// Applies the answer to [`Self::request`] and moves on to the next page.
    pub fn take(&mut self, page: ListPage, now: Timestamp) -> PageResult {
        let filter_ignored = self.purpose == WalkPurpose::Voids
            && page.labels.iter().any(|label| label.state != ListedState::Voided);
        let last = page.labels.is_empty() && page.invalid_ids == 0 || !page.more;
        let endless = !last && self.is_endless(&page);
        let done = last || filter_ignored || endless;
        self.in_order &= in_order(self.created_from, &page.labels);
        let undecided = page.labels.iter().filter(|label| label.state == ListedState::Undecided);
        self.undecided.extend(undecided.filter_map(|label| label.created_at));
        let newest = page.labels.iter().filter_map(|label| label.created_at).max();
        self.newest = self.newest.max(newest);
        match self.newest.map(whole_second) {
            Some(newest) if self.in_order && newest > self.created_from => {
                (self.created_from, self.page) = (newest, 1);
            }
            _ => self.page += 1,
        }
        // An unsorted list without an end is not seen completely, so the position stays.
        let position = self.position(done && !endless, now);
        let confirmed = self.newest.is_some_and(|newest| newest >= self.base);
        let mut taken =
            PageResult { position, confirmed, done, filter_ignored, endless, ..PageResult::default() };
        for label in
            page.labels.into_iter().filter(|label| label.created_at.is_none_or(|at| at >= self.since))
        {
            match label.state {
                ListedState::Tracked if self.purpose == WalkPurpose::NewLabels => taken.tracked.push(label),
                ListedState::Voided => taken.voided.push(label.id),
                ListedState::Tracked | ListedState::Untracked | ListedState::Undecided => {}
            }
        }
        taken
    }

    /// Detects a list that ignores the page number and always has more pages.
    fn is_endless(&mut self, page: &ListPage) -> bool {
        let held: Vec<LabelId> = page.labels.iter().map(|label| label.id.clone()).collect();
        let same = self.page > 1 && !held.is_empty() && held == self.last_page;
        self.repeats = if same { self.repeats + 1 } else { 0 };
        self.last_page = held;
        self.repeats >= MAX_REPEATS || self.page >= MAX_PAGES
    }

    /// Returns the new position. An unsorted list must be read completely first. A `created_at` in the future does not
    /// move the position past `now`, because older labels may still appear.
    fn position(&self, done: bool, now: Timestamp) -> Option<Timestamp> {
        if self.purpose == WalkPurpose::Voids || !(self.in_order || done) {
            return None;
        }
        let seen = self.newest.map_or(self.base, |newest| newest.min(now).max(self.base));
        let held = self.undecided.iter().filter(|at| **at > earlier(seen, HOLD)).min();
        Some(held.map_or(seen, |held| seen.min(*held)))
    }
}

/// Whether the labels are sorted by `created_at`, from `start` on.
fn in_order(start: Timestamp, labels: &[ListedLabel]) -> bool {
    let created: Vec<Timestamp> = labels.iter().filter_map(|label| label.created_at).collect();
    created.is_sorted() && created.first().is_none_or(|first| *first >= start)
}

/// Cuts an instant to whole seconds, so that the vendor's rounding of fractions leaves no gap between two pages.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
