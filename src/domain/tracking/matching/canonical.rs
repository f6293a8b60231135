//! The canonical form of a carrier event: what it says, whatever the spelling.
//!
//! The vendor swaps null and "", spells 1 as 1.0, moves keys and suffixes zones at will. Events of the same form say the
//! same. Forms serve comparing only and never leave the process but as digests beside the raw event; what is stored and
//! sent is raw. The digest enters the ids of events, so a change to anything here changes the ids of events to come:
//! `a_form_is_for_ever` in the tests holds it still.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::layout::{Field, Layout, Layouts, is_clock};
use super::text::fold;
use super::value;
use crate::domain::tracking::mended;

/// No real event comes near it. A layout of a million names would take a hundred times the memory of the answer.
const LARGEST: usize = 64 * 1024;

/// The digest of a canonical form: the first 16 bytes of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Form([u8; Form::LEN]);

impl Form {
    pub const LEN: usize = 16;

    /// Of one raw event object.
    pub fn of(raw: &str) -> Self {
        Canonical::of(raw, &Layouts::default()).form()
    }

    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Many forms as one run of bytes, for a column.
    pub fn pack(forms: &[Self]) -> Vec<u8> {
        forms.iter().flat_map(|form| form.0).collect()
    }

    /// Reads packed forms written in hex digits; `None` if they are none.
    pub fn from_hex(hex: &str) -> Option<Vec<Self>> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
        let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
        Self::unpack(&bytes).filter(|_| rest.is_empty())
    }

    /// The inverse of [`Form::pack`]; `None` if the bytes don't divide into forms.
    pub fn unpack(bytes: &[u8]) -> Option<Vec<Self>> {
        let (forms, rest) = bytes.as_chunks();
        rest.is_empty().then(|| forms.iter().copied().map(Self).collect())
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Form(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The fields that say something, in one spelling.
#[derive(Clone, Debug)]
pub struct Canonical {
    layout: Arc<Layout>,
    /// What the fields say, one behind the other, in the order of the layout.
    said: String,
    /// Where in `said` each ends.
    ends: Vec<usize>,
}

impl Canonical {
    /// Total: a raw text that is no JSON object, or is larger than any event, is one nameless field.
    pub fn of(raw: &str, layouts: &Layouts) -> Self {
        if raw.len() > LARGEST {
            return Self::made_of([("", Some(raw.to_owned()))]);
        }
        if let Some((layout, said, ends)) = layouts.read(raw) {
            return Self { layout, said, ends };
        }
        Self::without_layout(raw)
    }

    /// The same by a parser, for the odd ones: slower, and the measure of the other way.
    pub fn without_layout(raw: &str) -> Self {
        match serde_json::from_str(&mended(raw)) {
            Ok(Value::Object(object)) => Self::made_of(
                object.iter().map(|(name, value)| (name.as_str(), value::of(value, is_clock(name)))),
            ),
            _ => Self::made_of([("", Some(fold(raw)))]),
        }
    }

    /// Of fields whose names differ.
    fn made_of<'n>(fields: impl IntoIterator<Item = (&'n str, Option<String>)>) -> Self {
        let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        let (mut said, mut ends) = (String::new(), Vec::new());
        for value in values {
            said.push_str(&value.unwrap_or_default());
            ends.push(said.len());
        }
        let layout = Layout::new(names).expect("the names differ");
        Self { layout: Arc::new(layout), said, ends }
    }

    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Where in `said` a column stands; an empty range is null, "", or missing.
    fn range(&self, column: usize) -> Range<usize> {
        column.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[column]
    }

    fn value(&self, column: usize) -> &str {
        &self.said[self.range(column)]
    }

    fn value_named(&self, name: &str) -> &str {
        self.layout.column_named(name).map_or("", |column| self.value(column))
    }

    /// `None` is null, "", or missing.
    pub fn get(&self, field: Field) -> Option<&str> {
        let value = self.value(self.layout.column(field)?);
        (!value.is_empty()).then_some(value)
    }

    /// Names and values of the fields that say something, sorted by name.
    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields =
            self.layout.sorted().iter().map(|&column| (self.layout.name(column), self.value(column)));
        fields.filter(|(_, value)| !value.is_empty())
    }

    pub fn form(&self) -> Form {
        let mut framed = Vec::with_capacity(1024);
        for &column in self.layout.sorted() {
            self.frame(column, &mut framed);
        }
        let mut form = [0; Form::LEN];
        form.copy_from_slice(&Sha256::digest(&framed)[..Form::LEN]);
        Form(form)
    }

    /// Appends name and value of a field that says something, each with its length before it.
    fn frame(&self, column: usize, framed: &mut Vec<u8>) {
        let value = &self.said.as_bytes()[self.range(column)];
        if !value.is_empty() {
            framed.extend_from_slice(self.layout.framed_name(column));
            framed.extend_from_slice(&(value.len() as u64).to_be_bytes());
            framed.extend_from_slice(value);
        }
    }

    /// The names of the fields that differ, sorted.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        if Arc::ptr_eq(&self.layout, &other.layout) {
            let columns = self.layout.sorted().iter().copied();
            let (mine, theirs) = (self.said.as_bytes(), other.said.as_bytes());
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

    /// What all fields but the times say, framed so that two of these are equal only if all those fields are.
    pub fn but_times(&self) -> Vec<u8> {
        let mut framed = Vec::with_capacity(self.said.len() + 256);
        for &column in self.layout.sorted().iter().filter(|&&column| !self.layout.is_clock(column)) {
            self.frame(column, &mut framed);
        }
        framed
    }

    /// How many fields say the same in both.
    pub fn agreement(&self, other: &Self) -> usize {
        self.fields().filter(|(name, value)| other.value_named(name) == *value).count()
    }
}
