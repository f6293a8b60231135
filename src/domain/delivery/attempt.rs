//! Stage that an attempt reached, and effect of its `Retry-After`.
//!
//! For display only. [`crate::domain::delivery::outcome`] and [`crate::domain::delivery::health`] decide the next
//! attempt.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::named_enum::named_enum;
use crate::domain::retry_after::LONGEST_RETRY_AFTER;

named_enum! {
    /// Stage of an attempt in progress, in order.
    #[repr(u8)]
    pub enum Stage {
        Resolving = "resolving",
        Connecting = "connecting",
        Handshaking = "handshaking",
        /// Sent, waiting for the status.
        Waiting = "waiting",
    }
}

impl Stage {
    /// Start of the detail of an attempt that timed out in this stage.
    pub fn missed(self) -> &'static str {
        match self {
            Self::Resolving => "the name was not resolved",
            Self::Connecting => "no connection",
            Self::Handshaking => "connected, but no TLS handshake",
            Self::Waiting => "connected, but no status",
        }
    }
}

/// Stage that a finished attempt reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachedStage {
    /// No connection was tried: the message or the address was refused.
    Nothing,
    /// It ended in this stage.
    Stage(Stage),
    /// The receiver answered.
    Answered,
}

impl ReachedStage {
    /// Returns the stage for a recorded outcome; `None` if it is unknown, as for a broken connection.
    pub fn of(outcome: &str) -> Option<Self> {
        Some(match outcome {
            "accepted" | "status" | "unreadable" => Self::Answered,
            "unsendable" | "address" | "shortage" => Self::Nothing,
            "name" | "name_timeout" => Self::Stage(Stage::Resolving),
            "refused" | "connect_timeout" => Self::Stage(Stage::Connecting),
            "tls" | "tls_timeout" => Self::Stage(Stage::Handshaking),
            "timeout" => Self::Stage(Stage::Waiting),
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Stage(stage) => stage.as_str(),
            Self::Answered => "answered",
        }
    }
}

/// Effect of a `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfterEffect {
    /// The wait was as requested.
    Honoured,
    /// More than 24 h were requested; the wait was 24 h.
    Capped,
    /// The decided time is later anyway: by the retry schedule, or as a probe.
    LaterAnyway,
    /// The next attempt came sooner: by hand, or because the URL changed.
    Overruled,
}

impl RetryAfterEffect {
    /// Returns the effect of a `Retry-After` of `requested`, which ends at `until`. `decided`: the time of the next
    /// attempt as decided after this one. `next`: its time as it came, or as it is planned now.
    pub fn of(
        requested: Duration,
        until: Timestamp,
        decided: Option<Timestamp>,
        next: Option<Timestamp>,
    ) -> Self {
        if next.is_some_and(|next| next < until) {
            Self::Overruled
        } else if decided.is_some_and(|decided| decided > until) {
            Self::LaterAnyway
        } else if requested > LONGEST_RETRY_AFTER {
            Self::Capped
        } else {
            Self::Honoured
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::outcome::Outcome;

    #[test]
    fn every_outcome_but_a_broken_connection_names_the_reached_stage() {
        let unknown: Vec<&str> = Outcome::ALL
            .iter()
            .map(Outcome::as_str)
            .filter(|outcome| ReachedStage::of(outcome).is_none())
            .collect();
        assert_eq!(unknown, ["reset"]);
        for (outcome, reached) in [
            ("accepted", ReachedStage::Answered),
            ("status", ReachedStage::Answered),
            ("unreadable", ReachedStage::Answered),
            ("address", ReachedStage::Nothing),
            ("unsendable", ReachedStage::Nothing),
            ("shortage", ReachedStage::Nothing),
            ("name", ReachedStage::Stage(Stage::Resolving)),
            ("refused", ReachedStage::Stage(Stage::Connecting)),
            ("tls", ReachedStage::Stage(Stage::Handshaking)),
        ] {
            assert_eq!(ReachedStage::of(outcome), Some(reached), "{outcome}");
        }
        for stage in Stage::ALL {
            let outcome = Outcome::TimedOut { stage };
            assert_eq!(ReachedStage::of(outcome.as_str()), Some(ReachedStage::Stage(stage)));
        }
    }

    #[test]
    fn the_effect_of_a_retry_after_follows_from_the_decision_and_the_next_attempt() {
        let seconds = Duration::from_secs;
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).unwrap();
        for (requested, until, decided, next, effect) in [
            (60, 60, 60, Some(60), RetryAfterEffect::Honoured),
            // The attempt began late, because no daemon ran.
            (60, 60, 60, Some(9_000), RetryAfterEffect::Honoured),
            // A 429 holds the whole subscriber longer than the schedule of the message.
            (60, 60, 5, Some(60), RetryAfterEffect::Honoured),
            (60, 60, 5, None, RetryAfterEffect::Honoured),
            (3, 3, 5, Some(5), RetryAfterEffect::LaterAnyway),
            (60, 60, 60, Some(59), RetryAfterEffect::Overruled),
            (0, 0, 0, Some(0), RetryAfterEffect::Honoured),
            (100_000, 86_400, 86_400, Some(86_400), RetryAfterEffect::Capped),
            (86_400, 86_400, 86_400, Some(86_400), RetryAfterEffect::Honoured),
            (100_000, 86_400, 90_000, Some(90_000), RetryAfterEffect::LaterAnyway),
        ] {
            let found = RetryAfterEffect::of(seconds(requested), at(until), Some(at(decided)), next.map(at));
            assert_eq!(found, effect, "{requested} {until} {decided} {next:?}");
        }
    }
}
