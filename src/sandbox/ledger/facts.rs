//! Normalised content of JSON values.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// Differences in case, in surrounding white space, and between null and an empty text are not changes: they make no
/// message.
pub(super) fn facts(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => text.trim().to_uppercase().into(),
        Value::Array(values) => values.iter().map(facts).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), facts(value)))
            .filter(|(_, value)| !value.is_null())
            .collect(),
        other => other.clone(),
    }
}

/// Returns a 64-bit hash of the facts of a value; stable between runs.
pub(super) fn fingerprint(value: &Value) -> u64 {
    hash(facts(value).to_string().as_bytes())
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The events of an answer, newest first.
pub(super) fn events(answer: &Value) -> &[Value] {
    answer["events"].as_array().map(Vec::as_slice).unwrap_or_default()
}
