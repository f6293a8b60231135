//! What became of an attempt, and what is next for its delivery.
//!
//! Pure: the schedule, `Retry-After` and the end of a message that fails. What a subscriber that fails as a whole is
//! due is decided in [`super::breaker`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::span::later;

/// How one attempt ended. Anything but [`Outcome::Accepted`] is a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx.
    Accepted { status: u16 },
    /// Any other status; redirects too, they are not followed.
    Refused { status: u16 },
    /// The host has no address.
    NameUnknown,
    /// An address we don't send to, or a URL we can't.
    AddressRefused,
    /// Nobody listens.
    ConnectionRefused,
    /// No TLS was agreed on, or the certificate doesn't hold.
    Tls,
    /// The time limit ran out: before there was a connection, or after.
    TimedOut { connected: bool },
    /// The connection broke.
    Reset,
    /// The message can't be put into the subscriber's form: our fault, and no receiver was asked.
    Unsendable,
}

impl Outcome {
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// The word under which it is recorded.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { .. } => "status",
            Self::NameUnknown => "name",
            Self::AddressRefused => "address",
            Self::ConnectionRefused => "refused",
            Self::Tls => "tls",
            Self::TimedOut { connected: false } => "connect_timeout",
            Self::TimedOut { connected: true } => "timeout",
            Self::Reset => "reset",
            Self::Unsendable => "unsendable",
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Accepted { status } | Self::Refused { status } => Some(*status),
            _ => None,
        }
    }

    /// As people are shown it: the word, and the status if there is one.
    pub fn shown(&self) -> String {
        match self.status() {
            Some(status) => format!("{} {status}", self.as_str()),
            None => self.as_str().to_owned(),
        }
    }
}

/// One attempt, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub started_at: Timestamp,
    pub duration: Duration,
    pub outcome: Outcome,
    /// What went wrong, in words.
    pub detail: Option<String>,
    /// The first KiB of the answer.
    pub answer: Option<String>,
    pub retry_after: Option<Duration>,
}

/// What is next for a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    Delivered,
    Again {
        at: Timestamp,
    },
    /// Kept, counted, shown, replayable; the label goes on.
    Dead,
}

/// How far a delivery has come on its retry schedule. It begins anew when the message is queued again. What a subscriber
/// that fails as a whole does not take is no step of it, nor is what is tried before its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Failures that count.
    pub failures: u32,
    /// When the first of them was; set exactly if there are any.
    pub since: Option<Timestamp>,
    /// When the schedule has the next attempt made; `None` unless it is tried again.
    pub planned_at: Option<Timestamp>,
}

impl Course {
    /// One more failure, at `now`.
    #[must_use]
    pub fn failed(self, now: Timestamp) -> Self {
        let failures = self.failures.saturating_add(1);
        Self { failures, since: self.since.or(Some(now)), planned_at: None }
    }

    /// Whether the subscriber accepted others since this was first refused: then it is the message that is bad.
    pub fn is_proven_bad(self, last_success_at: Option<Timestamp>) -> bool {
        self.since.is_some() && last_success_at >= self.since
    }
}

/// What an attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub next: NextStep,
    pub course: Course,
    /// The answer asked that this message be left alone until then.
    pub asked_until: Option<Timestamp>,
    /// The whole subscriber asked to be left alone until then (429 or 503 with `Retry-After`).
    pub hold_until: Option<Timestamp>,
}

/// `Retry-After` is honoured exactly up to this.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How far jitter moves a wait of the schedule, as a share of it.
pub const JITTER: f64 = 0.10;

/// Decides what follows an attempt that ended at `now`. `course` is the delivery's before it; `schedule` the
/// subscriber's `retry`; `last_success_at` tells when it last accepted anything; `jitter` is -1 to 1.
///
/// A message is dead when its schedule is used up and the subscriber accepted others meanwhile: since the first failure
/// that counts, for what it took before says nothing of now. What is tried before its time and fails waits for that, as
/// if it had not been tried: a subscriber that comes and goes neither wears a schedule out nor prolongs it.
pub fn settle(
    course: Course,
    attempt: &Attempt,
    schedule: &[Duration],
    last_success_at: Option<Timestamp>,
    now: Timestamp,
    jitter: f64,
) -> Settlement {
    let (asked_until, hold_until) = asked(attempt, now);
    let settled = |next, course| Settlement { next, course, asked_until, hold_until };
    if attempt.outcome.is_accepted() {
        return settled(NextStep::Delivered, Course { planned_at: None, ..course });
    }
    if let Some(plan) = course.planned_at.filter(|plan| *plan > now) {
        return settled(NextStep::Again { at: plan.max(asked_until.unwrap_or(plan)) }, course);
    }
    let after_failing = course.failed(now);
    let planned = match schedule.get(course.failures as usize) {
        Some(wait) => *wait,
        None if after_failing.is_proven_bad(last_success_at) => {
            return settled(NextStep::Dead, after_failing);
        }
        // Nobody has got through: it is not this message that is bad.
        None => schedule.last().copied().unwrap_or(LONGEST_RETRY_AFTER),
    };
    let plan = whole_ms_after(now, planned.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)));
    let at = plan.max(asked_until.unwrap_or(plan));
    settled(NextStep::Again { at }, Course { planned_at: Some(plan), ..after_failing })
}

/// Decides what follows an attempt that the subscriber as a whole did not take: it is no step of the schedule, and the
/// message waits for the next probe at `probe_at`. What was just tried lets the others be tried before it.
pub fn spare(course: Course, attempt: &Attempt, probe_at: Option<Timestamp>, now: Timestamp) -> Settlement {
    let (asked_until, hold_until) = asked(attempt, now);
    let at = asked_until.max(Some(probe_at.unwrap_or(now))).unwrap_or(now);
    Settlement { next: NextStep::Again { at }, course, asked_until, hold_until }
}

/// Until when the answer asked that this message be left alone, and the whole subscriber.
fn asked(attempt: &Attempt, now: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
    let asked = attempt.retry_after.filter(|_| !attempt.outcome.is_accepted());
    let until = asked.map(|wait| whole_ms_after(now, wait.min(LONGEST_RETRY_AFTER)));
    (until, until.filter(|_| matches!(attempt.outcome.status(), Some(429 | 503))))
}

/// The end of a wait that begins now, in whole milliseconds, as they are stored; up, so that nothing comes before its
/// time.
fn whole_ms_after(now: Timestamp, wait: Duration) -> Timestamp {
    let ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    later(now, SignedDuration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 3] =
        [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    fn failed(status: u16, retry_after: Option<u64>) -> Attempt {
        Attempt {
            started_at: at(0),
            duration: Duration::from_millis(20),
            outcome: Outcome::Refused { status },
            detail: None,
            answer: None,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn again(seconds: i64) -> NextStep {
        NextStep::Again { at: at(seconds) }
    }

    /// The course after so many failures, the first of them at the beginning.
    fn after_failures(failures: u32) -> Course {
        Course { failures, since: (failures > 0).then(|| at(0)), planned_at: None }
    }

    /// What follows the failure after `failures` others, ten seconds after the first of them, with `accepted` as the
    /// last success.
    fn next(failures: u32, attempt: &Attempt, accepted: Option<i64>) -> NextStep {
        settle(after_failures(failures), attempt, &SCHEDULE, accepted.map(at), at(10), 0.0).next
    }

    #[test]
    fn follows_the_schedule_within_a_tenth() {
        for (failures, wait) in [(0, 5), (1, 300), (2, 1800)] {
            let settled =
                settle(after_failures(failures), &failed(500, None), &SCHEDULE, Some(at(0)), at(0), 0.0);
            let course = Course { planned_at: Some(at(wait)), ..after_failures(failures + 1) };
            assert_eq!(
                settled,
                Settlement { next: again(wait), course, asked_until: None, hold_until: None }
            );
        }
        let late = settle(after_failures(1), &failed(500, None), &SCHEDULE, Some(at(0)), at(0), 1.0);
        assert_eq!(late.next, again(330));
    }

    #[test]
    fn dead_only_if_others_got_through_since_the_first_failure() {
        assert_eq!(next(3, &failed(500, None), Some(5)), NextStep::Dead);
        assert_eq!(next(3, &failed(500, None), Some(0)), NextStep::Dead, "in the same moment, too");
        assert_eq!(next(3, &failed(500, None), Some(-1)), again(1810), "that was before it failed");
        for failures in [3, 400] {
            assert_eq!(next(failures, &failed(500, None), None), again(1810));
        }
        assert_eq!(
            settle(Course::default(), &failed(500, None), &[], Some(at(0)), at(10), 0.0).next,
            again(10 + 86_400),
            "no schedule, and nobody accepted since"
        );
    }

    #[test]
    fn retry_after_wins_when_later_and_up_to_a_day() {
        assert_eq!(next(0, &failed(500, Some(3)), None), again(15));
        let asked = settle(Course::default(), &failed(500, Some(77)), &SCHEDULE, None, at(0), 0.0);
        assert_eq!((asked.next, asked.asked_until, asked.hold_until), (again(77), Some(at(77)), None));
        let long = settle(Course::default(), &failed(503, Some(999_999)), &SCHEDULE, None, at(0), 0.0);
        assert_eq!((long.next, long.hold_until), (again(86_400), Some(at(86_400))));
    }

    #[test]
    fn what_is_spared_takes_no_step_and_waits_for_the_probe() {
        let course = after_failures(2);
        let spared = spare(course, &failed(500, None), Some(at(40)), at(0));
        assert_eq!((spared.next, spared.course), (again(40), course));
        let asked = spare(course, &failed(500, Some(77)), Some(at(40)), at(0));
        assert_eq!((asked.next, asked.asked_until), (again(77), Some(at(77))));
        assert_eq!(spare(course, &failed(500, None), None, at(3)).next, again(3));
    }

    #[test]
    fn what_is_tried_before_its_time_waits_for_that() {
        let course = Course { planned_at: Some(at(300)), ..after_failures(2) };
        let early = settle(course, &failed(500, None), &SCHEDULE, Some(at(5)), at(299), 0.0);
        assert_eq!((early.next, early.course), (again(300), course));
        let asked = settle(course, &failed(500, Some(77)), &SCHEDULE, Some(at(5)), at(299), 0.0);
        assert_eq!((asked.next, asked.course), (again(376), course), "it asked for more");
        let in_time = settle(course, &failed(500, None), &SCHEDULE, Some(at(5)), at(300), 0.0);
        assert_eq!((in_time.next, in_time.course.failures), (again(2100), 3));
        let accepted = Attempt { outcome: Outcome::Accepted { status: 200 }, ..failed(200, None) };
        let accepted = settle(course, &accepted, &SCHEDULE, None, at(10), 0.0);
        assert_eq!((accepted.next, accepted.course.planned_at), (NextStep::Delivered, None));
    }

    #[test]
    fn a_2xx_is_the_only_success() {
        for status in [200, 202, 204, 299] {
            let accepted = Attempt { outcome: Outcome::Accepted { status }, ..failed(200, None) };
            assert_eq!(next(0, &accepted, None), NextStep::Delivered);
        }
    }
}
