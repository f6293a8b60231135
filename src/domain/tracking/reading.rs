//! Classification of the API's answers about a label. Failures outside trackpost are values (contract 3).

use std::time::Duration;

use crate::domain::digest::Digest;
use crate::domain::tracking::Tracking;

/// Result of one poll's request.
#[derive(Clone, Debug)]
pub enum Reading {
    /// 200 and a tracking object.
    Answer {
        tracking: Box<Tracking>,
        digest: Digest,
    },
    /// The same bytes as last time, by their digest; they are not parsed.
    SameBytes,
    /// A 200 without a tracking object, truncated, compressed or too large; any other 2xx or 3xx. `status` is 0 if the
    /// answer is not readable as HTTP.
    Garbled {
        status: u16,
        detail: String,
    },
    /// 401, 402; a 400 or 403 about the account.
    Unauthorized {
        status: u16,
        detail: String,
    },
    /// A 404 about the endpoint, or a server that may not be connected to: the URL is wrong, not the label.
    WrongEndpoint {
        status: Option<u16>,
        url: String,
        detail: String,
    },
    /// Any other 4xx: the API refuses this label.
    Refused {
        status: u16,
        detail: String,
    },
    /// 429.
    Throttled {
        retry_after: Option<Duration>,
    },
    /// A 429 because of the carrier's limit, not the account's. Only labels of that carrier wait.
    CarrierThrottled {
        /// Carrier as named by the API, if named.
        carrier: Option<String>,
        retry_after: Option<Duration>,
    },
    /// 5xx.
    ServerError {
        status: u16,
    },
    TimedOut,
    /// The connection failed or broke.
    NoConnection {
        detail: String,
    },
    /// This machine lacked a descriptor, memory, a port or a name server. No request was sent.
    Shortage {
        detail: String,
    },
}

impl Reading {
    /// HTTP status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { .. } | Self::SameBytes => Some(200),
            Self::Garbled { status: 0, .. } => None,
            Self::Garbled { status, .. }
            | Self::Unauthorized { status, .. }
            | Self::Refused { status, .. }
            | Self::ServerError { status } => Some(*status),
            Self::WrongEndpoint { status, .. } => *status,
            Self::Throttled { .. } | Self::CarrierThrottled { .. } => Some(429),
            Self::TimedOut | Self::NoConnection { .. } | Self::Shortage { .. } => None,
        }
    }

    /// Description of the failure; `None` for a good answer.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Answer { .. } | Self::SameBytes => None,
            Self::Garbled { detail, .. }
            | Self::Unauthorized { detail, .. }
            | Self::Refused { detail, .. } => Some(detail.clone()),
            Self::WrongEndpoint { url, detail, .. } => Some(format!("{url}: {detail}")),
            Self::Throttled { retry_after } => Some(in_words(*retry_after)),
            Self::CarrierThrottled { carrier, retry_after } => {
                let carrier = carrier.as_deref().unwrap_or("the carrier");
                Some(format!("rate limit of {carrier}: {}", in_words(*retry_after)))
            }
            Self::ServerError { status } => Some(format!("the server answered {status}")),
            Self::TimedOut => Some("no complete answer within the time limit".to_owned()),
            Self::NoConnection { detail } | Self::Shortage { detail } => Some(detail.clone()),
        }
    }

    /// Name in the database and in metrics.
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
            Self::Shortage { .. } => "shortage",
        }
    }
}

fn in_words(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("Retry-After {wait:?}"),
        None => "no Retry-After".to_owned(),
    }
}
