//! Values as the `config` crate has them: tables and arrays by path.

use config::{Map, Value, ValueKind};

/// The name of the account and of the subscriber that hold the defaults of all.
pub(super) const ANY: &str = "*";

/// Returns the position in an array that a part of a path names, such as `[0]`.
pub(super) fn position(name: &str) -> Option<usize> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

pub(super) fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(name),
        ValueKind::Array(items) => items.get(position(name)?),
        _ => None,
    }
}

pub(super) fn child_mut<'a>(value: &'a mut Value, name: &String) -> Option<&'a mut Value> {
    match &mut value.kind {
        ValueKind::Table(table) => table.get_mut(name),
        ValueKind::Array(items) => items.get_mut(position(name)?),
        _ => None,
    }
}

/// Returns the default of the value at `path`. A name in the plural has the default of the singular.
pub(super) fn find<'a>(defaults: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(defaults, |value, name| {
        let singular = || child(value, name.strip_suffix('s')?);
        child(value, name).or_else(|| child(value, ANY)).or_else(singular)
    })
}

/// A value as TOML writes it.
pub(super) fn toml(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        ValueKind::Table(table) => {
            let entries = table.iter().map(|(name, value)| format!("{name} = {}", toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Placeholder of a secret that is not read. It is valid for every kind of secret.
pub(super) const UNREAD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Returns the kind of place of a secret, and its path or name.
pub(super) fn place_of_secret(written: &ValueKind) -> Option<(&str, &str)> {
    let ValueKind::Table(table) = written else { return None };
    let (kind, place) = table.iter().next().filter(|_| table.len() == 1)?;
    match &place.kind {
        ValueKind::String(place) if ["file", "env", "credential"].contains(&kind.as_str()) => {
            Some((kind, place))
        }
        _ => None,
    }
}

/// `value` with [`UNREAD`] for every secret that is kept elsewhere.
pub(super) fn unread(value: &Value) -> Value {
    match &value.kind {
        kind if place_of_secret(kind).is_some() => Value::from(UNREAD),
        ValueKind::Table(table) => Value::from(
            table.iter().map(|(name, value)| (name.clone(), unread(value))).collect::<Map<_, _>>(),
        ),
        _ => value.clone(),
    }
}

pub(super) fn empty_table() -> Value {
    Value::new(None, Map::<String, Value>::new())
}
