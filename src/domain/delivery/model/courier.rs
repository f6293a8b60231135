//! The simulated courier: takes deliveries from memory and starts attempts.

use super::Behaviour;
use super::simulation::{InFlight, PER_LANE, Simulation, at};
use crate::domain::delivery::concurrency::Concurrency;
use crate::domain::delivery::health::Allowed;
use crate::domain::delivery::outbox::{AttemptKind, NextRead};
use crate::domain::delivery::outcome::Outcome;

impl Simulation {
    /// Takes `count` deliveries from memory. If memory is complete, they must equal the deliveries of the table
    /// (`expected`), else they must be deliveries that may be attempted.
    fn take(&mut self, kind: AttemptKind, expected: &[usize], count: usize, probe: Option<bool>) {
        for next in &expected[..count] {
            let taken = match probe {
                Some(newest) => self.memory.take_probe(newest, at(self.now)),
                None => self.memory.take(kind, at(self.now)),
            };
            let taken = taken.expect("memory has as many due deliveries as the table").key as usize;
            if self.memory.is_complete() {
                assert_eq!(taken, *next);
            }
            self.start(taken, probe.is_some());
        }
    }

    fn read_next(&mut self) {
        for round in 0.. {
            assert!(round < 100, "reading does not end");
            match self.memory.next_read(at(self.now)) {
                NextRead::Nothing => return,
                NextRead::Heads => self.memory.load(self.read()),
                NextRead::Lanes(lanes) => {
                    for lane in lanes {
                        let read: Vec<usize> = self.of_lane(lane as usize).take(PER_LANE).collect();
                        let more = read.len() == PER_LANE;
                        let read = read.into_iter().map(|message| self.pending(message)).collect();
                        self.memory.load_lane(lane, read, more);
                    }
                }
            }
        }
    }

    pub(super) fn fill(&mut self) {
        let max = self.history.max_in_flight;
        if std::mem::take(&mut self.stale) {
            self.memory.load(self.read());
        }
        let (mut first, retries) = (self.due(false), self.due(true));
        match self.health.allowed(max, at(self.now)) {
            Allowed::Nothing { .. } => {}
            Allowed::Probe { newest } if self.in_flight.is_empty() => {
                if !self.memory.is_complete() {
                    self.memory.load(self.read());
                }
                if newest {
                    first.reverse();
                }
                let any = first.len() + retries.len();
                let expected = [first, retries].concat();
                self.take(AttemptKind::First, &expected, any.min(1), Some(newest));
            }
            Allowed::Probe { .. } => {}
            Allowed::Attempts { at_once } => {
                self.read_next();
                let concurrency = Concurrency {
                    max_in_flight: max as usize,
                    allowed: at_once as usize,
                    in_flight: self.in_flight.len(),
                    retries_in_flight: self.in_flight.iter().filter(|in_flight| in_flight.retry).count(),
                    first_in_a_row: self.first_in_a_row,
                };
                let due = |kind| self.memory.due_count(kind, at(self.now), usize::MAX);
                let due = (due(AttemptKind::First), due(AttemptKind::Retry));
                if self.memory.is_complete() {
                    assert_eq!(due, (first.len(), retries.len()));
                }
                assert!(
                    (due.0 == 0) == first.is_empty() || concurrency.free() == 0,
                    "{due:?}, but {first:?}"
                );
                let split = concurrency.split(due.0, due.1);
                self.first_in_a_row = concurrency.in_a_row_after(split);
                self.take(AttemptKind::Retry, &retries, split.1, None);
                self.take(AttemptKind::First, &first, split.0, None);
            }
        }
        let probes = self.in_flight.iter().filter(|in_flight| in_flight.probe).count();
        assert!(self.in_flight.len() <= max as usize && probes <= 1);
    }

    fn start(&mut self, message: usize, probe: bool) {
        let lane = self.outbox[message].lane;
        let already = self.in_flight.iter().any(|in_flight| self.outbox[in_flight.message].lane == lane);
        assert!(!already, "two attempts of lane {lane} in flight");
        assert!(!self.earlier_pending(message), "{message} overtakes another of its lane");
        self.requests += 1;
        let (outcome, takes, retry_after) = match self.behaviour() {
            Behaviour::Fails(outcome, takes) => (outcome, takes, None),
            Behaviour::Throttles(status, wait) => (Outcome::ErrorStatus { status }, 0, Some(wait)),
            Behaviour::Refuses(refused) if refused.contains(&lane) => {
                (Outcome::ErrorStatus { status: 422 }, 1, None)
            }
            Behaviour::Flaky if self.requests.is_multiple_of(3) => {
                (Outcome::ErrorStatus { status: 500 }, 0, None)
            }
            _ => (Outcome::Accepted { status: 200 }, 1, None),
        };
        let retry = self.outbox[message].attempts > 0;
        self.in_flight.push(InFlight { message, ends: self.now + takes, outcome, retry_after, probe, retry });
    }
}
