//! Joins partners among the candidates of one key.
//!
//! The result never depends on the order of the lists. The work per event is bounded ([`CHUNK`], [`MAX_CANDIDATES`]);
//! real parcels stay far below these bounds.

use std::cmp::{Ordering, Reverse};

use super::event_key::EventKey;
use super::sides::Sides;

/// Events of both sides with the same key.
pub struct Candidates<'b> {
    pub old: &'b mut [usize],
    pub new: &'b mut [usize],
}

/// Pairs of an old and a new event.
pub type Pairs = Vec<(usize, usize)>;

/// Size of the chunks within which each old event is compared with each new one.
const CHUNK: usize = 32;
/// Maximum number of candidates. With more, a shift or a changed code counts as ambiguous.
const MAX_CANDIDATES: usize = 256;
/// Maximum difference between two time zones, in minutes.
const MAX_SHIFT: i64 = 14 * 60;
/// All differences between time zones are multiples of this, in minutes.
pub const SHIFT_STEP: i64 = 15;

/// Joins events of equal content. Any pairing is right; this one changes least.
pub fn join_twins(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    candidates.old.sort_unstable_by_key(|&old| sides.twin_rank(old));
    candidates.new.sort_unstable_by_key(|&new| &sides.answer[new].raw);
    joined.extend(candidates.old.iter().copied().zip(candidates.new.iter().copied()));
}

/// Joins as many eligible events as possible, the most similar first.
pub fn join_similar(
    candidates: Candidates<'_>,
    sides: &Sides<'_>,
    eligible: impl Fn(&EventKey, &EventKey) -> bool,
    joined: &mut Pairs,
) {
    // Most keys have one event on either side.
    if let (&[old], &[new]) = (&*candidates.old, &*candidates.new) {
        let (before, after) = (sides.old_key(old), sides.new_key(new));
        let fits = eligible(before, after) && before.location().is_compatible(&after.location());
        joined.extend(fits.then_some((old, new)));
        return;
    }
    join_ranked(candidates, sides, joined, |before, after| {
        if eligible(before, after) { before.similarity(after).map(Reverse) } else { None }
    });
}

/// Joins as many events as possible whose time may have been refined, the closest times first.
pub fn join_refined(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    join_ranked(candidates, sides, joined, EventKey::refinement);
}

/// Joins by maximum matching, chunk by chunk. `rank` returns the rank of a possible pair, the smallest first.
fn join_ranked<R: Ord>(
    candidates: Candidates<'_>,
    sides: &Sides<'_>,
    joined: &mut Pairs,
    rank: impl Fn(&EventKey, &EventKey) -> Option<R>,
) {
    candidates.old.sort_unstable_by_key(|&old| sides.old_rank(old));
    candidates.new.sort_unstable_by_key(|&new| sides.new_rank(new));
    for (olds, news) in candidates.old.chunks(CHUNK).zip(candidates.new.chunks(CHUNK)) {
        let mut ranked = Vec::new();
        for (i, &old) in olds.iter().enumerate() {
            for (j, &new) in news.iter().enumerate() {
                ranked.extend(rank(sides.old_key(old), sides.new_key(new)).map(|rank| (rank, i, j)));
            }
        }
        ranked.sort_unstable();
        let edges: Vec<_> = ranked.into_iter().map(|(_, i, j)| (i, j)).collect();
        joined.extend(maximum_matching(&edges).into_iter().map(|(i, j)| (olds[i], news[j])));
    }
}

/// Maximum bipartite matching (Kuhn's algorithm) over `edges`, whose ends are below [`CHUNK`].
///
/// A greedy pass takes the edges in their order. Augmenting paths then match the old events that are left over.
fn maximum_matching(edges: &[(usize, usize)]) -> Pairs {
    let mut neighbours = vec![Vec::new(); CHUNK];
    let mut partner_of_new: [Option<usize>; CHUNK] = [None; CHUNK];
    let mut is_matched = [false; CHUNK];
    for &(old, new) in edges {
        neighbours[old].push(new);
        if !is_matched[old] && partner_of_new[new].is_none() {
            partner_of_new[new] = Some(old);
            is_matched[old] = true;
        }
    }
    for old in (0..CHUNK).filter(|&old| !is_matched[old]) {
        augment(old, &neighbours, &mut partner_of_new, &mut [false; CHUNK]);
    }
    let pairs = partner_of_new.into_iter().enumerate();
    pairs.filter_map(|(new, old)| Some((old?, new))).collect()
}

/// Matches `old` along an augmenting path; returns whether there is one.
fn augment(
    old: usize,
    neighbours: &[Vec<usize>],
    partner_of_new: &mut [Option<usize>; CHUNK],
    visited: &mut [bool; CHUNK],
) -> bool {
    for &new in &neighbours[old] {
        if std::mem::replace(&mut visited[new], true) {
            continue;
        }
        if partner_of_new[new].is_none_or(|other| augment(other, neighbours, partner_of_new, visited)) {
            partner_of_new[new] = Some(old);
            return true;
        }
    }
    false
}

fn is_shift(minutes: i64) -> bool {
    minutes != 0 && minutes.abs() <= MAX_SHIFT && minutes % SHIFT_STEP == 0
}

/// Whether `new` may be `old` with its time shifted by a time zone.
pub fn is_possible_shift(old: &EventKey, new: &EventKey) -> bool {
    let minutes = new.minute().zip(old.minute()).map(|(new, old)| new - old);
    minutes.is_some_and(is_shift) && old.is_compatible(new)
}

/// Joins two or more events shifted by the same amount, if exactly one shift leads from each event of the smaller side
/// to a compatible partner.
pub fn join_common_shift(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    let (olds, news) = (candidates.old, candidates.new);
    if olds.len().min(news.len()) < 2 || olds.len().max(news.len()) > MAX_CANDIDATES {
        return;
    }
    olds.sort_unstable_by_key(|&old| sides.old_rank(old));
    news.sort_unstable_by_key(|&new| sides.new_rank(new));
    let old_minutes: Vec<_> =
        olds.iter().map(|&old| sides.old_key(old).minute().unwrap_or_default()).collect();
    let new_minutes: Vec<_> =
        news.iter().map(|&new| sides.new_key(new).minute().unwrap_or_default()).collect();
    // The first event of the smaller side must have a partner, so its differences are the only possible shifts.
    let mut shifts: Vec<i64> = if olds.len() <= news.len() {
        new_minutes.iter().map(|minute| minute - old_minutes[0]).collect()
    } else {
        old_minutes.iter().map(|minute| new_minutes[0] - minute).collect()
    };
    shifts.sort_unstable();
    shifts.dedup();
    let pairs_by = |shift: i64| {
        let (mut old, mut new, mut pairs) = (0, 0, Vec::new());
        while old < olds.len() && new < news.len() {
            match (old_minutes[old] + shift).cmp(&new_minutes[new]) {
                Ordering::Less => old += 1,
                Ordering::Greater => new += 1,
                Ordering::Equal => {
                    pairs.push((olds[old], news[new]));
                    (old, new) = (old + 1, new + 1);
                }
            }
        }
        let is_complete = pairs.len() == olds.len().min(news.len());
        (is_complete && pairs.iter().all(|&(old, new)| is_plausible(sides, old, new))).then_some(pairs)
    };
    let mut solutions = shifts.into_iter().filter(|&shift| is_shift(shift)).filter_map(pairs_by);
    if let (Some(pairs), None) = (solutions.next(), solutions.next()) {
        joined.extend(pairs);
    }
}

/// Whether a shifted pair is compatible and does not jump from the end of the list to its head.
fn is_plausible(sides: &Sides<'_>, old: usize, new: usize) -> bool {
    sides.old_key(old).is_compatible(sides.new_key(new)) && !sides.jumps(old, new)
}

/// Joins events that are each other's only possible partner by a shift of time zone.
pub fn join_unambiguous_shifts(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    let old_minute = |old: usize| sides.old_key(old).minute().unwrap_or_default();
    let new_minute = |new: usize| sides.new_key(new).minute().unwrap_or_default();
    candidates.old.sort_unstable_by_key(|&old| old_minute(old));
    candidates.new.sort_unstable_by_key(|&new| new_minute(new));
    let fits =
        |old: usize, new: usize| is_shift(new_minute(new) - old_minute(old)) && is_plausible(sides, old, new);
    let new_for = |old: usize| {
        let reach = within_shift(candidates.new, new_minute, old_minute(old));
        only(reach, |new| fits(old, new))
    };
    let old_for = |new: usize| {
        let reach = within_shift(candidates.old, old_minute, new_minute(new));
        only(reach, |old| fits(old, new))
    };
    joined.extend(unambiguous(candidates.old, new_for, old_for));
}

/// Joins events that are each other's only possible partner by a refined time.
pub fn join_unambiguous_refinements(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    join_unambiguous(candidates, sides, joined, |before, after| {
        before.refinement(after).is_some() && before.is_compatible(after)
    });
}

/// Joins events of equal time that are each other's only possible partner by location.
pub fn join_unambiguous_locations(candidates: Candidates<'_>, sides: &Sides<'_>, joined: &mut Pairs) {
    join_unambiguous(candidates, sides, joined, |before, after| {
        before.location().is_compatible(&after.location())
    });
}

fn join_unambiguous(
    candidates: Candidates<'_>,
    sides: &Sides<'_>,
    joined: &mut Pairs,
    fits: impl Fn(&EventKey, &EventKey) -> bool,
) {
    let fits = |old: usize, new: usize| fits(sides.old_key(old), sides.new_key(new));
    let new_for = |old: usize| only(candidates.new, |new| fits(old, new));
    let old_for = |new: usize| only(candidates.old, |old| fits(old, new));
    joined.extend(unambiguous(candidates.old, new_for, old_for));
}

/// Returns the part of `sorted` within the maximum shift of `minute`.
fn within_shift(sorted: &[usize], minute_of: impl Fn(usize) -> i64, minute: i64) -> &[usize] {
    let from = sorted.partition_point(|&other| minute_of(other) < minute - MAX_SHIFT);
    let to = sorted.partition_point(|&other| minute_of(other) <= minute + MAX_SHIFT);
    &sorted[from..to]
}

/// Returns the only candidate that fits; `None` if there are several, or more candidates than [`MAX_CANDIDATES`].
fn only(candidates: &[usize], fits: impl Fn(usize) -> bool) -> Option<usize> {
    if candidates.len() > MAX_CANDIDATES {
        return None;
    }
    let mut fitting = candidates.iter().copied().filter(|&candidate| fits(candidate));
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first)
}

fn unambiguous(
    olds: &[usize],
    new_for: impl Fn(usize) -> Option<usize>,
    old_for: impl Fn(usize) -> Option<usize>,
) -> Pairs {
    let pairs = olds.iter().filter_map(|&old| Some((old, new_for(old)?)));
    pairs.filter(|&(old, new)| old_for(new) == Some(old)).collect()
}
