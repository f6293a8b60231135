//! Finds partners: the passes by which the old and the new side are joined.
//!
//! Each pass takes what the ones before left open, sorts both sides by a key into buckets, and joins within a bucket.
//! Passes run from the surest to the boldest; this module knows which keys they go by, not whom to choose in a bucket.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use super::canonical::Form;
use super::choice::{
    Bucket, Couples, SHIFT_STEP, closest, in_order, may_have_moved, moved_together, refined, sole_neighbours,
    sole_refinements, sole_shifts,
};
use super::sighting::{Moment, Sighting};
use crate::domain::tracking::matching::compare::Bench;

/// What has no partner yet, and who has found one. Indices into the lists of the poll.
pub struct Open {
    pub olds: Vec<usize>,
    pub news: Vec<usize>,
    pub pairs: Couples,
}

impl Open {
    pub fn new(olds: Vec<usize>, news: Vec<usize>) -> Self {
        Self { olds, news, pairs: Vec::new() }
    }

    fn is_settled(&self) -> bool {
        self.olds.is_empty() || self.news.is_empty()
    }

    /// One pass: who has the same key may be joined. A key of `None` sits it out.
    fn pass<K: Ord>(
        &mut self,
        old_key: impl Fn(usize) -> Option<K>,
        new_key: impl Fn(usize) -> Option<K>,
        mut join: impl FnMut(Bucket<'_>, &mut Couples),
    ) {
        if self.is_settled() {
            return;
        }
        let (old_keys, mut olds) = sorted(&self.olds, old_key);
        let (new_keys, mut news) = sorted(&self.news, new_key);
        let mut joined = Vec::with_capacity(olds.len().min(news.len()));
        let (mut old, mut new) = (0, 0);
        while old < olds.len() && new < news.len() {
            match old_keys[old].cmp(&new_keys[new]) {
                Ordering::Less => old += 1,
                Ordering::Greater => new += 1,
                Ordering::Equal => {
                    let (old_end, new_end) = (end_of_run(&old_keys, old), end_of_run(&new_keys, new));
                    join(
                        Bucket { olds: &mut olds[old..old_end], news: &mut news[new..new_end] },
                        &mut joined,
                    );
                    (old, new) = (old_end, new_end);
                }
            }
        }
        self.settle(joined);
    }

    /// One pass by what the events say.
    fn pass_by<'b, K: Ord>(
        &mut self,
        bench: &'b Bench<'_>,
        key: impl Fn(&'b Sighting) -> Option<K>,
        join: impl FnMut(Bucket<'_>, &mut Couples),
    ) {
        self.pass(|old| key(bench.before(old)), |new| key(bench.after(new)), join);
    }

    fn settle(&mut self, joined: Couples) {
        if joined.is_empty() {
            return;
        }
        let mut olds: Vec<_> = joined.iter().map(|&(old, _)| old).collect();
        let mut news: Vec<_> = joined.iter().map(|&(_, new)| new).collect();
        olds.sort_unstable();
        news.sort_unstable();
        self.olds.retain(|old| olds.binary_search(old).is_err());
        self.news.retain(|new| news.binary_search(new).is_err());
        self.pairs.extend(joined);
    }

    /// Step 1, for the bytes that did not even change.
    pub fn by_bytes(&mut self, bench: &Bench<'_>) {
        let (old_raw, new_raw) = (|old: usize| &bench.known[old].raw, |new: usize| &bench.answer[new].raw);
        let joined = |bucket: Bucket<'_>, joined: &mut Couples| in_order(bucket, bench, joined);
        self.pass(|old| Some(old_raw(old)), |new| Some(new_raw(new)), joined);
    }

    /// Step 1: equal canonical form.
    pub fn by_form(&mut self, bench: &Bench<'_>) {
        let new_form = |new: usize| Some(bench.answer[new].form);
        let joined = |bucket: Bucket<'_>, joined: &mut Couples| in_order(bucket, bench, joined);
        self.pass(|old| bench.known[old].form(), new_form, joined);
    }

    /// Step 1 for a feed that flaps: a form the event has had before.
    pub fn by_memory(&mut self, bench: &Bench<'_>) {
        if self.is_settled() {
            return;
        }
        let mut wanted: Vec<_> = self.news.iter().map(|&new| bench.answer[new].form).collect();
        wanted.sort_unstable();
        let mut remembering: BTreeMap<Form, Vec<usize>> = BTreeMap::new();
        for &old in &self.olds {
            for &form in bench.known[old].forms.iter().filter(|form| wanted.binary_search(form).is_ok()) {
                remembering.entry(form).or_default().push(old);
            }
        }
        if remembering.is_empty() {
            return;
        }
        for candidates in remembering.values_mut() {
            candidates.sort_unstable_by_key(|&old| Reverse(bench.old_rank(old)));
        }
        let mut news = self.news.clone();
        news.sort_unstable_by_key(|&new| bench.new_rank(new));
        let mut taken = vec![false; bench.known.len()];
        let mut joined = Vec::new();
        for new in news {
            let Some(candidates) = remembering.get_mut(&bench.answer[new].form) else { continue };
            while let Some(old) = candidates.pop() {
                if !taken[old] {
                    taken[old] = true;
                    joined.push((old, new));
                    break;
                }
            }
        }
        self.settle(joined);
    }

    /// Step 2: same time key, same code, a place that does not contradict; the closest first.
    pub fn by_moment_and_code(&mut self, bench: &Bench<'_>) {
        let moment_and_code = |sighting| Some((Sighting::moment(sighting), sighting.code()));
        self.pass_by(bench, moment_and_code, |bucket, joined| closest(bucket, bench, |_, _| true, joined));
        // The carrier's time was filled in, or fell away: the other clock still tells.
        let occurred_and_code = |sighting| Some((Sighting::occurred_minute(sighting)?, sighting.code()));
        let one_clock = |old: &Sighting, new: &Sighting| !(old.has_carrier_time() && new.has_carrier_time());
        self.pass_by(bench, occurred_and_code, |bucket, joined| closest(bucket, bench, one_clock, joined));
    }

    /// Step 3: all but the times says the same, and the time was refined: none, a day only, midnight, year 1 or a few
    /// minutes off became the real one.
    pub fn by_refined_time(&mut self, bench: &Bench<'_>) {
        let but_times = |sighting: &Sighting| Some(sighting.canonical.but_times());
        self.pass_by(bench, but_times, |bucket, joined| refined(bucket, bench, joined));
    }

    /// Step 3, where more than the time was filled in: same code, a place that does not contradict, a time refined
    /// within its day, and no other choice.
    pub fn by_day_and_code(&mut self, bench: &Bench<'_>) {
        let code = |sighting| Sighting::has_day(sighting).then(|| Sighting::code(sighting));
        self.pass_by(bench, code, |bucket, joined| sole_refinements(bucket, bench, joined));
    }

    /// Step 3: same code and a place that does not contradict, the time moved by as much as a zone can.
    pub fn by_shift(&mut self, bench: &Bench<'_>) {
        let dial = |sighting| Some((Sighting::minute(sighting)?.rem_euclid(SHIFT_STEP), sighting.code()));
        self.pass_by(bench, dial, |bucket, joined| {
            let mut open = Self::new(bucket.olds.to_vec(), bucket.news.to_vec());
            if open.olds.len() > 1 || open.news.len() > 1 {
                // Of several of a kind each may have moved by a zone of its own: the instant stayed.
                let (before, after) = (|old| bench.instant_before(old), |new| bench.instant_after(new));
                open.pass(before, after, |bucket, joined| closest(bucket, bench, may_have_moved, joined));
                // Or all moved alike: one zone was corrected for all of them; at one place, …
                let place = |sighting| Some(Sighting::place(sighting));
                open.pass_by(bench, place, |bucket, joined| moved_together(bucket, bench, joined));
                // … or while the places went or came.
                open.pass_by(bench, |_| Some(()), |bucket, joined| moved_together(bucket, bench, joined));
            }
            joined.append(&mut open.pairs);
            sole_shifts(Bucket { olds: &mut open.olds, news: &mut open.news }, bench, joined);
        });
    }

    /// Step 3: same time key and place under another code, when there is no other choice.
    pub fn by_moment_and_place(&mut self, bench: &Bench<'_>) {
        let known_moment =
            |sighting| Some(Sighting::moment(sighting)).filter(|moment| *moment != Moment::Unknown);
        self.pass_by(bench, known_moment, |bucket, joined| sole_neighbours(bucket, bench, joined));
    }
}

/// The keys in order, and who has them.
fn sorted<K: Ord>(side: &[usize], key: impl Fn(usize) -> Option<K>) -> (Vec<K>, Vec<usize>) {
    let mut keyed: Vec<_> = side.iter().filter_map(|&one| Some((key(one)?, one))).collect();
    keyed.sort_unstable();
    keyed.into_iter().unzip()
}

/// Where the equals of `keys[start]` end.
fn end_of_run<K: PartialEq>(keys: &[K], start: usize) -> usize {
    start + keys[start..].iter().take_while(|key| **key == keys[start]).count()
}
