//! What the record of an attempt tells: how far it came, and what its `Retry-After` did.
//!
//! For people who ask why a callback has not arrived. It decides nothing: what follows an attempt is decided in
//! [`crate::domain::delivery::outcome`] and [`crate::domain::delivery::health`], when it ends.

use std::time::Duration;

use serde::Serialize;

use crate::domain::delivery::outcome::LONGEST_RETRY_AFTER;

/// What an attempt waits for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Resolving,
    Connecting,
    Handshaking,
    /// Sent; for the status.
    Waiting,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Resolving, Self::Connecting, Self::Handshaking, Self::Waiting];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Handshaking => "handshaking",
            Self::Waiting => "waiting",
        }
    }

    /// Whether there was a connection to send over.
    pub fn is_connected(self) -> bool {
        self == Self::Waiting
    }

    /// What there was not when time ran out; a recorded detail begins with it.
    pub fn missed(self) -> &'static str {
        match self {
            Self::Resolving => "the name was not resolved",
            Self::Connecting => "no connection",
            Self::Handshaking => "connected, but no TLS handshake",
            Self::Waiting => "connected, but no status",
        }
    }
}

/// How far an attempt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nobody was asked: the message or the address would not do.
    Nothing,
    /// It ended there.
    Stage(Stage),
    /// The receiver answered.
    Answer,
}

impl Reached {
    /// By the outcome's word and the detail as recorded; `None` where they leave it open, as for a connection that broke.
    pub fn of(outcome: &str, detail: Option<&str>) -> Option<Self> {
        Some(match outcome {
            "accepted" | "status" | "unreadable" => Self::Answer,
            "unsendable" | "address" | "ours" => Self::Nothing,
            "name" => Self::Stage(Stage::Resolving),
            "refused" => Self::Stage(Stage::Connecting),
            "tls" => Self::Stage(Stage::Handshaking),
            "timeout" => Self::Stage(Stage::Waiting),
            "connect_timeout" => {
                let detail = detail?;
                Self::Stage(Stage::ALL.into_iter().find(|stage| detail.starts_with(stage.missed()))?)
            }
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Stage(stage) => stage.as_str(),
            Self::Answer => "answered",
        }
    }
}

/// What was made of a `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heeded {
    /// The wait was what it asked for.
    Honoured,
    /// It asked for more than a day, and got a day.
    Capped,
    /// The next attempt came later than that anyway: by our own plan, as a probe, or as nobody was there to make it.
    LaterAnyway,
    /// The next attempt came sooner: somebody asked for it, or the receiver moved.
    Overruled,
}

/// Between the end of an attempt and its record; no wait is known better.
const SLACK: Duration = Duration::from_secs(1);

/// What was made of `asked`, if the next attempt came, or comes, so long after the end of this one.
pub fn heeded(asked: Duration, waited: Duration) -> Heeded {
    let granted = asked.min(LONGEST_RETRY_AFTER);
    if waited + SLACK < granted {
        Heeded::Overruled
    } else if waited > granted + SLACK {
        Heeded::LaterAnyway
    } else if asked > granted {
        Heeded::Capped
    } else {
        Heeded::Honoured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_it_came_shows_in_outcome_and_detail() {
        for (outcome, detail, reached) in [
            ("accepted", None, Some(Reached::Answer)),
            ("status", Some("redirects are not followed"), Some(Reached::Answer)),
            ("name", Some("no such host"), Some(Reached::Stage(Stage::Resolving))),
            ("address", None, Some(Reached::Nothing)),
            ("refused", None, Some(Reached::Stage(Stage::Connecting))),
            ("tls", None, Some(Reached::Stage(Stage::Handshaking))),
            ("timeout", None, Some(Reached::Stage(Stage::Waiting))),
            ("connect_timeout", Some("no connection within 1s"), Some(Reached::Stage(Stage::Connecting))),
            (
                "connect_timeout",
                Some("connected, but no TLS handshake within 1s"),
                Some(Reached::Stage(Stage::Handshaking)),
            ),
            ("connect_timeout", Some("operation timed out"), None),
            ("connect_timeout", None, None),
            ("reset", None, None),
            ("unsendable", None, Some(Reached::Nothing)),
        ] {
            assert_eq!(Reached::of(outcome, detail), reached, "{outcome} {detail:?}");
        }
    }

    #[test]
    fn the_wait_tells_what_became_of_a_retry_after() {
        let seconds = Duration::from_secs;
        for (asked, waited, heeded_as) in [
            (60, 60, Heeded::Honoured),
            (3, 5, Heeded::LaterAnyway),
            (60, 5, Heeded::Overruled),
            (0, 0, Heeded::Honoured),
            (100_000, 86_400, Heeded::Capped),
            (86_400, 86_400, Heeded::Honoured),
            (100_000, 90_000, Heeded::LaterAnyway),
        ] {
            assert_eq!(heeded(seconds(asked), seconds(waited)), heeded_as, "{asked} {waited}");
        }
        assert_eq!(heeded(seconds(60), Duration::from_millis(60_004)), Heeded::Honoured);
    }
}
