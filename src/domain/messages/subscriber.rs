//! Who is told, about what, and in which form.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MessageType;
use super::digest;
use crate::domain::label::AccountName;
use crate::domain::messages::signature::SigningSecret;
use crate::domain::messages::signature::hmac_header::HmacHeader;
use crate::domain::messages::signature::rsa::RsaKey;
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

/// The `X` of `[subscribers.X]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SubscriberName(Arc<str>);

impl SubscriberName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The form of a callback's body (contract 6.1 to 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// ShipStation's own `TRACK_EVENT_V2` envelope, at most one per poll.
    Shipstation,
    /// ShipEngine's classic `API_TRACK` envelope, at most one per poll.
    Shipengine,
    /// One callback per message.
    Standard,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Shipstation, Self::Shipengine, Self::Standard];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shipstation => "shipstation",
            Self::Shipengine => "shipengine",
            Self::Standard => "standard",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// A pattern over message types: literal, with `*` for any run of characters, dots included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPattern(Arc<str>);

/// A pattern that no message type fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no message type fits \"{0}\"")]
pub struct PatternFitsNothing(pub String);

impl EventPattern {
    /// A pattern that fits at least one message type; one that fits none is a slip of the pen (contract 5.3).
    pub fn parse(text: &str) -> Result<Self, PatternFitsNothing> {
        let pattern = Self(text.into());
        if MessageType::ALL.into_iter().any(|kind| pattern.fits(kind)) {
            Ok(pattern)
        } else {
            Err(PatternFitsNothing(text.to_owned()))
        }
    }

    pub fn fits(&self, kind: MessageType) -> bool {
        glob(self.0.as_bytes(), kind.as_str().as_bytes())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` fits `pattern`; a `*` takes any run, the empty one too. Linear, by going back to the last star only.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((star, taken)) => {
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A client certificate with its key, both DER; they belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The client's own first.
    pub chain: Vec<Vec<u8>>,
    pub key: Hidden<Vec<u8>>,
}

/// A subscriber as configured and validated: `[subscribers.X]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscriber {
    pub name: SubscriberName,
    /// Where callbacks go. May hold credentials, so it is hidden; show [`Subscriber::shown_url`].
    pub url: Hidden<String>,
    /// The newest first; every one signs.
    pub secrets: Vec<SigningSecret>,
    pub format: Format,
    pub events: Vec<EventPattern>,
    /// Empty: all accounts.
    pub accounts: Vec<AccountName>,
    pub headers: Vec<(String, Hidden<String>)>,
    /// Signs in addition, as the vendor does.
    pub rsa_key: Option<RsaKey>,
    /// A plain HMAC in addition.
    pub hmac_header: Option<HmacHeader>,
    pub timeout: Duration,
    pub max_in_flight: u32,
    /// The wait before the second attempt, the third, …
    pub retry: Vec<Duration>,
    pub allow_insecure: bool,
    /// Certificates (DER) that are trusted beside the system's.
    pub roots: Vec<Vec<u8>>,
    /// What it is shown when it asks who calls.
    pub identity: Option<Identity>,
    pub proxies: Proxies,
    pub enabled: bool,
    /// The URL without user, password and query: fit for logs.
    pub shown_url: String,
}

impl Subscriber {
    /// Tells whether the URL is still the same, and nothing else of it.
    pub fn url_digest(&self) -> String {
        digest::short_hex(&digest::of_parts(&["url", self.url.expose()]))
    }

    pub fn wants(&self, kind: MessageType, account: Option<&AccountName>) -> bool {
        let of_account =
            self.accounts.is_empty() || account.is_none_or(|account| self.accounts.contains(account));
        self.enabled && of_account && self.events.iter().any(|pattern| pattern.fits(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_span_dots() {
        for (pattern, kind, fits) in [
            ("tracking.*", MessageType::EventAdded, true),
            ("tracking.event.*", MessageType::EventAdded, true),
            ("tracking.event.*", MessageType::Updated, false),
            ("*", MessageType::AccountUnauthorized, true),
            ("*.added", MessageType::EventAdded, true),
            ("t*d*d", MessageType::Updated, true),
            ("tracking.updated", MessageType::Updated, true),
            ("tracking.update", MessageType::Updated, false),
            ("system.*", MessageType::Updated, false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), kind.as_str().as_bytes()),
                fits,
                "{pattern} {}",
                kind.as_str()
            );
        }
    }

    #[test]
    fn a_pattern_that_fits_nothing_is_refused() {
        assert!(EventPattern::parse("tracking.delivred").is_err());
        assert!(EventPattern::parse("").is_err());
        assert!(EventPattern::parse("tracking.delivered").is_ok());
    }
}
