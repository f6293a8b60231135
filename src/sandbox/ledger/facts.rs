//! What a JSON value says, however it is spelled.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// Capitals, white space at the ends and null for an empty text are no news, so no message is owed when a carrier
/// changes those alone.
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

/// The facts of a value in 64 bits; the same in every run.
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
