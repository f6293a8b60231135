//! Labels, accounts and registrations.
//!
//! A label is identified by account and label id, not by its tracking number, because carriers reuse numbers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

use super::named_enum::named_enum;

/// Label id of ShipStation: `^se(-[a-z0-9]+)+$`, at most 25 characters (contract 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LabelId(Arc<str>);

impl LabelId {
    /// Maximum length in characters.
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

/// Error for a text that is not a label id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelIdError {
    #[error("a label id has at most 25 characters, this one has {0}")]
    TooLong(usize),
    #[error("a label id has the form se-324658: \"se\", then parts of a-z and 0-9, each after a hyphen")]
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

/// Name of an account: the `X` of `[accounts.X]`, one per API key.
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

/// Identity of a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LabelKey {
    pub account: AccountName,
    pub id: LabelId,
}

/// The operator's metadata of a label, passed on to subscribers in the standard format.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

named_enum! {
    /// Source of a registration.
    pub enum Source {
        /// Inline, in `registration.labels`.
        Config = "config",
        /// A row of a label file.
        File = "file",
        /// `trackpost labels add`.
        Cli = "cli",
        /// Found in `GET /v2/labels`.
        Discovered = "discovered",
    }
}

/// A label to poll.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    pub key: LabelKey,
    pub metadata: Metadata,
    pub source: Source,
}

named_enum! {
    /// State of a label.
    #[derive(Default)]
    pub enum LabelState {
        /// Polled by its cadence.
        #[default]
        Active = "active",
        /// Status `DE` or `SP`.
        Finished = "finished",
        /// No change for `give_up_after`.
        Expired = "expired",
        /// Refused by the API five times in a row over at least 72 h.
        Unavailable = "unavailable",
        /// No longer registered; its history stays.
        Removed = "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ids_of_shipstation() {
        for id in ["se-324658", "se-1234567890", "se-a", "se-1-2-b3", "se-1234567890123456789012"] {
            assert_eq!(id.parse::<LabelId>().map(|id| id.to_string()), Ok(id.to_owned()), "{id}");
        }
    }

    #[test]
    fn refuses_other_texts() {
        for id in
            ["", "se", "se-", "se--1", "SE-1", "se-A", "xe-1", "se-1 ", " se-1", "se-1-", "se-é", "1", "se_1"]
        {
            assert_eq!(id.parse::<LabelId>(), Err(LabelIdError::Malformed), "{id:?}");
        }
        assert_eq!("se-12345678901234567890123".parse::<LabelId>(), Err(LabelIdError::TooLong(26)));
    }
}
