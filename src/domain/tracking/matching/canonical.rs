//! Canonical form of a carrier event: its content, independent of spelling.
//!
//! The API swaps null and "", spells 1 as 1.0, reorders keys and adds zones. Events of equal canonical form have equal
//! content. Canonical forms are only compared; the raw event is stored and sent, with the fingerprint beside it. Event
//! ids derive from fingerprints, so any change here changes the ids of future events. The test
//! `a_fingerprint_never_changes` guards this.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use data_encoding::HEXUPPER_PERMISSIVE;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::fold::fold;
use super::layout::{self, Field, Layout, is_time};
use super::value;
use crate::domain::tracking::replace_lone_surrogates;

/// Maximum length of an event; a larger one becomes a single field. Real ones are far smaller; an object of a million
/// names would take a hundred times the answer's memory.
const MAX_LEN: usize = 64 * 1024;

/// Digest of a canonical form: the first 16 bytes of its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; Fingerprint::LEN]);

impl Fingerprint {
    pub const LEN: usize = 16;

    /// Fingerprint of one raw event object.
    pub fn of(raw: &str) -> Self {
        Canonical::of(raw).fingerprint()
    }

    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Concatenates fingerprints, for a database column.
    pub fn pack(fingerprints: &[Self]) -> Vec<u8> {
        fingerprints.iter().flat_map(|fingerprint| fingerprint.0).collect()
    }

    /// Reads packed fingerprints in hex; `None` if the text is not valid.
    pub fn from_hex(hex: &str) -> Option<Vec<Self>> {
        Self::unpack(&HEXUPPER_PERMISSIVE.decode(hex.as_bytes()).ok()?)
    }

    /// Inverse of [`Fingerprint::pack`]; `None` if the length is not a multiple of [`Self::LEN`].
    pub fn unpack(bytes: &[u8]) -> Option<Vec<Self>> {
        let (chunks, rest) = bytes.as_chunks();
        rest.is_empty().then(|| chunks.iter().copied().map(Self).collect())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Fields of an event in canonical spelling.
#[derive(Clone, Debug)]
pub struct Canonical {
    layout: Arc<Layout>,
    /// Values of the fields, concatenated in the order of the layout.
    values: String,
    /// End of each value in `values`.
    ends: Vec<usize>,
}

impl Canonical {
    /// Never fails: a text that is not a JSON object or is larger than [`MAX_LEN`] becomes one nameless field.
    pub fn of(raw: &str) -> Self {
        if raw.len() > MAX_LEN {
            return Self::made_of([("", Some(raw.to_owned()))]);
        }
        if let Some((layout, values, ends)) = layout::read(raw) {
            return Self { layout, values, ends };
        }
        Self::without_layout(raw)
    }

    /// The same by `serde_json`: slower, for objects that [`layout::read`] refuses. Tests compare the two.
    pub fn without_layout(raw: &str) -> Self {
        match serde_json::from_str(&replace_lone_surrogates(raw)) {
            Ok(Value::Object(object)) => Self::made_of(
                object.iter().map(|(name, value)| (name.as_str(), value::of(value, is_time(name)))),
            ),
            _ => Self::made_of([("", Some(fold(raw)))]),
        }
    }

    /// The names must differ.
    fn made_of<'n>(fields: impl IntoIterator<Item = (&'n str, Option<String>)>) -> Self {
        let (names, texts): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let (mut values, mut ends) = (String::new(), Vec::new());
        for value in texts {
            values.push_str(&value.unwrap_or_default());
            ends.push(values.len());
        }
        let layout = Layout::new(names).expect("the names differ");
        Self { layout: Arc::new(layout), values, ends }
    }

    /// Range of a column in `values`; an empty one is null, "" or missing.
    fn range(&self, column: usize) -> Range<usize> {
        column.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[column]
    }

    fn value(&self, column: usize) -> &str {
        &self.values[self.range(column)]
    }

    fn value_named(&self, name: &str) -> &str {
        self.layout.column_named(name).map_or("", |column| self.value(column))
    }

    /// `None` if the field is null, "" or missing.
    pub fn get(&self, field: Field) -> Option<&str> {
        let value = self.value(self.layout.column(field)?);
        (!value.is_empty()).then_some(value)
    }

    /// Names and values of the non-empty fields, sorted by name.
    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields =
            self.layout.sorted().iter().map(|&column| (self.layout.name(column), self.value(column)));
        fields.filter(|(_, value)| !value.is_empty())
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let mut framed = Vec::with_capacity(1024);
        for &column in self.layout.sorted() {
            self.frame(column, &mut framed);
        }
        let mut fingerprint = [0; Fingerprint::LEN];
        fingerprint.copy_from_slice(&Sha256::digest(&framed)[..Fingerprint::LEN]);
        Fingerprint(fingerprint)
    }

    /// Appends name and value of a non-empty field, each prefixed with its length.
    fn frame(&self, column: usize, framed: &mut Vec<u8>) {
        let value = &self.values.as_bytes()[self.range(column)];
        if !value.is_empty() {
            framed.extend_from_slice(self.layout.framed_name(column));
            framed.extend_from_slice(&(value.len() as u64).to_be_bytes());
            framed.extend_from_slice(value);
        }
    }

    /// Names of the fields that differ, sorted.
    pub fn changed_fields(&self, other: &Self) -> Vec<String> {
        if Arc::ptr_eq(&self.layout, &other.layout) {
            let columns = self.layout.sorted().iter().copied();
            let (mine, theirs) = (self.values.as_bytes(), other.values.as_bytes());
            let changed = columns.filter(|&column| mine[self.range(column)] != theirs[other.range(column)]);
            return changed.map(|column| self.layout.name(column).to_owned()).collect();
        }
        let names = self.fields().chain(other.fields()).map(|(name, _)| name);
        let mut changed: Vec<_> = names
            .filter(|name| self.value_named(name) != other.value_named(name))
            .map(str::to_owned)
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// All fields but the times, framed: equal only if all these fields are equal.
    pub fn without_times(&self) -> Vec<u8> {
        let mut framed = Vec::with_capacity(self.values.len() + 256);
        for &column in self.layout.sorted().iter().filter(|&&column| !self.layout.is_time(column)) {
            self.frame(column, &mut framed);
        }
        framed
    }

    /// Number of non-empty fields that are equal in both.
    pub fn equal_fields(&self, other: &Self) -> usize {
        self.fields().filter(|(name, value)| other.value_named(name) == *value).count()
    }
}
