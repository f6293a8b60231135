//! Id of a carrier event, assigned once.
//!
//! The API gives events no id, so trackpost derives one from the label, the event's first fingerprint and an ordinal
//! among events with that fingerprint. The id depends on neither randomness nor the clock: a daemon restored from a
//! backup that gets the same answers again assigns the same ids (contract 5.1). Later fingerprints do not matter
//! either, because the id is stored.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_DNSSEC;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::canonical::Fingerprint;
use crate::domain::digest::update_part;
use crate::domain::label::LabelKey;

/// Event id, written as `evt_` and 26 characters of `0-9a-v` (base32hex of 16 bytes). Texts sort like ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 16]);

const PREFIX: &str = "evt_";
const DIGITS: usize = 26;

impl EventId {
    /// The account takes part because only account and label id together identify a label.
    fn derive(label: &LabelKey, first: Fingerprint, ordinal: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"trackpost event 1");
        update_part(&mut hash, label.account.as_str());
        update_part(&mut hash, label.id.as_str());
        hash.update(first.as_bytes());
        hash.update(ordinal.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE32_DNSSEC.encode_display(&self.0))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Error for a text that is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is {PREFIX} and {DIGITS} characters of 0-9 and a-v")]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let digits = text.strip_prefix(PREFIX).ok_or(NotAnEventId)?;
        // The decoder accepts upper case too.
        if digits.contains(|digit: char| digit.is_ascii_uppercase()) {
            return Err(NotAnEventId);
        }
        let bytes = BASE32_DNSSEC.decode(digits.as_bytes()).map_err(|_| NotAnEventId)?;
        bytes.try_into().map(Self).map_err(|_| NotAnEventId)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Allocator of one label's event ids: for each fingerprint the lowest ordinal whose id was never used.
pub struct EventIds<'a, I> {
    label: &'a LabelKey,
    used: Option<I>,
    taken: HashSet<EventId>,
    next: HashMap<Fingerprint, u32>,
}

impl<'a, I: IntoIterator<Item = EventId>> EventIds<'a, I> {
    /// `used`: every id the label ever had, including those of retracted events.
    pub fn new(label: &'a LabelKey, used: I) -> Self {
        Self { label, used: Some(used), taken: HashSet::new(), next: HashMap::new() }
    }

    pub fn allocate(&mut self, first: Fingerprint) -> EventId {
        // Most polls allocate no id, so the used ones are collected only now.
        self.taken.extend(self.used.take().into_iter().flatten());
        let ordinal = self.next.entry(first).or_default();
        loop {
            let id = EventId::derive(self.label, first, *ordinal);
            *ordinal += 1;
            if self.taken.insert(id) {
                return id;
            }
        }
    }
}
