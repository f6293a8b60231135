//! Compares an answer with the history of its label and says what is new.
//!
//! The whole list comes every time, without ids, and is rewritten at will. Five steps, live events first: equal form;
//! same time, code and place; a refined or shifted time or a changed code where there is no choice; what is left over in
//! the answer is added; what is left over in the history is missing, and retracted when missing twice, unless it was the
//! oldest and newer ones stand: some carriers tell only the last scans. Then what is left of the answer is tried against
//! events that are gone, by the first two steps alone: a shift is evidence only while the unshifted event has just gone.
//! The result is a value; whoever stores it decides nothing.

use std::cell::{Cell, LazyCell, OnceCell};

use jiff::Timestamp;

use super::canonical::Form;
use super::identity::{EventId, Mint};
use super::instant::instant_of;
use super::layout::Layouts;
use super::pairing::Open;
use super::sighting::{Moment, Sighting};
use super::wall::WallClock;
use super::{Added, KnownEvent, Matching, Revised, Update};
use crate::domain::label::LabelKey;
use crate::domain::tracking::TrackingEvent;

/// Good polls in a row without it after which an event is retracted.
pub const RETRACT_AFTER: u32 = 2;

/// Both lists; the known ones are taken apart only when somebody asks.
pub struct Bench<'a> {
    pub known: &'a [KnownEvent],
    pub answer: &'a [TrackingEvent],
    olds: Vec<OnceCell<Sighting>>,
    layouts: Layouts,
    /// From the oldest to the newest time of the events known to stand; empty before the first two steps are done.
    standing: Cell<Option<Span>>,
}

/// The first and the last of some times.
type Span = (WallClock, WallClock);

fn span(clocks: impl Iterator<Item = WallClock>) -> Option<Span> {
    clocks.fold(None, |span, clock| match span {
        None => Some((clock, clock)),
        Some((first, last)) => Some((clock.min(first), clock.max(last))),
    })
}

impl<'a> Bench<'a> {
    fn new(known: &'a [KnownEvent], answer: &'a [TrackingEvent]) -> Self {
        let olds = std::iter::repeat_with(OnceCell::new).take(known.len()).collect();
        let layouts = Layouts::of(answer.iter().map(|event| &event.sighting.canonical));
        Self { known, answer, olds, layouts, standing: Cell::new(None) }
    }

    /// Whether the old one was older than all that stands and the new one is newer: then the one went off the old end
    /// of the list and the other came in at its head, however alike they are.
    pub fn jumps(&self, old: usize, new: usize) -> bool {
        let Some((first, last)) = self.standing.get() else { return false };
        self.before(old).clock.is_some_and(|clock| clock < first)
            && self.after(new).clock.is_some_and(|clock| clock > last)
    }

    pub fn before(&self, old: usize) -> &Sighting {
        self.olds[old].get_or_init(|| Sighting::of(&self.known[old].raw, &self.layouts))
    }

    pub fn after(&self, new: usize) -> &Sighting {
        &self.answer[new].sighting
    }

    /// The names of the fields that the new one changes. Forms stored by a version that folded otherwise are no reason
    /// to speak: the raw event decides.
    fn changed(&self, old: usize, new: usize) -> Vec<String> {
        if self.known[old].form() == Some(self.answer[new].form) {
            return Vec::new();
        }
        self.before(old).canonical.changed(&self.after(new).canonical)
    }

    /// When an old one says that it happened; asked of few.
    pub fn instant_before(&self, old: usize) -> Option<Timestamp> {
        instant_of(&self.known[old].raw)
    }

    /// When a new one says that it happened.
    pub fn instant_after(&self, new: usize) -> Option<Timestamp> {
        self.answer[new].instant()
    }

    /// Among those who say the same: who was there last time comes first.
    pub fn twin_rank(&self, old: usize) -> (u32, EventId) {
        (self.known[old].missing_polls, self.known[old].event_id)
    }

    /// The total order by which ambiguities among old ones are resolved.
    pub fn old_rank(&self, old: usize) -> (Moment<'_>, Option<WallClock>, Option<Form>, (u32, EventId)) {
        let sighting = self.before(old);
        (sighting.moment(), sighting.clock, self.known[old].form(), self.twin_rank(old))
    }

    /// The total order by which ambiguities among new ones are resolved. Equals are equal to the byte.
    pub fn new_rank(&self, new: usize) -> (Moment<'_>, Option<WallClock>, Form, &str) {
        let sighting = self.after(new);
        (sighting.moment(), sighting.clock, self.answer[new].form, &self.answer[new].raw)
    }
}

/// Tells what `answer` (newest first, as it came) says beyond `known` (everything ever recorded for the label).
///
/// Total and deterministic. The order of neither list matters, but for the order of what is announced, where equal or
/// unreadable times go by their place in the answer.
pub fn match_events(label: &LabelKey, known: &[KnownEvent], answer: &[TrackingEvent]) -> Matching {
    let is_gone = |old: usize| known[old].retracted || known[old].fell_off;
    let (gone, live): (Vec<_>, Vec<_>) = (0..known.len()).partition(|&old| is_gone(old));
    if answer.is_empty() {
        let empty_after_full = known.iter().any(|event| !event.retracted);
        return Matching { empty_after_full, ..Matching::default() };
    }
    let bench = Bench::new(known, answer);

    let mut open = Open::new(live, (0..answer.len()).collect());
    open.by_bytes(&bench);
    open.by_form(&bench);
    open.by_memory(&bench);
    open.by_moment_and_code(&bench);
    bench.standing.set(span(open.pairs.iter().filter_map(|&(_, new)| bench.after(new).clock)));
    open.by_refined_time(&bench);
    open.by_shift(&bench);
    open.by_moment_and_place(&bench);
    open.by_day_and_code(&bench);

    let mut gone = Open::new(gone, std::mem::take(&mut open.news));
    gone.by_bytes(&bench);
    gone.by_form(&bench);
    gone.by_memory(&bench);
    gone.by_moment_and_code(&bench);
    let (returned, reached): (Vec<_>, Vec<_>) =
        gone.pairs.into_iter().partition(|&(old, _)| known[old].retracted);

    let mut matching = Matching::default();
    for &(old, new) in open.pairs.iter().chain(&reached) {
        matching.meet(&bench, old, new);
    }
    let reach =
        LazyCell::new(|| span(answer.iter().filter_map(WallClock::of).filter(|clock| clock.is_plausible())));
    for &old in &open.olds {
        let is_oldest = |(first, last): Span| {
            let clock = bench.before(old).clock.filter(|clock| clock.is_plausible());
            clock.is_some_and(|clock| clock <= first && clock < last)
        };
        if reach.is_some_and(is_oldest) {
            matching.fall_off(&known[old], old);
        } else {
            matching.miss(&known[old], old);
        }
    }
    let newest = LazyCell::new(|| newest_known(&bench, &open));
    let late = |new: usize| {
        WallClock::of(&answer[new]).is_some_and(|clock| newest.is_some_and(|newest| clock < newest))
    };
    for &(old, new) in &returned {
        matching.welcome_back(&bench, old, new, late(new));
    }
    let mut unknown = gone.news;
    unknown.sort_unstable_by_key(|&new| (bench.answer[new].form, &answer[new].raw));
    let mut mint = Mint::new(label, known.iter().map(|event| event.event_id));
    for new in unknown {
        let behind = late(new);
        let record = KnownEvent::first_seen(mint.mint(answer[new].form), &answer[new], behind);
        matching.added.push(Added { new, record, behind, returned: None, changed: Vec::new() });
    }
    matching.put_in_order(answer);
    matching
}

/// The newest time of the live history, as this answer corrects it.
fn newest_known(bench: &Bench<'_>, open: &Open) -> Option<WallClock> {
    let seen = open.pairs.iter().filter_map(|&(_, new)| WallClock::of(&bench.answer[new]));
    let missing = open.olds.iter().filter_map(|&old| bench.before(old).clock);
    seen.chain(missing).max()
}

impl Matching {
    /// A live event and its place in the answer.
    fn meet(&mut self, bench: &Bench<'_>, old: usize, new: usize) {
        let (before, raw) = (&bench.known[old], &bench.answer[new].raw);
        if before.missing_polls > 0 {
            self.reappeared.push(old);
        }
        let (changed, form) = if before.raw == *raw {
            (Vec::new(), before.form())
        } else {
            (bench.changed(old, new), Some(bench.answer[new].form))
        };
        let becomes = if changed.is_empty() {
            self.same.push((old, new));
            before.seen(form)
        } else if let Some(becomes) = before.revised(&bench.answer[new]) {
            self.revised.push(Revised { known: old, new, revision: becomes.revision, changed });
            Some(becomes)
        } else {
            self.flapped.push((old, new));
            before.seen(None)
        };
        self.updates.extend(becomes.map(|becomes| Update { known: old, becomes }));
    }

    /// A live event that the list no longer reaches back to.
    fn fall_off(&mut self, before: &KnownEvent, old: usize) {
        self.fell_off.push(old);
        let becomes = KnownEvent { missing_polls: 0, fell_off: true, ..before.clone() };
        self.updates.push(Update { known: old, becomes });
    }

    /// A live event that the answer lacks.
    fn miss(&mut self, before: &KnownEvent, old: usize) {
        let missing_polls = before.missing_polls.saturating_add(1);
        let retracted = missing_polls >= RETRACT_AFTER;
        if retracted {
            self.retracted.push(old);
        } else {
            self.missing.push(old);
        }
        self.updates
            .push(Update { known: old, becomes: KnownEvent { missing_polls, retracted, ..before.clone() } });
    }

    /// A retracted event that the answer has again.
    ///
    /// It is announced in any case, so what it says now may be said as well, whatever it flapped before.
    fn welcome_back(&mut self, bench: &Bench<'_>, old: usize, new: usize, behind: bool) {
        let (before, form) = (&bench.known[old], bench.answer[new].form);
        let changed = bench.changed(old, new);
        let mut record = before.clone();
        if !changed.is_empty() {
            record.announce(&bench.answer[new].raw);
        }
        record.remember(form);
        (record.missing_polls, record.retracted) = (0, false);
        self.updates.push(Update { known: old, becomes: record.clone() });
        self.added.push(Added { new, record, behind, returned: Some(old), changed });
    }

    /// Oldest first, by the answer's own times and, where they are equal or unreadable, by its order.
    fn put_in_order(&mut self, answer: &[TrackingEvent]) {
        if self.added.len() + self.revised.len() > 1 {
            let mut place = vec![0; answer.len()];
            for (at, new) in oldest_first(answer).into_iter().enumerate() {
                place[new] = at;
            }
            self.added.sort_unstable_by_key(|added| place[added.new]);
            self.revised.sort_unstable_by_key(|revised| place[revised.new]);
        }
        self.same.sort_unstable();
        self.flapped.sort_unstable();
        self.missing.sort_unstable();
        self.fell_off.sort_unstable();
        self.retracted.sort_unstable();
        self.reappeared.sort_unstable();
        self.updates.sort_unstable_by_key(|update| update.known);
    }
}

/// The indices of `answer`, a list with the newest first, from the oldest event to the newest.
///
/// By wall clock. Equal times stand as the answer has them; an unreadable time is that of the event listed before it in
/// time.
pub fn oldest_first(answer: &[TrackingEvent]) -> Vec<usize> {
    let mut previous = None;
    let mut order: Vec<_> = (0..answer.len())
        .rev()
        .enumerate()
        .map(|(from_end, new)| {
            previous = WallClock::of(&answer[new]).or(previous);
            (previous, from_end, new)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, new)| new).collect()
}

impl WallClock {
    /// `carrier_occurred_at` as a wall clock, else `occurred_at`, else none.
    pub fn of(event: &TrackingEvent) -> Option<Self> {
        event.sighting.clock
    }
}
