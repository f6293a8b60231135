//! The canonical form of a carrier event: what it says, whatever the spelling.
//!
//! The vendor swaps null and "", spells 1 as 1.0, moves keys and suffixes zones at will. Events of the same form say the
//! same. Forms serve comparing only and never leave the process but as digests beside the raw event; what is stored and
//! sent is raw. The digest enters the ids of events, so a change to anything here changes the ids of events to come:
//! `a_form_is_for_ever` in the tests holds it still.

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::text::fold;
use super::wall::WallClock;

/// The digest of a canonical form: the first 16 bytes of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Form([u8; Form::LEN]);

impl Form {
    pub const LEN: usize = 16;

    /// Of one raw event object.
    pub fn of(raw: &str) -> Self {
        Canonical::of(raw).form()
    }

    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Many forms as one run of bytes, for a column.
    pub fn pack(forms: &[Self]) -> Vec<u8> {
        forms.iter().flat_map(|form| form.0).collect()
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

/// The fields that say something, sorted by name, in one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    fields: Vec<(String, String)>,
}

/// The fields that are read as wall clocks.
const TIMES: [&str; 2] = ["occurred_at", "carrier_occurred_at"];

impl Canonical {
    /// Total: a raw text that is no JSON object is one nameless field.
    pub fn of(raw: &str) -> Self {
        let fields = match serde_json::from_str(raw) {
            Ok(Value::Object(object)) => object
                .into_iter()
                .filter_map(|(name, value)| Some((canonical_field(&name, &value)?, name)))
                .map(|(value, name)| (name, value))
                .collect(),
            _ => vec![(String::new(), fold(raw))],
        };
        Self { fields }
    }

    /// `None` is null, "", or missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.fields.binary_search_by(|(field, _)| field.as_str().cmp(name)).ok()?;
        Some(&self.fields[at].1)
    }

    pub fn form(&self) -> Form {
        let mut hash = Sha256::new();
        for (name, value) in &self.fields {
            for part in [name, value] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        let mut form = [0; Form::LEN];
        form.copy_from_slice(&hash.finalize()[..Form::LEN]);
        Form(form)
    }

    /// The names of the fields that differ, sorted.
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let names = self.fields.iter().chain(&other.fields).map(|(name, _)| name);
        let mut changed: Vec<_> = names.filter(|name| self.get(name) != other.get(name)).cloned().collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// How many fields say the same in both.
    pub fn agreement(&self, other: &Self) -> usize {
        let mut theirs = other.fields.iter().peekable();
        let agrees = |(name, value): &&(String, String)| {
            while theirs.next_if(|(other, _)| other < name).is_some() {}
            theirs.next_if(|(other, _)| other == name).is_some_and(|(_, other)| other == value)
        };
        self.fields.iter().filter(agrees).count()
    }
}

fn canonical_field(name: &str, value: &Value) -> Option<String> {
    match value {
        Value::String(text) if TIMES.contains(&name) => match WallClock::parse(text) {
            Some(clock) => Some(clock.to_string()),
            None => canonical(value),
        },
        _ => canonical(value),
    }
}

fn canonical(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (None, None, Some(float)) => plain_decimal(float.to_string()),
            _ => number.to_string(),
        },
        Value::String(text) => plain_decimal(fold(text)),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            if items.iter().all(Option::is_none) {
                return None;
            }
            let items = items.iter().map(|item| counted(item.as_deref().unwrap_or_default()));
            format!("[{}]", items.collect::<String>())
        }
        Value::Object(object) => {
            let fields = object.iter().filter_map(|(name, value)| Some((name, canonical(value)?)));
            let fields: String = fields.map(|(name, value)| counted(name) + &counted(&value)).collect();
            if fields.is_empty() {
                return None;
            }
            format!("{{{fields}}}")
        }
    };
    (!text.is_empty()).then_some(text)
}

/// So that no two nestings read alike.
fn counted(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// `1.0` and `1.00` are `1`, `-0` is `0`; what is no plain decimal, like `01`, stays as it is.
fn plain_decimal(text: String) -> String {
    let unsigned = text.strip_prefix('-').unwrap_or(&text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return text;
    }
    let fraction = fraction.trim_end_matches('0');
    let sign = if text.len() > unsigned.len() && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}
