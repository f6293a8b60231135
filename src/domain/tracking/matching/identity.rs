//! The id of a carrier event, minted once and never again.
//!
//! The vendor gives events no id, so we derive one: from the label, the form the event had when we first saw it, and
//! its ordinal among events of equal form. Nothing of it is chance or clock, so a daemon restored from an old copy that
//! sees the same answers again mints the same ids. Later forms of the event do not enter; the id is stored, not
//! recomputed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::canonical::Form;
use crate::domain::label::LabelKey;

/// `evt_` and 26 characters of `0-9a-v` (base32hex of 16 bytes); texts sort like the ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 16]);

const PREFIX: &str = "evt_";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const DIGITS: usize = 26;

impl EventId {
    /// The account enters beside the label id, because it is the two together that name a label for ever.
    fn derive(label: &LabelKey, first: Form, ordinal: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"trackpost event 1");
        for part in [label.account.as_str(), label.id.as_str()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(first.as_bytes());
        hash.update(ordinal.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        let digits = (0..DIGITS as u32).map(|digit| {
            // 128 bits are 25 digits of 5 and a last one of 3, padded with two zeros.
            let rest = if digit < 25 { number >> (123 - 5 * digit) } else { number << 2 };
            char::from(ALPHABET[(rest & 31) as usize])
        });
        f.write_str(PREFIX)?;
        f.write_str(&digits.collect::<String>())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id reads like {PREFIX} and {DIGITS} characters of 0-9 and a-v")]
pub struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() == DIGITS).ok_or(NotAnEventId)?;
        let mut number = 0_u128;
        for (at, digit) in digits.bytes().enumerate() {
            let value = ALPHABET.iter().position(|&known| known == digit).ok_or(NotAnEventId)? as u128;
            if at < DIGITS - 1 {
                number = number << 5 | value;
            } else if value & 3 == 0 {
                number = number << 3 | value >> 2;
            } else {
                return Err(NotAnEventId);
            }
        }
        Ok(Self(number.to_be_bytes()))
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hands out the ids of one label: for each form the first ordinal whose id nobody has, or ever had.
pub struct Mint<'a, I> {
    label: &'a LabelKey,
    given_out: Option<I>,
    taken: HashSet<EventId>,
    next: HashMap<Form, u32>,
}

impl<'a, I: IntoIterator<Item = EventId>> Mint<'a, I> {
    /// `given_out`: every id the label has given out, those of retracted events too.
    pub fn new(label: &'a LabelKey, given_out: I) -> Self {
        Self { label, given_out: Some(given_out), taken: HashSet::new(), next: HashMap::new() }
    }

    pub fn mint(&mut self, first: Form) -> EventId {
        // Mostly there is nothing to mint.
        self.taken.extend(self.given_out.take().into_iter().flatten());
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
