//! Reasons why a value cannot be read, as an error of serde.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Expected, Unexpected};

use super::fault::known_here;

/// The reason why a value cannot be read, and its path.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
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

impl Wrong {
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
        let wrong = Self::new(what, hint);
        Self {
            path: [section, &[name.to_owned()]].concat(),
            located: true,
            shown: false,
            remove: true,
            ..wrong
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

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Wrong {}

impl Error for Wrong {
    /// The first line is the problem, the second one the hint.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        let (problem, hint) = message.split_once('\n').unwrap_or((&message, ""));
        Self::new(problem, hint)
    }

    /// The hint names the default.
    fn missing_field(field: &'static str) -> Self {
        let wrong = Self::new("is missing", "");
        Self { path: vec![field.to_owned()], shown: false, ..wrong }
    }

    fn duplicate_field(field: &'static str) -> Self {
        let wrong =
            Self::new("is set in two ways", "write one value, or an array under the name in the plural");
        Self { path: vec![field.to_owned()], shown: false, remove: true, ..wrong }
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

/// A whole number within limits.
pub(super) struct Limited<const LEAST: i64, const MOST: i64>(i64);

/// Number of requests that may be in flight at once.
pub(super) type Parallel = Limited<1, { u32::MAX as i64 }>;

impl<const LEAST: i64, const MOST: i64> Limited<LEAST, MOST> {
    pub(super) fn u32(&self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    pub(super) fn u64(&self) -> u64 {
        self.0.unsigned_abs()
    }
}

impl<'de, const LEAST: i64, const MOST: i64> Deserialize<'de> for Limited<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let range = if MOST == i64::MAX {
            format!("write at least {LEAST}")
        } else {
            format!("write a number from {LEAST} to {MOST}")
        };
        match i64::deserialize(deserializer)? {
            number if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => Err(Error::custom(format!("is out of range\n{range}"))),
        }
    }
}
