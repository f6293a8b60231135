//! Subscribers as configured: URL, secrets, format and the message types they get.

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
use crate::domain::named_enum::named_enum;
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

/// Name of a subscriber: the `X` of `[subscribers.X]`.
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

named_enum! {
    /// Format of a callback's body (contract 6.1 to 6.3).
    #[derive(Deserialize)]
    pub enum Format {
        /// ShipStation's `TRACK_EVENT_V2` envelope, at most one per poll.
        Shipstation = "shipstation",
        /// ShipEngine's classic `API_TRACK` envelope, at most one per poll.
        Shipengine = "shipengine",
        /// One callback per message.
        Standard = "standard",
    }
}

/// Pattern for message types: literal, `*` matches any run of characters, dots included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPattern(Arc<str>);

/// Error for a pattern that matches no message type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no message type matches \"{0}\"")]
pub struct PatternMatchesNothing(pub String);

impl EventPattern {
    /// # Errors
    /// The pattern matches no known message type (contract 5.3).
    pub fn parse(text: &str) -> Result<Self, PatternMatchesNothing> {
        let pattern = Self(text.into());
        if MessageType::ALL.into_iter().any(|kind| pattern.matches(kind)) {
            Ok(pattern)
        } else {
            Err(PatternMatchesNothing(text.to_owned()))
        }
    }

    pub fn matches(&self, kind: MessageType) -> bool {
        glob(&self.0, kind.as_str())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `text` matches `pattern`, in which `*` matches any run of characters, including none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((prefix, pattern)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(prefix) else { return false };
    let (middle, suffix) = pattern.rsplit_once('*').unwrap_or(("", pattern));
    for part in middle.split('*') {
        let Some((_, rest)) = text.split_once(part) else { return false };
        text = rest;
    }
    text.ends_with(suffix)
}

/// Client certificate and its private key, in DER.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The client's own certificate first.
    pub chain: Vec<Vec<u8>>,
    pub key: Hidden<Vec<u8>>,
}

/// A validated `[subscribers.X]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscriber {
    pub name: SubscriberName,
    /// URL for callbacks. It is hidden because it may contain credentials; show [`Subscriber::shown_url`].
    pub url: Hidden<String>,
    /// The newest first. Each callback is signed with every secret.
    pub secrets: Vec<SigningSecret>,
    pub format: Format,
    pub events: Vec<EventPattern>,
    /// Accounts of the messages that it gets; empty: all.
    pub accounts: Vec<AccountName>,
    pub headers: Vec<(String, Hidden<String>)>,
    /// Key of an additional signature in ShipStation's way.
    pub rsa_key: Option<RsaKey>,
    /// An additional plain HMAC.
    pub hmac_header: Option<HmacHeader>,
    pub timeout: Duration,
    pub max_in_flight: u32,
    /// Waits before the second attempt, the third and so on.
    pub retry: Vec<Duration>,
    pub allow_insecure: bool,
    /// Certificates (DER) that are trusted besides the system's.
    pub roots: Vec<Vec<u8>>,
    /// Client certificate for receivers that require one.
    pub identity: Option<Identity>,
    pub proxies: Proxies,
    pub enabled: bool,
    /// URL without user, password and query, for logs.
    pub shown_url: String,
}

impl Subscriber {
    /// Digest of the URL, to detect a changed URL.
    pub fn url_digest(&self) -> String {
        digest::short_hex(&digest::of_parts(&["url", self.url.expose()]))
    }

    /// Whether the subscriber gets messages of this type about this account.
    pub fn wants(&self, kind: MessageType, account: Option<&AccountName>) -> bool {
        let of_account =
            self.accounts.is_empty() || account.is_none_or(|account| self.accounts.contains(account));
        self.enabled && of_account && self.events.iter().any(|pattern| pattern.matches(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_span_dots() {
        for (pattern, kind, matches) in [
            ("tracking.*", MessageType::EventAdded, true),
            ("tracking.event.*", MessageType::EventAdded, true),
            ("tracking.event.*", MessageType::Updated, false),
            ("*", MessageType::AccountUnauthorized, true),
            ("*.added", MessageType::EventAdded, true),
            ("t*d*d", MessageType::Updated, true),
            ("tracking.updated", MessageType::Updated, true),
            ("tracking.update", MessageType::Updated, false),
            ("system.*", MessageType::Updated, false),
            ("tracking.*.updated", MessageType::Updated, false),
            ("**updated", MessageType::Updated, true),
        ] {
            assert_eq!(glob(pattern, kind.as_str()), matches, "{pattern} {}", kind.as_str());
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused() {
        assert!(EventPattern::parse("tracking.delivred").is_err());
        assert!(EventPattern::parse("").is_err());
        assert!(EventPattern::parse("tracking.delivered").is_ok());
    }
}
