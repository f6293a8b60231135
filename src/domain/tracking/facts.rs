//! What a whole answer says, as a digest: the content of `tracking.updated`.
//!
//! Order of keys and events, white space, number spelling, null and "" do not enter; the zone of a date does not either.

use std::borrow::Cow;

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::TrackingEvent;
use crate::domain::digest::Digest;
use crate::domain::tracking::matching::read_value;

/// The digest of an answer's `fields` beside its `events`, and of these.
pub fn digest(fields: &[(Cow<'_, str>, &RawValue)], events: &[TrackingEvent]) -> Digest {
    let mut said = String::with_capacity(512);
    let mut facts: Vec<(&str, usize, usize)> = Vec::with_capacity(fields.len());
    for (name, raw) in fields {
        let name = if name == "shipped_date" { "ship_date" } else { name };
        let start = said.len();
        if read_value(raw.get(), name.ends_with("_date"), &mut said).is_none() {
            said.truncate(start);
            said.push_str(raw.get());
        }
        if said.len() > start {
            facts.push((name, start, said.len()));
        }
    }
    facts.sort_unstable_by_key(|&(name, start, end)| (name, &said[start..end]));
    // Both spellings of one date are one fact.
    facts.dedup_by(|one, other| one.0 == other.0 && said[one.1..one.2] == said[other.1..other.2]);
    let mut hash = Sha256::new();
    for (name, start, end) in facts {
        for part in [name, &said[start..end]] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    let mut forms: Vec<_> = events.iter().map(|event| event.form).collect();
    forms.sort_unstable();
    for form in forms {
        hash.update(form.as_bytes());
    }
    hash.finalize().into()
}
