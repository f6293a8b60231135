//! Runs a history to its end and checks the result.

use super::simulation::{Simulation, State, seconds};
use super::{MAX_RETRY_AFTER, SCHEDULE};
use crate::domain::delivery::health::HealthState;

impl Simulation {
    /// Next second in which anything happens.
    fn next(&self) -> i64 {
        let pending = self.outbox.iter().filter(|delivery| delivery.state == State::Pending);
        let waits = pending.map(|delivery| seconds(delivery.schedule.next.at));
        let ends = self.in_flight.iter().map(|in_flight| in_flight.ends);
        let made = self.history.messages.iter().map(|(_, when)| *when);
        let actions = self.history.actions.iter().map(|(when, _)| *when);
        let open = [self.health.probe_at, self.health.held_until].into_iter().flatten();
        let open = open.map(seconds);
        let all = waits.chain(ends).chain(made).chain(actions).chain(open).chain([self.calm_from()]);
        all.filter(|when| *when > self.now).min().unwrap_or(self.now + 1)
    }

    pub(super) fn run(&mut self) {
        // The longest possible waits, one after another: `Retry-After`, the slowest probe, the whole schedule.
        let wait: i64 = SCHEDULE.iter().map(|wait| wait.as_secs() as i64).sum();
        let end = self.calm_from() + MAX_RETRY_AFTER + 300 + wait + 60;
        while self.now <= end {
            self.tick();
            // A due delivery that may not start waits for the end of an attempt, or for health.
            let ended = self.in_flight.iter().any(|in_flight| in_flight.ends <= self.now);
            self.now = if ended { self.now + 1 } else { self.next() };
        }
    }

    pub(super) fn check(&self) {
        for (message, delivery) in self.outbox.iter().enumerate() {
            assert!(
                matches!(delivery.state, State::Delivered | State::Dead),
                "{message} is {:?} in the end: {delivery:?}, {:?}",
                delivery.state,
                self.health
            );
        }
        let again = |message: usize| self.outbox[message].queued_again;
        for lane in 0..8 {
            let of_lane = self.accepted.iter().filter(|(_, message)| self.outbox[*message].lane == lane);
            let order: Vec<usize> =
                of_lane.map(|(_, message)| *message).filter(|message| !again(*message)).collect();
            assert!(order.is_sorted(), "lane {lane} was accepted as {order:?}");
        }
        let mut once: Vec<usize> =
            self.accepted.iter().map(|(_, message)| *message).filter(|message| !again(*message)).collect();
        let all = once.len();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all, "accepted twice");
        assert_eq!(self.health.state, HealthState::Ok);
    }
}
