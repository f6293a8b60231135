//! A row before it is checked, and what can be wrong with one.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::fault::known_here;
use crate::domain::label::Metadata;

/// A row before its id and account are checked.
#[derive(Debug, Default)]
pub struct Draft {
    pub id: String,
    pub account: Option<String>,
    pub metadata: Metadata,
}

/// What is wrong with a row.
#[derive(Debug)]
pub struct Slip {
    pub value: Option<String>,
    pub problem: String,
    pub hint: Option<String>,
    /// The bytes are not text, so that nothing else of the source can be trusted either.
    pub not_utf8: bool,
}

impl Slip {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None, not_utf8: false }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn not_json(error: &serde_json::Error) -> Self {
        let problem = format!("is not valid JSON: {error}");
        Self::new(problem).hint("an object a line, as in {\"id\": \"se-324658\"}")
    }

    pub fn too_long() -> Self {
        Self::new("is longer than 64 KiB").hint("is an end of line missing?")
    }

    pub fn not_utf8() -> Self {
        let hint = "save it as UTF-8; spreadsheets offer that when a CSV is saved";
        Self { not_utf8: true, ..Self::new("is not UTF-8 text").hint(hint) }
    }
}

/// A row that is a table.
#[derive(Deserialize)]
#[serde(expecting = "an id in quotes or an object with an id")]
struct Written {
    #[serde(alias = "label_id")]
    id: String,
    account: Option<String>,
    metadata: Option<Metadata>,
    #[serde(flatten)]
    rest: BTreeMap<String, IgnoredAny>,
}

impl Draft {
    /// An id in quotes, or `{"id": …, "account": …, "metadata": {…}}`; `label_id` stands for `id`, too.
    pub fn of_json(json: Json) -> Result<Self, Slip> {
        if let Json::String(id) = json {
            return Ok(Self { id, ..Self::default() });
        }
        let Written { id, account, metadata, rest } = serde_json::from_value(json)
            .map_err(|error| Slip::new(format!("is not a valid row: {error}")))?;
        if let Some(unknown) = rest.keys().next() {
            let hint = known_here(unknown, ["id", "account", "metadata"]);
            return Err(Slip::new(format!("has the unknown key \"{unknown}\"")).hint(hint));
        }
        Ok(Self { id, account, metadata: metadata.unwrap_or_default() })
    }
}
