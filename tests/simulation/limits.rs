//! The invariants of discovery and of the monthly budget.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use trackpost::domain::label::LabelState;
use trackpost::domain::polling::budget::{Budget, Month};
use trackpost::domain::time::signed;

use super::checks::LATE;
use super::world::World;

/// A listed label is registered, and a voided one dropped, at most this long after it could be: the longest pause after
/// failed requests, the interval, and the pauses between pages.
const SOON: SignedDuration = SignedDuration::from_hours(3);
/// The wait that counts for a label that is due without one.
const FIRST_WAIT: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Default)]
pub struct Limits {
    /// Requests sent in each month of the wall clock, by its start.
    months: BTreeMap<Timestamp, u64>,
    /// Real time of the last request, of the last jump of the clock, or of the last start that counted requests as sent.
    last_request: Option<Timestamp>,
    /// By the row of a waiting label and the row of another label: the waits of the other label that ended with a poll
    /// meanwhile, as their sum and the longest, in seconds.
    passed_over: BTreeMap<(i64, i64), (f64, f64)>,
    /// Latest `created_at` from which a walk without a position began.
    listed_from: Option<Timestamp>,
}

impl Limits {
    pub fn requested(&mut self, now: Timestamp, wall: Timestamp) {
        *self.months.entry(Month::of(wall).start).or_default() += 1;
        self.last_request = Some(now);
    }

    /// Requests that the daemon had reserved when it died count as sent.
    pub fn counted_reserved(&mut self, now: Timestamp) {
        self.last_request = Some(now);
    }

    pub fn jumped(&mut self, now: Timestamp) {
        self.last_request = Some(now);
        self.passed_over.clear();
    }

    pub fn listed(&mut self, from: Timestamp) {
        self.listed_from = self.listed_from.max(Some(from));
    }
}

impl World {
    /// A poll of `row` is sent.
    pub fn count_passed_over(&mut self, row: i64) {
        let is_waiting = |other: &i64| self.checks.promised.get(other).is_some_and(|at| *at < self.now);
        let waiting: Vec<i64> =
            self.polled_labels().filter(|other| *other != row && is_waiting(other)).collect();
        let passed_over = &mut self.checks.limits.passed_over;
        passed_over.retain(|(other, _), _| waiting.contains(other));
        let wait = self.checks.waits.get(&row).map_or(0.0, SignedDuration::as_secs_f64);
        for other in waiting {
            let again = |(sum, longest): &mut (f64, f64)| (*sum, *longest) = (*sum + wait, longest.max(wait));
            passed_over.entry((other, row)).and_modify(again).or_default();
        }
    }

    pub fn check_budget(&mut self) -> Result<(), String> {
        let limit = self.account.requests_per_month;
        if limit == 0 {
            return Ok(());
        }
        let limits = &mut self.checks.limits;
        if let Some((month, requests)) = limits.months.iter().find(|(_, requests)| **requests > limit) {
            return Err(format!("{requests} requests in the month of {month}, the budget is {limit}"));
        }
        if self.checks.disturbed {
            limits.passed_over.clear();
            return Ok(());
        }
        let passed_over = self.checks.limits.passed_over.iter();
        let is_waiting = |row: &i64| self.checks.promised.get(row).is_some_and(|at| *at < self.now);
        for ((waiting, other), (passed, longest)) in passed_over.filter(|((row, _), _)| is_waiting(row)) {
            let wait =
                |row| self.checks.waits.get(row).copied().unwrap_or_default().max(FIRST_WAIT).as_secs_f64();
            let waits = self
                .checks
                .promised
                .get(waiting)
                .map_or(0.0, |at| self.now.duration_since(*at).as_secs_f64());
            // While the stretch grows, a label with a shorter wait is polled again meanwhile; the sum of its waits
            // grows with the logarithm of the time passed.
            let most = 3.0 * wait(waiting) * (1.0 + waits / wait(waiting)).ln_1p() + 2.0 * longest;
            if *passed > most {
                return Err(format!(
                    "label {other} is polled again and again while {waiting} waits for {waits} s: {passed} s of at most \
                     {most} s"
                ));
            }
        }
        let waiting = self.polled_labels().filter_map(|row| self.checks.promised.get(&row)).min();
        let since =
            waiting.max(self.checks.disturbed_until.as_ref()).max(self.checks.limits.last_request.as_ref());
        let (Some(_), Some(since)) = (waiting, since.copied()) else { return Ok(()) };
        let wall = since + self.skew;
        let used =
            self.db.months.get(&Month::of(wall).start).copied().unwrap_or(0) + u64::from(self.db.reserved);
        let mut budget = Budget::new(limit, used, wall)
            .with_lately([(wall, usize::MAX)])
            .with_months(self.db.months.clone());
        let mut free_at = wall;
        // The next month may have requests already, from before the clock was set back.
        while let Some(at) = budget.free_at(free_at) {
            free_at = at;
        }
        if self.now > since + free_at.duration_since(wall) + LATE {
            return Err(format!(
                "a label is due and no request is sent since {since}, the budget allows one: {used} of {limit} used, \
                 free at {free_at} by the wall clock, which is {} ahead",
                self.skew
            ));
        }
        Ok(())
    }

    /// Labels that discovery added are due at once.
    pub fn follow_discovery(&mut self) {
        for (row, times) in self.db.discovered.clone() {
            if times > 1 {
                self.checks.wrong(format!("discovery registered label {row} {times} times"));
            }
            if !self.checks.promised.contains_key(&row) {
                self.checks.promise(row, self.now, SignedDuration::ZERO);
            }
        }
    }

    /// Listed labels that discovery must know, each with its row and the real time since when, and whether it was voided.
    fn listed_labels(&self) -> impl Iterator<Item = (i64, Timestamp, bool)> {
        let registered = self.api.ids.len() - self.api.listed.len();
        let lookback = signed(self.account.discover.lookback);
        // The first walk goes back from the wall clock. A clock far ahead hides all labels.
        let position = self.db.discovery.position;
        let hidden = position.is_none_or(|at| at > self.now) && self.skew > lookback;
        let from = self.checks.limits.listed_from.filter(|from| *from < self.began);
        let listed = self.api.listed.iter().zip(registered as i64 + 1..);
        let listed = listed.filter(move |(listed, _)| {
            !hidden && from.is_none_or(|from| listed.created_at(self.began) >= from)
        });
        listed.filter_map(|(listed, row)| {
            let completed = listed.completed_at(self.began);
            match listed.voided_at(self.began) {
                Some(at) if at <= self.now => Some((row, at, true)),
                _ => (completed <= self.now).then_some((row, completed, false)),
            }
        })
    }

    fn is_discovered(&self, row: i64, voided: bool) -> bool {
        if !voided {
            return self.db.labels.contains_key(&row);
        }
        let by_discovery = |row| self.db.registrations.get(row).is_some_and(|known| known.by_discovery);
        let polled =
            |row| self.db.labels.get(row).is_some_and(|label| label.poll_state.state != LabelState::Removed);
        !(by_discovery(&row) && polled(&row))
    }

    pub fn is_all_discovered(&self) -> bool {
        self.listed_labels().all(|(row, _, voided)| voided || self.is_discovered(row, false))
    }

    pub fn check_discovery(&self) -> Result<(), String> {
        if self.account.requests_per_month > 0 {
            return Ok(());
        }
        let soon = |at: Timestamp, voided: bool| {
            let at = self.checks.disturbed_until.map_or(at, |disturbed| at.max(disturbed)).max(self.began);
            at + SOON + SignedDuration::from_hours(voided.into())
        };
        let missed = self
            .listed_labels()
            .find(|(row, at, voided)| self.now > soon(*at, *voided) && !self.is_discovered(*row, *voided));
        let Some((row, at, voided)) = missed else { return Ok(()) };
        let what = if voided { "voided and still polled" } else { "listed and not registered" };
        Err(format!("label {row} is {what}, since {at}; {:?}, skew {}", self.db.discovery, self.skew))
    }
}
