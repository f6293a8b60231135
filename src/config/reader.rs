//! Reads values out of the layered table and leaves a fault for each that is wrong.
//!
//! Serde stops at the first mistake; here every reader notes what it finds and answers `None`, so that one pass tells
//! everything. `None` is therefore either "not there" or "already reported": callers fall back to a default and need
//! not care which, as nothing comes of a configuration with a fault.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use config::{Map, Value, ValueKind};

use super::duration::{self, DurationError};
use super::environment::Environment;
use super::fault::{Fault, Findings, meant};
use super::layers::PREFIX;

/// What readers need besides the value.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) environment: &'a Environment,
    /// The configuration file's; relative paths start here.
    pub(super) directory: &'a Path,
    /// The configuration file as it was named.
    pub(super) file: &'a str,
    pub(super) findings: &'a Findings,
    pub(super) extent: Extent,
}

/// How much of the configuration is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Everything,
    /// For a verb that works on the database only: no secret is fetched, no label is read.
    BesideDaemon,
}

/// A value, with its key and its origin.
pub(super) struct Entry<'a> {
    pub(super) context: Context<'a>,
    pub(super) key: String,
    pub(super) value: &'a Value,
}

impl<'a> Entry<'a> {
    /// The file or variable the value came from. A merged table has no origin of its own: then one of its values'.
    pub(super) fn place(&self) -> &'a str {
        origin(self.value, self.context.file).unwrap_or(self.context.file)
    }

    /// Reports that the value is wrong, and shows it if it is a scalar.
    pub(super) fn fault<T>(&self, problem: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        let fault = Fault::new(self.place(), &self.key, problem).hint(hint);
        self.context.findings.fault(match scalar(self.value) {
            Some(value) => fault.value(&value),
            None => fault,
        });
        None
    }

    /// Reports that the value is wrong, and shows `shown` for it.
    pub(super) fn fault_masked<T>(
        &self,
        shown: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Option<T> {
        let fault = Fault::new(self.place(), &self.key, problem).value(shown).hint(hint);
        self.context.findings.fault(fault);
        None
    }

    /// Reports that the value is wrong, and shows nothing of it.
    pub(super) fn fault_unshown<T>(&self, problem: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.context.findings.fault(Fault::new(self.place(), &self.key, problem).hint(hint));
        None
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            other => self.fault(format!("should be a text, but is {}", kind(other)), "put it in quotes"),
        }
    }

    /// The text if it is one; says nothing otherwise.
    pub(super) fn text_if_any(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match (&self.value.kind, self.variable_text()) {
            (ValueKind::Boolean(flag), _) => Some(*flag),
            (_, Some("true")) => Some(true),
            (_, Some("false")) => Some(false),
            (other, _) => self.fault(
                format!("should be true or false, but is {}", kind(other)),
                "write true or false, without quotes",
            ),
        }
    }

    pub(super) fn whole(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match (&self.value.kind, self.variable_text()) {
            (ValueKind::I64(number), _) => *number,
            (_, Some(text)) if text.parse::<i64>().is_ok() => text.parse().unwrap_or_default(),
            (other, _) => {
                return self.fault(
                    format!("should be a whole number, but is {}", kind(other)),
                    "write digits, without quotes",
                );
            }
        };
        let (least, most) = range.clone().into_inner();
        match range.contains(&number) {
            true => Some(number),
            false if most == i64::MAX => self.fault("is out of range", format!("at least {least}")),
            false => self.fault("is out of range", format!("{least} to {most}")),
        }
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        const FORM: &str = "a duration reads like \"300ms\", \"90s\", \"5m\", \"1h30m\", \"180d\"";
        let ValueKind::String(text) = &self.value.kind else {
            return self.fault(format!("should be a duration, but is {}", kind(&self.value.kind)), FORM);
        };
        duration::parse(text).map_or_else(
            |error| match error {
                DurationError::Malformed => self.fault(error.to_string(), FORM),
                DurationError::TooShort => self.fault(error.to_string(), "at least 100ms"),
                DurationError::TooLong => self.fault(error.to_string(), "at most 36500d"),
            },
            Some,
        )
    }

    pub(super) fn list(&self) -> Option<Vec<Entry<'a>>> {
        let ValueKind::Array(items) = &self.value.kind else {
            return self.fault_unshown(
                format!("should be an array, but is {}", kind(&self.value.kind)),
                "an array reads like [\"a\", \"b\"]",
            );
        };
        let entry = |(index, value)| Entry { key: format!("{}[{index}]", self.key), value, ..*self };
        Some(items.iter().enumerate().map(entry).collect())
    }

    /// All items of an array as durations, if all are.
    pub(super) fn durations(&self) -> Option<Vec<Duration>> {
        let items = self.list()?;
        let durations: Vec<Option<Duration>> = items.iter().map(Entry::duration).collect();
        durations.into_iter().collect()
    }

    /// A table whose keys are fixed; others are reported with the nearest known one, without their value.
    pub(super) fn table(&self, known: &'static [&'static str]) -> Option<Table<'a>> {
        let named = self.named()?;
        for (name, entry) in named.iter().filter(|(name, _)| !known.contains(name)) {
            let meant = meant(name, known.iter().copied());
            entry.fault_unshown::<()>(
                "is no key that is known here",
                format!("{meant}Known here: {}", known.join(", ")),
            );
        }
        Some(Table { context: self.context, key: self.key.clone(), place: self.place(), named })
    }

    /// A table whose keys are names, in their order.
    pub(super) fn named(&self) -> Option<Vec<(&'a str, Entry<'a>)>> {
        let ValueKind::Table(entries) = &self.value.kind else {
            return self.fault_unshown(
                format!("should be a table, but is {}", kind(&self.value.kind)),
                "a table reads like { key = \"value\" }, or [section] with its keys below",
            );
        };
        Some(in_order(self.context, &self.key, entries))
    }

    /// What a variable holds: text even where a number is meant.
    fn variable_text(&self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) if from_variable(self.value.origin()?) => Some(text.trim()),
            _ => None,
        }
    }
}

/// A table whose keys are known.
pub(super) struct Table<'a> {
    context: Context<'a>,
    key: String,
    place: &'a str,
    named: Vec<(&'a str, Entry<'a>)>,
}

impl<'a> Table<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&Entry<'a>> {
        self.named.iter().find(|(name, _)| *name == key).map(|(_, entry)| entry)
    }

    /// The value, unless it is the empty text, which is none.
    pub(super) fn present(&self, key: &str) -> Option<&Entry<'a>> {
        self.get(key).filter(|entry| entry.text_if_any().is_none_or(|text| !text.is_empty()))
    }

    /// The value, or a fault that there is none.
    pub(super) fn required(&self, key: &str, hint: &str) -> Option<&Entry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.fault(key, "is missing", hint);
        }
        entry
    }

    /// A fault about a key that has no value.
    pub(super) fn fault(&self, key: &str, problem: &str, hint: &str) {
        self.context.findings.fault(Fault::new(self.place, dotted(&self.key, key), problem).hint(hint));
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.flag()
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        self.get(key)?.duration()
    }

    /// A whole number from 1 on that fits a `u32`.
    pub(super) fn count(&self, key: &str, most: u32) -> Option<u32> {
        self.get(key)?.whole(1..=i64::from(most)).and_then(|number| u32::try_from(number).ok())
    }
}

/// The entries of the whole configuration.
pub(super) fn in_order<'a>(
    context: Context<'a>,
    key: &str,
    entries: &'a Map<String, Value>,
) -> Vec<(&'a str, Entry<'a>)> {
    let mut named: Vec<_> = entries
        .iter()
        .map(|(name, value)| (name.as_str(), Entry { context, key: dotted(key, name), value }))
        .collect();
    named.sort_by_key(|(name, _)| *name);
    named
}

/// `key.name`, the name in quotes where TOML would want them.
pub(super) fn dotted(key: &str, name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    match (key, bare) {
        ("", _) => name.to_owned(),
        (_, true) => format!("{key}.{name}"),
        (_, false) => format!("{key}.{name:?}"),
    }
}

/// Whether a name can stand in a URL path, an environment variable and a table of text as it is.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// What [`is_name`] asks for.
pub(super) const NAME_FORM: &str = "a name has 1 to 64 letters, digits, \".\", \"_\" or \"-\"";

pub(super) fn from_variable(place: &str) -> bool {
    place.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

fn origin<'a>(value: &'a Value, file: &str) -> Option<&'a str> {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(entries), None) => {
            let inner = entries.values().filter_map(|value| origin(value, file));
            inner.min_by_key(|place| (*place != file, *place))
        }
        (_, origin) => origin,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Nil | ValueKind::Table(_) | ValueKind::Array(_) => None,
        scalar => Some(scalar.to_string()),
    }
}

fn kind(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "an array",
    }
}
