//! What became of an attempt, and what is next for its delivery.
//!
//! Pure: the schedule, `Retry-After` and the end of a message that fails. What a subscriber that fails as a whole is
//! due is decided in [`super::breaker`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

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

/// What an attempt leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub next: NextStep,
    /// The whole subscriber asked to be left alone until then (429 or 503 with `Retry-After`).
    pub hold_until: Option<Timestamp>,
}

/// `Retry-After` is honoured exactly up to this.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How far jitter moves a wait of the schedule, as a share of it.
pub const JITTER: f64 = 0.10;

/// Until when the answer asked that this message be left alone.
pub fn asked_until(attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
    attempt.retry_after.map(|wait| after(now, wait.min(LONGEST_RETRY_AFTER)))
}

/// Decides what follows the `number`-th attempt (1 …) that ended at `now`. `schedule` is the subscriber's `retry`;
/// `accepted_others` tells whether it has accepted other messages since this one was first tried; `jitter` is -1 to 1.
pub fn settle(
    number: u32,
    attempt: &Attempt,
    schedule: &[Duration],
    accepted_others: bool,
    now: Timestamp,
    jitter: f64,
) -> Settlement {
    if attempt.outcome.is_accepted() {
        return Settlement { next: NextStep::Delivered, hold_until: None };
    }
    let asked = asked_until(attempt, now);
    let for_all = matches!(attempt.outcome.status(), Some(429 | 503));
    let hold_until = asked.filter(|_| for_all);
    let step = number.saturating_sub(1) as usize;
    let planned = match schedule.get(step) {
        Some(wait) => *wait,
        None if accepted_others => return Settlement { next: NextStep::Dead, hold_until },
        // Nobody has got through: it is not this message that is bad.
        None => schedule.last().copied().unwrap_or(LONGEST_RETRY_AFTER),
    };
    let plan = after(now, planned.mul_f64(1.0 + JITTER * jitter.clamp(-1.0, 1.0)));
    Settlement { next: NextStep::Again { at: asked.map_or(plan, |asked| asked.max(plan)) }, hold_until }
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    // Whole milliseconds, as they are stored; up, so that nothing comes before its time.
    let ms = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    now.saturating_add(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::MAX)
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

    #[test]
    fn follows_the_schedule_within_a_tenth() {
        for (number, wait) in [(1, 5), (2, 300), (3, 1800)] {
            let settled = settle(number, &failed(500, None), &SCHEDULE, true, at(0), 0.0);
            assert_eq!(settled, Settlement { next: again(wait), hold_until: None });
        }
        let late = settle(2, &failed(500, None), &SCHEDULE, true, at(0), 1.0);
        assert_eq!(late.next, again(330));
    }

    #[test]
    fn dead_only_if_others_got_through() {
        assert_eq!(settle(4, &failed(500, None), &SCHEDULE, true, at(0), 0.0).next, NextStep::Dead);
        assert_eq!(settle(4, &failed(500, None), &SCHEDULE, false, at(0), 0.0).next, again(1800));
        assert_eq!(settle(400, &failed(500, None), &SCHEDULE, false, at(0), 0.0).next, again(1800));
    }

    #[test]
    fn retry_after_wins_when_later_and_up_to_a_day() {
        assert_eq!(settle(1, &failed(500, Some(3)), &SCHEDULE, true, at(0), 0.0).next, again(5));
        let asked = settle(1, &failed(500, Some(77)), &SCHEDULE, true, at(0), 0.0);
        assert_eq!(asked, Settlement { next: again(77), hold_until: None });
        let long = settle(1, &failed(503, Some(999_999)), &SCHEDULE, true, at(0), 0.0);
        assert_eq!(long, Settlement { next: again(86_400), hold_until: Some(at(86_400)) });
    }

    #[test]
    fn a_2xx_is_the_only_success() {
        for status in [200, 202, 204, 299] {
            let accepted = Attempt { outcome: Outcome::Accepted { status }, ..failed(200, None) };
            assert_eq!(settle(1, &accepted, &SCHEDULE, false, at(0), 0.0).next, NextStep::Delivered);
        }
    }
}
