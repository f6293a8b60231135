//! What trackpost watches: a label of an account.
//!
//! The key is the label and never the tracking number: carriers recycle numbers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// A label id as ShipStation hands it out: `^se(-[a-z0-9]+)+$`, at most 25 characters.
///
/// Validated before a call is spent on it (contract 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LabelId(Arc<str>);

impl LabelId {
    /// The longest id the vendor's schema allows, in characters.
    pub const MAX_LEN: usize = 25;

    /// The id `se-` and a number.
    pub fn numbered(number: u64) -> Self {
        Self(format!("se-{number}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LabelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no label id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelIdError {
    #[error("a label id has at most 25 characters, this one has {0}")]
    TooLong(usize),
    #[error("a label id reads like se-324658: \"se\", then parts of a-z and 0-9, each after a hyphen")]
    Malformed,
}

impl FromStr for LabelId {
    type Err = LabelIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let characters = text.chars().count();
        if characters > Self::MAX_LEN {
            return Err(LabelIdError::TooLong(characters));
        }
        let mut parts = text.split('-');
        let well_formed = parts.next() == Some("se")
            && parts.clone().next().is_some()
            && parts.all(|part| {
                !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
        if well_formed { Ok(Self(text.into())) } else { Err(LabelIdError::Malformed) }
    }
}

/// The name of an account: the `X` of `[accounts.X]`, one per API key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct AccountName(Arc<str>);

impl AccountName {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What identifies a label for ever: its account and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelKey {
    pub account: AccountName,
    pub id: LabelId,
}

/// What the operator wrote beside a label; passed through to subscribers of the standard form.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

/// Where a label's registration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Inline, in `registration.labels`.
    Config,
    /// A row of a label file.
    File,
    /// `trackpost labels add`.
    Cli,
    /// Found in `GET /v2/labels`.
    Discovered,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::File => "file",
            Self::Cli => "cli",
            Self::Discovered => "discovered",
        }
    }
}

/// A label somebody asked to have watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    pub key: LabelKey,
    pub metadata: Metadata,
    pub source: Source,
}

/// Where a label is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelState {
    /// Polled on its cadence.
    Active,
    /// Reached `DE` or `SP`.
    Finished,
    /// Nothing changed for `give_up_after`.
    Expired,
    /// The API refused it five times over at least 72 h.
    Unavailable,
    /// No longer registered; its history stays.
    Removed,
}

impl LabelState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Finished => "finished",
            Self::Expired => "expired",
            Self::Unavailable => "unavailable",
            Self::Removed => "removed",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Finished, Self::Expired, Self::Unavailable, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_vendor_hands_out() {
        for id in ["se-324658", "se-1234567890", "se-a", "se-1-2-b3", "se-1234567890123456789012"] {
            assert_eq!(id.parse::<LabelId>().map(|id| id.to_string()), Ok(id.to_owned()), "{id}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for id in
            ["", "se", "se-", "se--1", "SE-1", "se-A", "xe-1", "se-1 ", " se-1", "se-1-", "se-é", "1", "se_1"]
        {
            assert_eq!(id.parse::<LabelId>(), Err(LabelIdError::Malformed), "{id:?}");
        }
        assert_eq!("se-12345678901234567890123".parse::<LabelId>(), Err(LabelIdError::TooLong(26)));
    }
}
