//! Digest of the content of a whole answer, from which the id of `tracking.updated` derives.
//!
//! The order of keys and events, white space, spelling of numbers, null, "" and the zones of dates do not change it
//! (contract 5.2).

use std::borrow::Cow;

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::TrackingEvent;
use crate::domain::digest::{Digest, update_part};
use crate::domain::tracking::matching::read_value;

/// Returns the digest of an answer's `fields` (all but `events`) and `events`.
pub(super) fn digest(fields: &[(Cow<'_, str>, &RawValue)], events: &[TrackingEvent]) -> Digest {
    let mut values = String::with_capacity(512);
    let mut facts: Vec<(&str, usize, usize)> = Vec::with_capacity(fields.len());
    for (name, raw) in fields {
        let name = if name == "shipped_date" { "ship_date" } else { name };
        let start = values.len();
        if read_value(raw.get(), name.ends_with("_date"), &mut values).is_none() {
            values.truncate(start);
            values.push_str(raw.get());
        }
        if values.len() > start {
            facts.push((name, start, values.len()));
        }
    }
    facts.sort_unstable_by_key(|&(name, start, end)| (name, &values[start..end]));
    // `ship_date` and `shipped_date` with the same value are one fact.
    facts.dedup_by(|one, other| one.0 == other.0 && values[one.1..one.2] == values[other.1..other.2]);
    let mut hash = Sha256::new();
    for (name, start, end) in facts {
        update_part(&mut hash, name);
        update_part(&mut hash, &values[start..end]);
    }
    let mut fingerprints: Vec<_> = events.iter().map(|event| event.fingerprint).collect();
    fingerprints.sort_unstable();
    for fingerprint in fingerprints {
        hash.update(fingerprint.as_bytes());
    }
    hash.finalize().into()
}
