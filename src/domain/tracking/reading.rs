//! What came back when we asked about a label: the outside world's failures as values (contract 3).

use std::time::Duration;

use crate::domain::digest::Digest;
use crate::domain::tracking::Tracking;

/// One reading of one label.
#[derive(Clone, Debug)]
pub enum Reading {
    /// 200 and a tracking object.
    Answer {
        tracking: Box<Tracking>,
        digest: Digest,
    },
    /// The same bytes as last time: known by their digest, not even parsed.
    SameBytes,
    /// 200 without a tracking object, cut short, compressed, over the limit; any other 2xx or 3xx. The status is 0 where
    /// the answer is not even readable.
    Garbled {
        status: u16,
        detail: String,
    },
    /// 401, 402; a 400 or 403 that speaks of the account.
    Unauthorized {
        status: u16,
        detail: String,
    },
    /// A 404 that speaks of the endpoint: the URL is wrong, not the label.
    WrongEndpoint {
        url: String,
        detail: String,
    },
    /// Any other 4xx: this label is refused.
    Refused {
        status: u16,
        detail: String,
    },
    /// 429.
    Throttled {
        retry_after: Option<Duration>,
    },
    /// 429, but it is the carrier whom the API asks too often: only that carrier's labels wait.
    CarrierThrottled {
        /// As the API names it; `None` if it doesn't.
        carrier: Option<String>,
        retry_after: Option<Duration>,
    },
    /// 5xx.
    ServerError {
        status: u16,
    },
    TimedOut,
    /// No connection, or one that broke.
    NoConnection {
        detail: String,
    },
    /// This machine had no descriptor, memory, port or name server for it: nobody was asked.
    OurFault {
        detail: String,
    },
}

impl Reading {
    /// The HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { .. } | Self::SameBytes => Some(200),
            Self::Garbled { status: 0, .. } => None,
            Self::Garbled { status, .. }
            | Self::Unauthorized { status, .. }
            | Self::Refused { status, .. }
            | Self::ServerError { status } => Some(*status),
            Self::WrongEndpoint { .. } => Some(404),
            Self::Throttled { .. } | Self::CarrierThrottled { .. } => Some(429),
            Self::TimedOut | Self::NoConnection { .. } | Self::OurFault { .. } => None,
        }
    }

    /// What went wrong, in words; `None` for a good answer.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Answer { .. } | Self::SameBytes => None,
            Self::Garbled { detail, .. }
            | Self::Unauthorized { detail, .. }
            | Self::Refused { detail, .. } => Some(detail.clone()),
            Self::WrongEndpoint { url, detail } => Some(format!("{url}: {detail}")),
            Self::Throttled { retry_after } => Some(in_words(*retry_after)),
            Self::CarrierThrottled { carrier, retry_after } => {
                let carrier = carrier.as_deref().unwrap_or("the carrier");
                Some(format!("{carrier} is asked too often: {}", in_words(*retry_after)))
            }
            Self::ServerError { status } => Some(format!("the server answered {status}")),
            Self::TimedOut => Some("no whole answer within the time limit".to_owned()),
            Self::NoConnection { detail } | Self::OurFault { detail } => Some(detail.clone()),
        }
    }

    /// The word under which it is kept and counted.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::SameBytes => "unchanged",
            Self::Garbled { .. } => "garbled",
            Self::Unauthorized { .. } => "unauthorized",
            Self::WrongEndpoint { .. } => "wrong_endpoint",
            Self::Refused { .. } => "refused",
            Self::Throttled { .. } => "throttled",
            Self::CarrierThrottled { .. } => "carrier_throttled",
            Self::ServerError { .. } => "server_error",
            Self::TimedOut => "timed_out",
            Self::NoConnection { .. } => "no_connection",
            Self::OurFault { .. } => "our_fault",
        }
    }
}

fn in_words(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("Retry-After {wait:?}"),
        None => "no Retry-After".to_owned(),
    }
}
