//! Reads the layered table with serde, and reports all faults.
//!
//! Serde stops at the first wrong value. So a wrong value is reported and replaced by its default, and the table is
//! read again, until it has no fault. Every section is a plain struct. A key without a field counts as a wrong value.
//! Values of the types in [`super::secret`] are read from the file, environment variable or credential that the
//! configuration names.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use config::{Value, ValueKind};
use serde::de::value::{SeqDeserializer, StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::environment::Environment;
use super::fault::{Fault, Findings};
use super::value::{ANY, child, child_mut, empty_table, find, position, toml, unread};
use super::value_error::ValueError;

/// The context of reading and checking.
pub(super) struct Context<'a> {
    pub(super) environment: &'a Environment,
    /// The directory of the configuration file; relative paths start here.
    pub(super) directory: &'a Path,
    /// The configuration file as it was named.
    pub(super) file: &'a str,
    pub(super) findings: &'a Findings,
    pub(super) extent: Extent,
    pub(super) fetch: Fetch,
    /// Texts of files, or why they cannot be read, by path and maximum length. The table is read again after each
    /// fault, but each file is read only once, because a pipe cannot be read twice.
    pub(super) files: RefCell<HashMap<(PathBuf, u64), Result<String, ValueError>>>,
    /// Whether the value that was read last is a secret.
    pub(super) is_secret: Cell<bool>,
}

/// Returns the texts of a value by the name of its type, if the value is read from elsewhere.
pub(super) type Fetch = fn(&At<'_>, &str) -> Option<Result<Vec<String>, ValueError>>;

/// The prefix of variables. `TRACKPOST_CONFIG` has one underscore and is not one of them.
pub(super) const PREFIX: &str = "TRACKPOST__";

/// The part of the configuration that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Everything,
    /// For a command that works on the database only: without secrets and labels.
    BesideDaemon,
}

/// Reads `root`. Each wrong value is reported, and replaced in `root` by its value in `defaults` or removed.
///
/// # Panics
/// If the defaults cannot be read either.
pub(super) fn read<T: DeserializeOwned>(root: &mut Value, defaults: &Value, context: &Context<'_>) -> T {
    let mut only_defaults = false;
    loop {
        let mut error = match T::deserialize(At::root(root, context)) {
            Ok(read) => return read,
            Err(error) => error,
        };
        let default = find(defaults, &error.path).filter(|_| !error.remove);
        if let (true, Some(example), Some(name)) = (error.hint.is_empty(), default, error.path.last()) {
            error.hint = format!("{name} = {}", toml(example));
        }
        let at = error.path.iter().fold(At::root(root, context), |at, name| at.key(name));
        let scalar = at.value.filter(|value| {
            error.shown && !matches!(value.kind, ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_))
        });
        match scalar.map(|value| value.kind.to_string()) {
            Some(value) => at.fault_of(&value, error.problem, error.hint),
            None => at.fault(error.problem, error.hint),
        }
        if !repair(root, defaults, error.path, error.remove) {
            assert!(!only_defaults, "the defaults cannot be read");
            (*root, only_defaults) = (defaults.clone(), true);
        }
    }
}

/// Replaces the value at `path`. If it was replaced before, its table is replaced. Returns false if nothing is left to
/// replace.
fn repair(root: &mut Value, defaults: &Value, mut path: Vec<String>, remove: bool) -> bool {
    while let Some((name, parent)) = path.split_last() {
        let default = match find(defaults, &path).filter(|_| !remove).map(unread) {
            // The defaults contain only the keys of accounts and subscribers, not whole tables.
            Some(default) if child(&default, ANY).is_some() => empty_table(),
            default => default.unwrap_or_default(),
        };
        let parent = parent.iter().try_fold(&mut *root, child_mut);
        if let Some(ValueKind::Table(table)) = parent.map(|parent| &mut parent.kind) {
            // A missing value differs from any default.
            table.entry(name.clone()).or_insert_with(|| Value::from(false));
        }
        let value = path.iter().try_fold(&mut *root, child_mut);
        if let Some(value) = value.filter(|value| value.kind != default.kind) {
            *value = default;
            return true;
        }
        path.pop();
    }
    false
}

/// A value of the table, or where it is missing.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub(super) context: &'a Context<'a>,
    /// The file or variable of the value, or of the table that it is missing in.
    pub(super) place: &'a str,
    path: Vec<String>,
    pub(super) value: Option<&'a Value>,
}

impl<'a> At<'a> {
    pub(super) fn root(root: &'a Value, context: &'a Context<'a>) -> Self {
        Self { context, place: context.file, path: Vec::new(), value: Some(root) }
    }

    pub(super) fn key(&self, name: &str) -> Self {
        let value = self.value.and_then(|value| child(value, name));
        let place = value.and_then(|value| origin(value, self.context.file)).unwrap_or(self.place);
        Self { context: self.context, place, path: [&self.path[..], &[name.to_owned()]].concat(), value }
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.key(&format!("[{index}]"))
    }

    pub(super) fn kind(&self) -> Option<&'a ValueKind> {
        self.value.map(|value| &value.kind)
    }

    pub(super) fn is_set(&self) -> bool {
        self.kind().is_some_and(|kind| *kind != ValueKind::Nil)
    }

    /// The dotted key, with names in quotes where TOML needs them.
    pub(super) fn name(&self) -> String {
        let mut dotted = String::new();
        for (depth, name) in self.path.iter().enumerate() {
            let bare =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            match name {
                name if depth == 0 || position(name).is_some() => dotted.push_str(name),
                name if bare => dotted.push_str(&format!(".{name}")),
                name => dotted.push_str(&format!(".{name:?}")),
            }
        }
        dotted
    }

    /// Whether no fault was found in the value so far.
    pub(super) fn is_valid(&self) -> bool {
        !self.context.findings.has_fault_at(&self.name())
    }

    /// Reports that the value is wrong, without the value.
    pub(super) fn fault(&self, problem: impl Into<String>, hint: impl Into<String>) {
        self.context.findings.fault(Fault::new(self.place, self.name(), problem).hint(hint));
    }

    /// Reports that the value is wrong, with `value` as the value.
    pub(super) fn fault_of(&self, value: &str, problem: impl Into<String>, hint: impl Into<String>) {
        self.context.findings.fault(Fault::new(self.place, self.name(), problem).value(value).hint(hint));
    }

    pub(super) fn warn(&self, value: Option<&str>, problem: impl Into<String>, hint: &str) {
        let warning = Fault::new(self.place, self.name(), problem).hint(hint);
        self.context.findings.warn(match value {
            Some(value) => warning.value(value),
            None => warning,
        });
    }

    /// The name of an account or subscriber has to fit a URL path and an environment variable.
    pub(super) fn check_name(&self, name: &str) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(legal) {
            self.fault("is not a valid name", "a name has 1 to 64 letters, digits, \".\", \"_\" or \"-\"");
        }
    }

    fn read<S: DeserializeSeed<'a>>(self, seed: S) -> Result<S::Value, ValueError> {
        let (context, path) = (self.context, self.path.clone());
        context.is_secret.set(false);
        seed.deserialize(self).map_err(|error| error.at(&path, context.is_secret.get()))
    }

    /// A variable holds text also where a number is meant.
    fn variable_value<T: FromStr>(&self) -> Option<T> {
        match self.kind()? {
            ValueKind::String(text) if is_variable(self.place) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// Returns the values of a table or an array without the removed ones.
    fn children(self, names: impl Iterator<Item = String>) -> Children<'a> {
        let children: Vec<_> =
            names.map(|name| (self.key(&name), name)).filter(|(at, _)| at.is_set()).collect();
        Children { left: children.into_iter(), value: None }
    }
}

struct Children<'a> {
    left: std::vec::IntoIter<(At<'a>, String)>,
    value: Option<At<'a>>,
}

impl<'de> SeqAccess<'de> for Children<'de> {
    type Error = ValueError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ValueError> {
        self.left.next().map(|(at, _)| at.read(seed)).transpose()
    }
}

impl<'de> MapAccess<'de> for Children<'de> {
    type Error = ValueError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ValueError> {
        let Some((at, name)) = self.left.next() else { return Ok(None) };
        self.value = Some(at);
        seed.deserialize(StringDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ValueError> {
        self.value.take().ok_or_else(|| ValueError::new("has a value without a key", ""))?.read(seed)
    }
}

impl<'de> Deserializer<'de> for At<'de> {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.kind() {
            Some(ValueKind::Boolean(flag)) => visitor.visit_bool(*flag),
            Some(ValueKind::I64(number)) => visitor.visit_i64(*number),
            Some(ValueKind::Float(number)) => visitor.visit_f64(*number),
            Some(ValueKind::String(text)) => visitor.visit_str(text),
            Some(ValueKind::Array(items)) => {
                visitor.visit_seq(self.children((0..items.len()).map(|index| format!("[{index}]"))))
            }
            Some(ValueKind::Table(table)) => {
                let mut names: Vec<String> = table.keys().cloned().collect();
                names.sort();
                visitor.visit_map(self.children(names.into_iter()))
            }
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.variable_value() {
            Some(flag) => visitor.visit_bool(flag),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.variable_value() {
            Some(number) => visitor.visit_i64(number),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if let Some(ValueKind::Table(table)) = self.kind() {
            let unknown = |name: &&String| !fields.contains(&name.as_str()) && self.key(name).is_set();
            if let Some(unknown) = table.keys().filter(unknown).min() {
                return Err(ValueError::unknown_key(&self.path, unknown, fields));
            }
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        match self.kind() {
            Some(ValueKind::String(text)) => visitor.visit_enum(StrDeserializer::<ValueError>::new(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if let Some(fetched) = (self.context.fetch)(&self, name) {
            return match <[String; 1]>::try_from(fetched?) {
                Ok([text]) => visitor.visit_newtype_struct(StringDeserializer::<ValueError>::new(text)),
                Err(texts) => {
                    visitor.visit_newtype_struct(SeqDeserializer::<_, ValueError>::new(texts.into_iter()))
                }
            };
        }
        match (name, self.kind()) {
            ("OneOrMore", Some(ValueKind::Array(items))) if items.is_empty() => {
                Err(ValueError::new("is empty", "write at least one, or remove the key"))
            }
            ("OneOrMore", Some(ValueKind::Array(_))) => visitor.visit_newtype_struct(self),
            ("OneOrMore", _) => {
                visitor.visit_newtype_struct(SeqDeserializer::<_, ValueError>::new(std::iter::once(self)))
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for At<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

pub(super) fn is_variable(place: &str) -> bool {
    place.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Returns the file or variable of a value. A merged table has no origin of its own; its values have.
fn origin<'a>(value: &'a Value, file: &str) -> Option<&'a str> {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(entries), None) => {
            let inner = entries.values().filter_map(|value| origin(value, file));
            inner.min_by_key(|place| (*place != file, !is_variable(place)))
        }
        (_, origin) => origin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Number {
        #[expect(dead_code, reason = "only read")]
        n: i64,
    }

    #[test]
    #[should_panic = "the defaults cannot be read"]
    fn broken_defaults_end_the_reading() {
        let table = |n: &str| Value::from(config::Map::from([("n".to_owned(), Value::from(n))]));
        let context = Context {
            environment: &Environment::default(),
            directory: Path::new(""),
            file: "",
            findings: &Findings::default(),
            extent: Extent::Everything,
            fetch: |_, _| None,
            files: RefCell::default(),
            is_secret: Cell::default(),
        };
        read::<Number>(&mut table("a"), &table("b"), &context);
    }
}
