//! Stage that an attempt reached, and effect of its `Retry-After`.
//!
//! For display only. [`crate::domain::delivery::outcome`] and [`crate::domain::delivery::health`] decide the next
//! attempt.

use std::time::Duration;

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
    /// The next attempt came later anyway: by the retry schedule, as a probe, or because no daemon ran.
    LaterAnyway,
    /// The next attempt came sooner: by hand, or because the URL changed.
    Overruled,
}

/// Precision of recorded waits.
const TOLERANCE: Duration = Duration::from_secs(1);

impl RetryAfterEffect {
    /// Returns the effect of a `Retry-After` of `requested`, if the next attempt comes `waited` after the end of this
    /// one.
    pub fn of(requested: Duration, waited: Duration) -> Self {
        let granted = requested.min(LONGEST_RETRY_AFTER);
        if waited + TOLERANCE < granted {
            Self::Overruled
        } else if waited > granted + TOLERANCE {
            Self::LaterAnyway
        } else if requested > granted {
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
    fn the_effect_of_a_retry_after_follows_from_the_wait() {
        let seconds = Duration::from_secs;
        for (requested, waited, effect) in [
            (60, 60, RetryAfterEffect::Honoured),
            (3, 5, RetryAfterEffect::LaterAnyway),
            (60, 5, RetryAfterEffect::Overruled),
            (0, 0, RetryAfterEffect::Honoured),
            (100_000, 86_400, RetryAfterEffect::Capped),
            (86_400, 86_400, RetryAfterEffect::Honoured),
            (100_000, 90_000, RetryAfterEffect::LaterAnyway),
        ] {
            assert_eq!(
                RetryAfterEffect::of(seconds(requested), seconds(waited)),
                effect,
                "{requested} {waited}"
            );
        }
        assert_eq!(
            RetryAfterEffect::of(seconds(60), Duration::from_millis(60_004)),
            RetryAfterEffect::Honoured
        );
    }
}
