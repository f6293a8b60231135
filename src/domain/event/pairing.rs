//! Finds partners: the passes by which the old and the new side are joined.
//!
//! Each pass takes what the ones before left open, sorts both sides into buckets by a key, and joins within a bucket.
//! Passes run from the surest to the boldest; this module knows which keys they go by, not whom to choose in a bucket.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::canonical::Form;
use super::choice::{Bucket, SHIFT_STEP, closest, in_order, moved_together, sole_neighbours, sole_shifts};
use super::matching::Bench;
use super::sighting::{Moment, Sighting};

/// What has no partner yet, and who has found one. Indices into the lists of the poll.
pub struct Open {
    pub olds: Vec<usize>,
    pub news: Vec<usize>,
    pub pairs: Vec<(usize, usize)>,
}

impl Open {
    pub fn new(olds: Vec<usize>, news: Vec<usize>) -> Self {
        Self { olds, news, pairs: Vec::new() }
    }

    fn is_settled(&self) -> bool {
        self.olds.is_empty() || self.news.is_empty()
    }

    /// One pass. A key of `None` sits it out.
    fn pass<K: Ord>(
        &mut self,
        old_key: impl Fn(usize) -> Option<K>,
        new_key: impl Fn(usize) -> Option<K>,
        mut join: impl FnMut(Bucket) -> Vec<(usize, usize)>,
    ) {
        if self.is_settled() {
            return;
        }
        let mut buckets: BTreeMap<K, Bucket> = BTreeMap::new();
        for &old in &self.olds {
            if let Some(key) = old_key(old) {
                buckets.entry(key).or_default().olds.push(old);
            }
        }
        for &new in &self.news {
            if let Some(bucket) = new_key(new).and_then(|key| buckets.get_mut(&key)) {
                bucket.news.push(new);
            }
        }
        let met = buckets.into_values().filter(|bucket| !bucket.news.is_empty());
        let joined = met.flat_map(&mut join).collect();
        self.settle(joined);
    }

    /// One pass by what the events say.
    fn pass_by<K: Ord>(
        &mut self,
        bench: &Bench<'_>,
        key: impl Fn(&Sighting) -> Option<K>,
        join: impl FnMut(Bucket) -> Vec<(usize, usize)>,
    ) {
        self.pass(|old| key(bench.before(old)), |new| key(bench.after(new)), join);
    }

    fn settle(&mut self, joined: Vec<(usize, usize)>) {
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
        self.pass(|old| Some(old_raw(old)), |new| Some(new_raw(new)), |bucket| in_order(bucket, bench));
    }

    /// Step 1: equal canonical form.
    pub fn by_form(&mut self, bench: &Bench<'_>) {
        let new_form = |new: usize| Some(bench.after(new).form);
        self.pass(|old| bench.known[old].form(), new_form, |bucket| in_order(bucket, bench));
        // Forms stored by a version that folded otherwise are no reason to speak: the raw event decides.
        self.pass_by(bench, |sighting| Some(sighting.form), |bucket| in_order(bucket, bench));
    }

    /// Step 1 for a feed that flaps: a form the event has had before.
    pub fn by_memory(&mut self, bench: &Bench<'_>) {
        if self.is_settled() {
            return;
        }
        let mut olds = self.olds.clone();
        olds.sort_unstable_by_key(|&old| Reverse(bench.old_rank(old)));
        let mut remembering: BTreeMap<Form, Vec<usize>> = BTreeMap::new();
        for old in olds {
            for &form in &bench.known[old].forms {
                remembering.entry(form).or_default().push(old);
            }
        }
        let mut news = self.news.clone();
        news.sort_unstable_by_key(|&new| bench.new_rank(new));
        let mut taken = vec![false; bench.known.len()];
        let mut joined = Vec::new();
        for new in news {
            let Some(candidates) = remembering.get_mut(&bench.after(new).form) else { continue };
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
        let moment_and_code = |sighting: &Sighting| Some((sighting.moment.clone(), sighting.code.clone()));
        self.pass_by(bench, moment_and_code, |bucket| closest(bucket, bench, |_, _| true));
        // The carrier's time was filled in, or fell away: the other clock still tells.
        let occurred_and_code =
            |sighting: &Sighting| Some((sighting.occurred_minute()?, sighting.code.clone()));
        let one_clock = |old: &Sighting, new: &Sighting| !(old.has_carrier_time() && new.has_carrier_time());
        self.pass_by(bench, occurred_and_code, |bucket| closest(bucket, bench, one_clock));
    }

    /// Step 3: same code and a place that does not contradict, the time moved by as much as a zone can.
    pub fn by_shift(&mut self, bench: &Bench<'_>) {
        let dial =
            |sighting: &Sighting| Some((sighting.minute()?.rem_euclid(SHIFT_STEP), sighting.code.clone()));
        // Several of a kind that all moved alike: one zone was corrected for all of them.
        let dial_and_place = |sighting: &Sighting| Some((dial(sighting)?, sighting.place.clone()));
        self.pass_by(bench, dial_and_place, |bucket| moved_together(bucket, bench));
        self.pass_by(bench, dial, |bucket| sole_shifts(bucket, bench));
    }

    /// Step 3: same time key and place under another code, when there is no other choice.
    pub fn by_moment_and_place(&mut self, bench: &Bench<'_>) {
        let known_moment =
            |sighting: &Sighting| Some(sighting.moment.clone()).filter(|moment| *moment != Moment::Unknown);
        self.pass_by(bench, known_moment, |bucket| sole_neighbours(bucket, bench));
    }
}
