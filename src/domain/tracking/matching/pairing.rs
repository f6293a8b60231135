//! Pairs old with new events, pass by pass.
//!
//! Each pass sorts the unpaired events of both sides by a key and joins events with equal keys ([`super::candidates`]).
//! The passes run from the strongest evidence to the weakest.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use super::candidates::{
    Candidates, Pairs, SHIFT_STEP, is_possible_shift, join_common_shift, join_refined, join_similar,
    join_twins, join_unambiguous_locations, join_unambiguous_refinements, join_unambiguous_shifts,
};
use super::canonical::Fingerprint;
use super::event_key::{EventKey, TimeKey};
use super::sides::Sides;

/// Unpaired events of both sides, and the pairs found so far.
pub struct Pairing {
    pub old: Vec<usize>,
    pub new: Vec<usize>,
    pub pairs: Pairs,
}

impl Pairing {
    pub fn new(old: Vec<usize>, new: Vec<usize>) -> Self {
        Self { old, new, pairs: Vec::new() }
    }

    fn is_complete(&self) -> bool {
        self.old.is_empty() || self.new.is_empty()
    }

    /// Runs one pass: `join` gets the events of equal key. Events whose key is `None` take no part.
    fn pass<K: Ord>(
        &mut self,
        old_key: impl Fn(usize) -> Option<K>,
        new_key: impl Fn(usize) -> Option<K>,
        mut join: impl FnMut(Candidates<'_>, &mut Pairs),
    ) {
        if self.is_complete() {
            return;
        }
        let (old_keys, mut olds) = sorted(&self.old, old_key);
        let (new_keys, mut news) = sorted(&self.new, new_key);
        let mut joined = Vec::with_capacity(olds.len().min(news.len()));
        let (mut old, mut new) = (0, 0);
        while old < olds.len() && new < news.len() {
            match old_keys[old].cmp(&new_keys[new]) {
                Ordering::Less => old += 1,
                Ordering::Greater => new += 1,
                Ordering::Equal => {
                    let (old_end, new_end) = (end_of_run(&old_keys, old), end_of_run(&new_keys, new));
                    join(
                        Candidates { old: &mut olds[old..old_end], new: &mut news[new..new_end] },
                        &mut joined,
                    );
                    (old, new) = (old_end, new_end);
                }
            }
        }
        self.add(joined);
    }

    /// Runs one pass whose key is computed from the events' keys.
    fn pass_by<'b, K: Ord>(
        &mut self,
        sides: &'b Sides<'_>,
        key: impl Fn(&'b EventKey) -> Option<K>,
        join: impl FnMut(Candidates<'_>, &mut Pairs),
    ) {
        self.pass(|old| key(sides.old_key(old)), |new| key(sides.new_key(new)), join);
    }

    fn add(&mut self, joined: Pairs) {
        if joined.is_empty() {
            return;
        }
        let mut olds: Vec<_> = joined.iter().map(|&(old, _)| old).collect();
        let mut news: Vec<_> = joined.iter().map(|&(_, new)| new).collect();
        olds.sort_unstable();
        news.sort_unstable();
        self.old.retain(|old| olds.binary_search(old).is_err());
        self.new.retain(|new| news.binary_search(new).is_err());
        self.pairs.extend(joined);
    }

    /// Step 1: equal bytes.
    pub fn by_bytes(&mut self, sides: &Sides<'_>) {
        let (old_raw, new_raw) = (|old: usize| &sides.known[old].raw, |new: usize| &sides.answer[new].raw);
        self.pass(
            |old| Some(old_raw(old)),
            |new| Some(new_raw(new)),
            |candidates, joined| join_twins(candidates, sides, joined),
        );
    }

    /// Step 1: equal fingerprint.
    pub fn by_fingerprint(&mut self, sides: &Sides<'_>) {
        self.pass(
            |old| sides.known[old].fingerprint(),
            |new| Some(sides.answer[new].fingerprint),
            |candidates, joined| join_twins(candidates, sides, joined),
        );
    }

    /// Step 1, for feeds that flap: a fingerprint the old event had before.
    pub fn by_earlier_fingerprint(&mut self, sides: &Sides<'_>) {
        if self.is_complete() {
            return;
        }
        let mut searched: Vec<_> = self.new.iter().map(|&new| sides.answer[new].fingerprint).collect();
        searched.sort_unstable();
        let mut olds_by_fingerprint: BTreeMap<Fingerprint, Vec<usize>> = BTreeMap::new();
        for &old in &self.old {
            let earlier = sides.known[old].fingerprints.iter();
            for &fingerprint in earlier.filter(|fingerprint| searched.binary_search(fingerprint).is_ok()) {
                olds_by_fingerprint.entry(fingerprint).or_default().push(old);
            }
        }
        if olds_by_fingerprint.is_empty() {
            return;
        }
        for olds in olds_by_fingerprint.values_mut() {
            olds.sort_unstable_by_key(|&old| Reverse(sides.old_rank(old)));
        }
        let mut news = self.new.clone();
        news.sort_unstable_by_key(|&new| sides.new_rank(new));
        let mut taken = vec![false; sides.known.len()];
        let mut joined = Vec::new();
        for new in news {
            let Some(olds) = olds_by_fingerprint.get_mut(&sides.answer[new].fingerprint) else { continue };
            while let Some(old) = olds.pop() {
                if !taken[old] {
                    taken[old] = true;
                    joined.push((old, new));
                    break;
                }
            }
        }
        self.add(joined);
    }

    /// Step 2: equal time, equal code and a compatible location; the most similar first.
    pub fn by_time_and_code(&mut self, sides: &Sides<'_>) {
        let time_and_code = |key| Some((EventKey::time_key(key), key.code()));
        self.pass_by(sides, time_and_code, |candidates, joined| {
            join_similar(candidates, sides, |_, _| true, joined)
        });
        // If the carrier's time was added or removed, `occurred_at` still identifies the event.
        let occurred_and_code = |key| Some((EventKey::occurred_minute(key)?, key.code()));
        let one_time = |old: &EventKey, new: &EventKey| !(old.has_carrier_time() && new.has_carrier_time());
        self.pass_by(sides, occurred_and_code, |candidates, joined| {
            join_similar(candidates, sides, one_time, joined)
        });
    }

    /// Step 3: all fields but the times are equal, and the time was refined: a missing time, a date, midnight, year 1 or a
    /// time a few minutes off became the real one.
    pub fn by_refined_time(&mut self, sides: &Sides<'_>) {
        let without_times = |key: &EventKey| Some(key.canonical.without_times());
        self.pass_by(sides, without_times, |candidates, joined| join_refined(candidates, sides, joined));
    }

    /// Step 3, when other fields changed too: equal code, a compatible location and a time refined within its day, if
    /// unambiguous.
    pub fn by_day_and_code(&mut self, sides: &Sides<'_>) {
        let code = |key| EventKey::has_plausible_time(key).then(|| EventKey::code(key));
        self.pass_by(sides, code, |candidates, joined| {
            join_unambiguous_refinements(candidates, sides, joined)
        });
    }

    /// Step 3: equal code, a compatible location and a time shifted by a time zone.
    pub fn by_shift(&mut self, sides: &Sides<'_>) {
        let shift_class = |key| Some((EventKey::minute(key)?.rem_euclid(SHIFT_STEP), key.code()));
        self.pass_by(sides, shift_class, |candidates, joined| {
            let mut open = Self::new(candidates.old.to_vec(), candidates.new.to_vec());
            if open.old.len() > 1 || open.new.len() > 1 {
                // Each event may have been shifted by another zone: then the instants stay equal.
                open.pass(
                    |old| sides.old_instant(old),
                    |new| sides.new_instant(new),
                    |candidates, joined| join_similar(candidates, sides, is_possible_shift, joined),
                );
                // Or one zone was corrected for all events of a location.
                let location = |key| Some(EventKey::location(key));
                open.pass_by(sides, location, |candidates, joined| {
                    join_common_shift(candidates, sides, joined)
                });
                // Or for all events, while their locations were added or removed.
                let all = |_: &EventKey| Some(());
                open.pass_by(sides, all, |candidates, joined| join_common_shift(candidates, sides, joined));
            }
            joined.append(&mut open.pairs);
            join_unambiguous_shifts(Candidates { old: &mut open.old, new: &mut open.new }, sides, joined);
        });
    }

    /// Step 3: equal time and location under another code, if unambiguous.
    pub fn by_time_and_location(&mut self, sides: &Sides<'_>) {
        let known_time = |key| Some(EventKey::time_key(key)).filter(|time| *time != TimeKey::Unknown);
        self.pass_by(sides, known_time, |candidates, joined| {
            join_unambiguous_locations(candidates, sides, joined)
        });
    }
}

/// Returns the keys in order, with their events.
fn sorted<K: Ord>(side: &[usize], key: impl Fn(usize) -> Option<K>) -> (Vec<K>, Vec<usize>) {
    let mut keyed: Vec<_> = side.iter().filter_map(|&event| Some((key(event)?, event))).collect();
    keyed.sort_unstable();
    keyed.into_iter().unzip()
}

/// Returns the end of the run of keys equal to `keys[start]`.
fn end_of_run<K: PartialEq>(keys: &[K], start: usize) -> usize {
    start + keys[start..].iter().take_while(|key| **key == keys[start]).count()
}
