//! One walk along the list, page by page.
//!
//! Page numbers shift while labels come and go, so a walk does not count on them: as long as the list is in the order
//! that was asked for, the next page is the first one from the newest `created_at` on that was seen. Only within one
//! second, or in a list in disorder, it turns pages.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Aim, Fate, Listed, Page};
use crate::domain::label::LabelId;
use crate::domain::time::{earlier, signed};

/// How far a walk begins before the position: what the vendor enters later than it dates it is still found.
pub const OVERLAP: SignedDuration = SignedDuration::from_mins(15);
/// A label that is still being made holds the position back for so long, and is then given up.
pub const HOLD: SignedDuration = SignedDuration::from_hours(6);
/// Carriers take labels back for about a month: voids are looked for so far back, or as far as the first look went.
const VOIDABLE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A page that comes so often again is all that the list gives, whatever page it is asked for. Once may be chance: pages
/// shift.
const AGAIN: u32 = 3;
/// No walk turns more pages than that in a row.
const MOST_PAGES: u32 = 10_000;

/// What to ask the list for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Created then or later.
    pub created_from: Timestamp,
    /// From 1 on.
    pub page: u32,
    /// Labels on a page; the vendor may give fewer.
    pub page_size: u32,
    pub voided_only: bool,
}

/// How many labels a walk asks for at a time. The vendor documents no maximum; but an answer may be too large or take
/// too long, and then the next walk is content with fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u32);

impl Default for PageSize {
    fn default() -> Self {
        Self(100)
    }
}

impl PageSize {
    /// After a page that could not be had.
    pub fn smaller(self) -> Self {
        Self((self.0 / 2).max(5))
    }

    /// After a walk that came to its end.
    pub fn larger(self) -> Self {
        Self((self.0 * 2).min(Self::default().0))
    }
}

/// What follows from a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// To be watched, if they are not yet.
    pub tracked: Vec<Listed>,
    /// To be watched no longer on our account.
    pub voided: Vec<LabelId>,
    /// All that was created until then has been seen; none: as before.
    pub position: Option<Timestamp>,
    /// Whether the walk has come to its end.
    pub done: bool,
    /// Whether the list held what it was not asked for, which ends a walk for voids.
    pub astray: bool,
    /// Whether the list goes on for ever, which ends any walk; what is behind goes unseen.
    pub endless: bool,
}

/// A walk under way. It lives in memory: one that is cut short is begun again from the position.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    aim: Aim,
    began_at: Timestamp,
    /// What was created before is none of its business.
    since: Timestamp,
    /// Where the position stood, or stands as soon as anything was seen.
    base: Timestamp,
    created_from: Timestamp,
    page: u32,
    page_size: u32,
    newest: Option<Timestamp>,
    /// Whether the list is in the order that was asked for.
    orderly: bool,
    /// The oldest label that is still being made.
    held: Option<Timestamp>,
    /// What the last page held, and how often it came again as pages were turned.
    last_page: Vec<LabelId>,
    again: u32,
}

impl Walk {
    /// From the position on, less the overlap; the very first goes `lookback` back.
    pub fn for_news(position: Option<Timestamp>, lookback: Duration, now: Timestamp) -> Self {
        let (base, since) = match position {
            Some(position) => (position, earlier(position, OVERLAP)),
            None => (earlier(now, signed(lookback)), earlier(now, signed(lookback))),
        };
        Self::new(Aim::News, base, since, now)
    }

    /// Over all labels that can still be voided.
    pub fn for_voids(lookback: Duration, now: Timestamp) -> Self {
        let since = earlier(now, signed(lookback).max(VOIDABLE));
        Self::new(Aim::Voids, since, since, now)
    }

    fn new(aim: Aim, base: Timestamp, since: Timestamp, now: Timestamp) -> Self {
        Self {
            aim,
            began_at: now,
            since,
            base,
            created_from: whole_second(since),
            page: 1,
            page_size: PageSize::default().0,
            newest: None,
            orderly: true,
            held: None,
            last_page: Vec::new(),
            again: 0,
        }
    }

    #[must_use]
    pub fn in_pages_of(self, size: PageSize) -> Self {
        Self { page_size: size.0, ..self }
    }

    pub fn aim(&self) -> Aim {
        self.aim
    }

    pub fn began_at(&self) -> Timestamp {
        self.began_at
    }

    /// What to ask for next.
    pub fn ask(&self) -> Ask {
        let voided_only = self.aim == Aim::Voids;
        Ask { created_from: self.created_from, page: self.page, page_size: self.page_size, voided_only }
    }

    /// Takes in the answer to [`Self::ask`] and goes on behind it.
    pub fn take(&mut self, page: Page, now: Timestamp) -> Taken {
        let astray = self.aim == Aim::Voids && page.labels.iter().any(|label| label.fate != Fate::Voided);
        let last = page.labels.is_empty() && page.illegible == 0 || !page.more;
        let endless = !last && self.is_endless(&page);
        let done = last || astray || endless;
        self.orderly &= in_order(self.created_from, &page.labels);
        let undecided = page.labels.iter().filter(|label| label.fate == Fate::Undecided);
        let held = undecided.filter_map(|label| label.created_at).filter(|at| *at > earlier(now, HOLD)).min();
        self.held = [self.held, held].into_iter().flatten().min();
        let newest = page.labels.iter().filter_map(|label| label.created_at).max();
        self.newest = self.newest.max(newest);
        match self.newest.map(whole_second) {
            Some(newest) if self.orderly && newest > self.created_from => {
                (self.created_from, self.page) = (newest, 1);
            }
            _ => self.page += 1,
        }
        // Of a list in disorder not all was seen if it has no end.
        let position = self.position(done && !endless, now);
        let mut taken = Taken { position, done, astray, endless, ..Taken::default() };
        for label in
            page.labels.into_iter().filter(|label| label.created_at.is_none_or(|at| at >= self.since))
        {
            match label.fate {
                Fate::Tracked if self.aim == Aim::News => taken.tracked.push(label),
                Fate::Voided => taken.voided.push(label.id),
                Fate::Tracked | Fate::Untracked | Fate::Undecided => {}
            }
        }
        taken
    }

    /// A list that does not care which page it is asked for, and always says that there are more.
    fn is_endless(&mut self, page: &Page) -> bool {
        let held: Vec<LabelId> = page.labels.iter().map(|label| label.id.clone()).collect();
        let same = self.page > 1 && !held.is_empty() && held == self.last_page;
        self.again = if same { self.again + 1 } else { 0 };
        self.last_page = held;
        self.again >= AGAIN || self.page >= MOST_PAGES
    }

    /// A list in disorder must be seen whole before anything is known. What the vendor dates ahead of our time does not
    /// take the position with it: something older may still come.
    fn position(&self, done: bool, now: Timestamp) -> Option<Timestamp> {
        if self.aim == Aim::Voids || !(self.orderly || done) {
            return None;
        }
        let seen = self.newest.map_or(self.base, |newest| newest.min(now).max(self.base));
        Some(self.held.map_or(seen, |held| held.min(seen)))
    }
}

/// Whether the labels rise by their creation, from `start` on.
fn in_order(start: Timestamp, labels: &[Listed]) -> bool {
    let created: Vec<Timestamp> = labels.iter().filter_map(|label| label.created_at).collect();
    created.is_sorted() && created.first().is_none_or(|first| *first >= start)
}

/// Instants go out in whole seconds: however the vendor rounds what is finer, nothing falls between two pages.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
