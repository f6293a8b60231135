//! Finds partners: the passes by which the old and the new side are joined.
//!
//! Each pass takes what the ones before left open, sorts both sides into buckets by a key, and joins within a bucket.
//! Choices are made by what events say and by the ids they have, never by where they stood in a list. No pass is
//! quadratic: where a bucket grows beyond any real parcel, it is cut into pieces or declared ambiguous.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::canonical::Form;
use super::matching::Bench;
use super::sighting::{Moment, Sighting};

/// What has no partner yet, and who has found one. Indices into the lists of the poll.
pub struct Open {
    pub olds: Vec<usize>,
    pub news: Vec<usize>,
    pub pairs: Vec<(usize, usize)>,
}

/// One key's share of both sides.
#[derive(Default)]
struct Bucket {
    olds: Vec<usize>,
    news: Vec<usize>,
}

/// Within a bucket every old one is compared with every new one up to this many on each side.
const PIECE: usize = 32;
/// With more candidates than this, whom a shift or a changed code belongs to counts as ambiguous.
const CANDIDATES: usize = 256;
/// No zone is further from another.
const LONGEST_SHIFT: i64 = 14 * 60;
/// Every zone is a multiple of this from every other.
const SHIFT_STEP: i64 = 15;

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

/// Events that say the same: any pairing is right, so the one that changes least.
fn in_order(mut bucket: Bucket, bench: &Bench<'_>) -> Vec<(usize, usize)> {
    if bucket.olds.len() > 1 || bucket.news.len() > 1 {
        bucket.olds.sort_unstable_by_key(|&old| bench.twin_rank(old));
        bucket.news.sort_unstable_by_key(|&new| &bench.answer[new].raw);
    }
    bucket.olds.into_iter().zip(bucket.news).collect()
}

/// Joins as many as fit, the most alike first.
fn closest(
    mut bucket: Bucket,
    bench: &Bench<'_>,
    eligible: impl Fn(&Sighting, &Sighting) -> bool,
) -> Vec<(usize, usize)> {
    bucket.olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    bucket.news.sort_unstable_by_key(|&new| bench.new_rank(new));
    let mut joined = Vec::new();
    for (olds, news) in bucket.olds.chunks(PIECE).zip(bucket.news.chunks(PIECE)) {
        let mut fitting = Vec::new();
        for (i, &old) in olds.iter().enumerate() {
            for (j, &new) in news.iter().enumerate() {
                let (before, after) = (bench.before(old), bench.after(new));
                if eligible(before, after) {
                    fitting.extend(before.closeness(after).map(|closeness| (Reverse(closeness), i, j)));
                }
            }
        }
        fitting.sort_unstable();
        let fitting: Vec<_> = fitting.into_iter().map(|(_, i, j)| (i, j)).collect();
        joined.extend(most_couples(&fitting).into_iter().map(|(i, j)| (olds[i], news[j])));
    }
    joined
}

/// The first of `fitting` (both sides below [`PIECE`]) whose partners are free, then, so that nobody who could have a
/// partner stays alone, others make room.
fn most_couples(fitting: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut wishes = vec![Vec::new(); PIECE];
    let mut partner_of_new: [Option<usize>; PIECE] = [None; PIECE];
    let mut has_partner = [false; PIECE];
    for &(old, new) in fitting {
        wishes[old].push(new);
        if !has_partner[old] && partner_of_new[new].is_none() {
            partner_of_new[new] = Some(old);
            has_partner[old] = true;
        }
    }
    for old in (0..PIECE).filter(|&old| !has_partner[old]) {
        find_room(old, &wishes, &mut partner_of_new, &mut [false; PIECE]);
    }
    let couples = partner_of_new.into_iter().enumerate();
    couples.filter_map(|(new, old)| Some((old?, new))).collect()
}

fn find_room(
    old: usize,
    wishes: &[Vec<usize>],
    partner_of_new: &mut [Option<usize>; PIECE],
    asked: &mut [bool; PIECE],
) -> bool {
    for &new in &wishes[old] {
        if std::mem::replace(&mut asked[new], true) {
            continue;
        }
        if partner_of_new[new].is_none_or(|rival| find_room(rival, wishes, partner_of_new, asked)) {
            partner_of_new[new] = Some(old);
            return true;
        }
    }
    false
}

fn is_shift(minutes: i64) -> bool {
    minutes != 0 && minutes.abs() <= LONGEST_SHIFT && minutes % SHIFT_STEP == 0
}

/// As many old ones as new ones, at least two, and one shift leads from each to its partner.
fn moved_together(mut bucket: Bucket, bench: &Bench<'_>) -> Vec<(usize, usize)> {
    if bucket.olds.len() != bucket.news.len() || bucket.olds.len() < 2 {
        return Vec::new();
    }
    bucket.olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    bucket.news.sort_unstable_by_key(|&new| bench.new_rank(new));
    let pairs: Vec<_> = bucket.olds.into_iter().zip(bucket.news).collect();
    let shift = |&(old, new): &(usize, usize)| Some(bench.after(new).minute()? - bench.before(old).minute()?);
    let common = shift(&pairs[0]);
    if common.is_some_and(is_shift) && pairs.iter().all(|pair| shift(pair) == common) {
        pairs
    } else {
        Vec::new()
    }
}

/// Who is the only candidate of its only candidate, among those in reach of a shift.
fn sole_shifts(mut bucket: Bucket, bench: &Bench<'_>) -> Vec<(usize, usize)> {
    let old_minute = |old: usize| bench.before(old).minute().unwrap_or_default();
    let new_minute = |new: usize| bench.after(new).minute().unwrap_or_default();
    bucket.olds.sort_unstable_by_key(|&old| old_minute(old));
    bucket.news.sort_unstable_by_key(|&new| new_minute(new));
    let fits = |old: usize, new: usize| {
        is_shift(new_minute(new) - old_minute(old)) && bench.before(old).fits(bench.after(new))
    };
    let news_for = |old: usize| {
        let reach = in_reach(&bucket.news, new_minute, old_minute(old));
        only(reach, |new| fits(old, new))
    };
    let olds_for = |new: usize| {
        let reach = in_reach(&bucket.olds, old_minute, new_minute(new));
        only(reach, |old| fits(old, new))
    };
    sole(&bucket.olds, news_for, olds_for)
}

/// Who is the only candidate of its only candidate, among those of one moment.
fn sole_neighbours(bucket: Bucket, bench: &Bench<'_>) -> Vec<(usize, usize)> {
    let fits = |old: usize, new: usize| bench.before(old).place.fits(&bench.after(new).place);
    let news_for = |old: usize| only(&bucket.news, |new| fits(old, new));
    let olds_for = |new: usize| only(&bucket.olds, |old| fits(old, new));
    sole(&bucket.olds, news_for, olds_for)
}

/// The part of `sorted` that is no further than a shift from `minute`.
fn in_reach(sorted: &[usize], minute_of: impl Fn(usize) -> i64, minute: i64) -> &[usize] {
    let from = sorted.partition_point(|&other| minute_of(other) < minute - LONGEST_SHIFT);
    let to = sorted.partition_point(|&other| minute_of(other) <= minute + LONGEST_SHIFT);
    &sorted[from..to]
}

/// The one candidate that fits. Where there are too many to look at, nothing is said to be the only one.
fn only(candidates: &[usize], fits: impl Fn(usize) -> bool) -> Option<usize> {
    if candidates.len() > CANDIDATES {
        return None;
    }
    let mut fitting = candidates.iter().copied().filter(|&candidate| fits(candidate));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn sole(
    olds: &[usize],
    news_for: impl Fn(usize) -> Option<usize>,
    olds_for: impl Fn(usize) -> Option<usize>,
) -> Vec<(usize, usize)> {
    let couples = olds.iter().filter_map(|&old| Some((old, news_for(old)?)));
    couples.filter(|&(old, new)| olds_for(new) == Some(old)).collect()
}
