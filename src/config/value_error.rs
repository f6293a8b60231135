//! The reason why a value cannot be read, as an error of serde.

use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::fault::known_here;

/// The reason why a value cannot be read, and its path.
#[derive(Clone, Debug)]
pub(super) struct ValueError {
    pub(super) path: Vec<String>,
    /// Whether `path` begins at the root.
    pub(super) located: bool,
    pub(super) problem: String,
    pub(super) hint: String,
    /// Whether the value may be shown.
    pub(super) shown: bool,
    /// Whether the value must be removed, even if it has a default.
    pub(super) remove: bool,
}

impl ValueError {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            located: false,
            problem: problem.into(),
            hint: hint.into(),
            shown: true,
            remove: false,
        }
    }

    pub(super) fn unknown_key(section: &[String], name: &str, fields: &'static [&'static str]) -> Self {
        let what = if section.is_empty() { "is not a known section" } else { "is not a known key" };
        let ends = section == ["cadence"] && ["DE", "SP"].iter().any(|code| code.eq_ignore_ascii_case(name));
        let hint = if ends {
            "polls of a label end with DE or SP; settle adds polls".to_owned()
        } else {
            known_here(name, fields.iter().copied())
        };
        let error = Self::new(what, hint);
        Self {
            path: [section, &[name.to_owned()]].concat(),
            located: true,
            shown: false,
            remove: true,
            ..error
        }
    }

    /// Sets the path of the value, or of its missing key, unless an inner value is known already.
    pub(super) fn at(self, path: &[String], secret: bool) -> Self {
        if self.located {
            return self;
        }
        Self { path: [path, &self.path].concat(), located: true, shown: self.shown && !secret, ..self }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ValueError {}

impl Error for ValueError {
    /// The first line is the problem, the second one the hint.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (problem, hint) = message.split_once('\n').unwrap_or((&message, ""));
        Self::new(problem, hint)
    }

    /// The hint names the default.
    fn missing_field(field: &'static str) -> Self {
        Self { path: vec![field.to_owned()], shown: false, ..Self::new("is missing", "") }
    }

    fn duplicate_field(field: &'static str) -> Self {
        let error =
            Self::new("is set in two ways", "write one value, or an array under the name in the plural");
        Self { path: vec![field.to_owned()], shown: false, remove: true, ..error }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (form, hint) = match expected.to_string().as_str() {
            "a boolean" => ("true or false", "write true or false, without quotes"),
            "i64" => ("an integer", "write digits, without quotes"),
            "a sequence" => ("an array", "write an array like [\"a\", \"b\"]"),
            section if section == "a map" || section.starts_with("struct ") => {
                ("a table", "write a table like { key = \"value\" }, or [section] with its keys below")
            }
            _ => ("a string", "put it in quotes"),
        };
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a float",
            Unexpected::Str(_) => "a string",
            Unexpected::Map => "a table",
            Unexpected::Seq => "an array",
            _ => "nothing",
        };
        let shown = !matches!(form, "a table" | "an array");
        Self { shown, ..Self::new(format!("should be {form}, but is {found}"), hint) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = known_here(variant, expected.iter().copied());
        Self::new(format!("is not one of {}", expected.join(", ")), hint)
    }
}
