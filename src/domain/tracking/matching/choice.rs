//! Chooses partners within a bucket of events that might belong together.
//!
//! Who says the same, who is closest, who is without a rival: three ways to choose, each the same for any order of the
//! lists. None looks at more than a bounded number of couples per event; real parcels never come near the bounds.

use std::cmp::{Ordering, Reverse};

use super::sighting::Sighting;
use crate::domain::tracking::matching::compare::Bench;

/// One key's share of both sides.
pub struct Bucket<'b> {
    pub olds: &'b mut [usize],
    pub news: &'b mut [usize],
}

impl Bucket<'_> {
    /// The only one of either side.
    fn only_couple(&self) -> Option<(usize, usize)> {
        match (&*self.olds, &*self.news) {
            (&[old], &[new]) => Some((old, new)),
            _ => None,
        }
    }
}

/// Who has found each other: an old one and a new one.
pub type Couples = Vec<(usize, usize)>;

/// Within a bucket every old one is compared with every new one up to this many on each side.
const PIECE: usize = 32;
/// With more candidates than this, whom a shift or a changed code belongs to counts as ambiguous.
const CANDIDATES: usize = 256;
/// No zone is further from another.
const LONGEST_SHIFT: i64 = 14 * 60;
/// Every zone is a multiple of this from every other.
pub const SHIFT_STEP: i64 = 15;

/// Events that say the same: any pairing is right, so the one that changes least.
pub fn in_order(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    bucket.olds.sort_unstable_by_key(|&old| bench.twin_rank(old));
    bucket.news.sort_unstable_by_key(|&new| &bench.answer[new].raw);
    joined.extend(bucket.olds.iter().copied().zip(bucket.news.iter().copied()));
}

/// Joins as many as fit, the most alike first.
pub fn closest(
    bucket: Bucket<'_>,
    bench: &Bench<'_>,
    eligible: impl Fn(&Sighting, &Sighting) -> bool,
    joined: &mut Couples,
) {
    if let Some((old, new)) = bucket.only_couple() {
        let (before, after) = (bench.before(old), bench.after(new));
        joined.extend((eligible(before, after) && before.place().fits(&after.place())).then_some((old, new)));
        return;
    }
    bucket.olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    bucket.news.sort_unstable_by_key(|&new| bench.new_rank(new));
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
}

/// Joins as many as may be refined into each other, those whose times are closest first.
pub fn refined(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    bucket.olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    bucket.news.sort_unstable_by_key(|&new| bench.new_rank(new));
    for (olds, news) in bucket.olds.chunks(PIECE).zip(bucket.news.chunks(PIECE)) {
        let mut fitting = Vec::new();
        for (i, &old) in olds.iter().enumerate() {
            for (j, &new) in news.iter().enumerate() {
                let apart = bench.before(old).refinement(bench.after(new));
                fitting.extend(apart.map(|apart| (apart, i, j)));
            }
        }
        fitting.sort_unstable();
        let fitting: Vec<_> = fitting.into_iter().map(|(_, i, j)| (i, j)).collect();
        joined.extend(most_couples(&fitting).into_iter().map(|(i, j)| (olds[i], news[j])));
    }
}

/// Who is the only candidate of its only candidate, among those whose time may have been refined.
pub fn sole_refinements(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    let fits = |old: usize, new: usize| {
        let (before, after) = (bench.before(old), bench.after(new));
        before.refinement(after).is_some() && before.fits(after)
    };
    let news_for = |old: usize| only(bucket.news, |new| fits(old, new));
    let olds_for = |new: usize| only(bucket.olds, |old| fits(old, new));
    joined.extend(sole(bucket.olds, news_for, olds_for));
}

/// The first of `fitting` (both sides below [`PIECE`]) whose partners are free, then, so that nobody who could have a
/// partner stays alone, others make room.
fn most_couples(fitting: &[(usize, usize)]) -> Couples {
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

/// Whether `new` may be `old` with its clock moved, as far as the two of them tell.
pub fn may_have_moved(old: &Sighting, new: &Sighting) -> bool {
    let minutes = new.minute().zip(old.minute()).map(|(new, old)| new - old);
    minutes.is_some_and(is_shift) && old.fits(new)
}

/// Two or more that moved alike: one shift, and no other, leads from everyone on the smaller side to a partner who fits.
pub fn moved_together(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    let (olds, news) = (bucket.olds, bucket.news);
    if olds.len().min(news.len()) < 2 || olds.len().max(news.len()) > CANDIDATES {
        return;
    }
    olds.sort_unstable_by_key(|&old| bench.old_rank(old));
    news.sort_unstable_by_key(|&new| bench.new_rank(new));
    let old_minutes: Vec<_> =
        olds.iter().map(|&old| bench.before(old).minute().unwrap_or_default()).collect();
    let new_minutes: Vec<_> = news.iter().map(|&new| bench.after(new).minute().unwrap_or_default()).collect();
    // Whoever is first on the smaller side has a partner.
    let mut shifts: Vec<i64> = if olds.len() <= news.len() {
        new_minutes.iter().map(|minute| minute - old_minutes[0]).collect()
    } else {
        old_minutes.iter().map(|minute| new_minutes[0] - minute).collect()
    };
    shifts.sort_unstable();
    shifts.dedup();
    let by = |shift: i64| {
        let (mut old, mut new, mut couples) = (0, 0, Vec::new());
        while old < olds.len() && new < news.len() {
            match (old_minutes[old] + shift).cmp(&new_minutes[new]) {
                Ordering::Less => old += 1,
                Ordering::Greater => new += 1,
                Ordering::Equal => {
                    couples.push((olds[old], news[new]));
                    (old, new) = (old + 1, new + 1);
                }
            }
        }
        let whole = couples.len() == olds.len().min(news.len());
        let fits =
            |&(old, new): &(usize, usize)| bench.before(old).fits(bench.after(new)) && !bench.jumps(old, new);
        (whole && couples.iter().all(fits)).then_some(couples)
    };
    let mut ways = shifts.into_iter().filter(|&shift| is_shift(shift)).filter_map(by);
    if let (Some(couples), None) = (ways.next(), ways.next()) {
        joined.extend(couples);
    }
}

/// Who is the only candidate of its only candidate, among those in reach of a shift.
pub fn sole_shifts(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    let old_minute = |old: usize| bench.before(old).minute().unwrap_or_default();
    let new_minute = |new: usize| bench.after(new).minute().unwrap_or_default();
    bucket.olds.sort_unstable_by_key(|&old| old_minute(old));
    bucket.news.sort_unstable_by_key(|&new| new_minute(new));
    let fits = |old: usize, new: usize| {
        is_shift(new_minute(new) - old_minute(old))
            && bench.before(old).fits(bench.after(new))
            && !bench.jumps(old, new)
    };
    let news_for = |old: usize| {
        let reach = in_reach(bucket.news, new_minute, old_minute(old));
        only(reach, |new| fits(old, new))
    };
    let olds_for = |new: usize| {
        let reach = in_reach(bucket.olds, old_minute, new_minute(new));
        only(reach, |old| fits(old, new))
    };
    joined.extend(sole(bucket.olds, news_for, olds_for));
}

/// Who is the only candidate of its only candidate, among those of one moment.
pub fn sole_neighbours(bucket: Bucket<'_>, bench: &Bench<'_>, joined: &mut Couples) {
    let fits = |old: usize, new: usize| bench.before(old).place().fits(&bench.after(new).place());
    let news_for = |old: usize| only(bucket.news, |new| fits(old, new));
    let olds_for = |new: usize| only(bucket.olds, |old| fits(old, new));
    joined.extend(sole(bucket.olds, news_for, olds_for));
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
) -> Couples {
    let couples = olds.iter().filter_map(|&old| Some((old, news_for(old)?)));
    couples.filter(|&(old, new)| olds_for(new) == Some(old)).collect()
}
