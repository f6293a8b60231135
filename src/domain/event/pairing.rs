//! Finds partners: the passes by which the old and the new side are joined.
//!
//! Each pass takes what the ones before left open, sorts both sides into buckets by a key, and joins within a bucket.
//! Choices are made by what events say and by the ids they have, never by where they stood in a list. No pass is
//! quadratic: where a bucket grows beyond any real parcel, it is cut into pieces or declared ambiguous.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::canonical::Form;
use super::matching::Bench;
use super::sighting::Sighting;

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
const PIECE: usize = 64;
/// How many candidates are looked at before somebody's shift counts as ambiguous.
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
        let joined = buckets.into_values().filter(|bucket| !bucket.news.is_empty()).flat_map(&mut join);
        let joined: Vec<_> = joined.collect();
        self.settle(joined);
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
        self.pass(
            |old| Some(bench.known[old].raw.as_str()),
            |new| Some(bench.answer[new].raw.as_str()),
            |bucket| in_order(bucket, bench),
        );
    }

    /// Step 1: equal canonical form.
    pub fn by_form(&mut self, bench: &Bench<'_>) {
        self.pass(
            |old| bench.known[old].form(),
            |new| Some(bench.after(new).form),
            |bucket| in_order(bucket, bench),
        );
        // Forms stored by a version that folded otherwise are no reason to speak: the raw event decides.
        self.pass(
            |old| Some(bench.before(old).form),
            |new| Some(bench.after(new).form),
            |bucket| in_order(bucket, bench),
        );
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
        let key = |sighting: &Sighting| Some((sighting.moment.clone(), sighting.code.clone()));
        self.pass(
            |old| key(bench.before(old)),
            |new| key(bench.after(new)),
            |bucket| closest(bucket, bench, |_, _| true),
        );
        // The carrier's time was filled in, or fell away: the other clock still tells.
        let key = |sighting: &Sighting| Some((sighting.occurred_minute()?, sighting.code.clone()));
        self.pass(
            |old| key(bench.before(old)),
            |new| key(bench.after(new)),
            |bucket| closest(bucket, bench, |old, new| !(old.has_carrier_time() && new.has_carrier_time())),
        );
    }

    /// Step 3: same code and a place that does not contradict, the time moved by as much as a zone can.
    pub fn by_shift(&mut self, bench: &Bench<'_>) {
        let residue = |sighting: &Sighting| sighting.minute().map(|minute| minute.rem_euclid(SHIFT_STEP));
        // Several of a kind that all moved alike: one zone was corrected for all of them.
        let key =
            |sighting: &Sighting| Some((residue(sighting)?, sighting.code.clone(), sighting.place.clone()));
        self.pass(
            |old| key(bench.before(old)),
            |new| key(bench.after(new)),
            |bucket| moved_together(bucket, bench),
        );
        let key = |sighting: &Sighting| Some((residue(sighting)?, sighting.code.clone()));
        self.pass(
            |old| key(bench.before(old)),
            |new| key(bench.after(new)),
            |bucket| sole_shifts(bucket, bench),
        );
    }

    /// Step 3: same time key and place under another code, when there is no other choice.
    pub fn by_moment_and_place(&mut self, bench: &Bench<'_>) {
        let key = |sighting: &Sighting| {
            (sighting.moment != super::sighting::Moment::Unknown).then(|| sighting.moment.clone())
        };
        self.pass(
            |old| key(bench.before(old)),
            |new| key(bench.after(new)),
            |bucket| {
                if bucket.olds.len().max(bucket.news.len()) > PIECE {
                    return Vec::new();
                }
                let fits = |old: usize, new: usize| bench.before(old).place.fits(&bench.after(new).place);
                sole(
                    &bucket,
                    |old| bucket.news.iter().copied().filter(|&new| fits(old, new)).collect(),
                    |new| bucket.olds.iter().copied().filter(|&old| fits(old, new)).collect(),
                )
            },
        );
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

/// Joins the most alike first, as long as anything fits.
fn closest(
    mut bucket: Bucket,
    bench: &Bench<'_>,
    eligible: impl Fn(&Sighting, &Sighting) -> bool,
) -> Vec<(usize, usize)> {
    bucket.olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    bucket.news.sort_unstable_by_key(|&new| bench.new_rank(new));
    let mut joined = Vec::new();
    for (olds, news) in bucket.olds.chunks(PIECE).zip(bucket.news.chunks(PIECE)) {
        let mut candidates = Vec::new();
        for (i, &old) in olds.iter().enumerate() {
            for (j, &new) in news.iter().enumerate() {
                let (before, after) = (bench.before(old), bench.after(new));
                if eligible(before, after) {
                    candidates.extend(before.closeness(after).map(|closeness| (Reverse(closeness), i, j)));
                }
            }
        }
        candidates.sort_unstable();
        let (mut old_taken, mut new_taken) = ([false; PIECE], [false; PIECE]);
        for (_, i, j) in candidates {
            if !old_taken[i] && !new_taken[j] {
                (old_taken[i], new_taken[j]) = (true, true);
                joined.push((olds[i], news[j]));
            }
        }
    }
    joined
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

/// Who has exactly one candidate, and is the only candidate of it.
fn sole_shifts(mut bucket: Bucket, bench: &Bench<'_>) -> Vec<(usize, usize)> {
    let old_minute = |old: usize| bench.before(old).minute().unwrap_or_default();
    let new_minute = |new: usize| bench.after(new).minute().unwrap_or_default();
    bucket.olds.sort_unstable_by_key(|&old| old_minute(old));
    bucket.news.sort_unstable_by_key(|&new| new_minute(new));
    let fits = |old: usize, new: usize| {
        is_shift(new_minute(new) - old_minute(old)) && bench.before(old).place.fits(&bench.after(new).place)
    };
    sole(
        &bucket,
        |old| {
            let from = bucket.news.partition_point(|&new| new_minute(new) < old_minute(old) - LONGEST_SHIFT);
            few(
                bucket.news[from..].iter().copied(),
                |new| new_minute(new) <= old_minute(old) + LONGEST_SHIFT,
                |new| fits(old, new),
            )
        },
        |new| {
            let from = bucket.olds.partition_point(|&old| old_minute(old) < new_minute(new) - LONGEST_SHIFT);
            few(
                bucket.olds[from..].iter().copied(),
                |old| old_minute(old) <= new_minute(new) + LONGEST_SHIFT,
                |old| fits(old, new),
            )
        },
    )
}

/// The candidates within reach; too many to look at all are as good as none.
fn few(
    candidates: impl Iterator<Item = usize>,
    within: impl Fn(usize) -> bool,
    fits: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let within: Vec<_> = candidates.take_while(|&candidate| within(candidate)).take(CANDIDATES).collect();
    if within.len() == CANDIDATES {
        return Vec::new();
    }
    within.into_iter().filter(|&candidate| fits(candidate)).take(2).collect()
}

fn sole(
    bucket: &Bucket,
    candidates_of_old: impl Fn(usize) -> Vec<usize>,
    candidates_of_new: impl Fn(usize) -> Vec<usize>,
) -> Vec<(usize, usize)> {
    let partner = |old: usize| match candidates_of_old(old)[..] {
        [new] if candidates_of_new(new).len() == 1 => Some((old, new)),
        _ => None,
    };
    bucket.olds.iter().filter_map(|&old| partner(old)).collect()
}
