//! A row before it is checked, and its faults.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::fault::known_here;
use crate::domain::label::Metadata;

/// A row before its id and account are checked.
#[derive(Debug, Default)]
pub struct UncheckedRow {
    pub id: String,
    pub account: Option<String>,
    pub metadata: Metadata,
    /// Whether `labels list --json` shows it as removed.
    pub removed: bool,
}

/// Further fields of `labels list --json`, which are ignored.
const IGNORED_FIELDS: [&str; 10] = [
    "state",
    "status_code",
    "tracking_number",
    "registered_at",
    "last_polled_at",
    "last_changed_at",
    "next_poll_at",
    "unchanged",
    "failures",
    "source",
];

/// The fault of a row.
#[derive(Debug)]
pub struct RowFault {
    pub value: Option<String>,
    pub problem: String,
    pub hint: Option<String>,
    /// Whether the bytes are not text. Then the rest of the source is not trusted either.
    pub not_utf8: bool,
}

impl RowFault {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None, not_utf8: false }
    }

    pub fn value(self, value: &str) -> Self {
        Self { value: Some(value.to_owned()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
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
struct RowTable {
    #[serde(alias = "label_id")]
    id: String,
    account: Option<String>,
    metadata: Option<Metadata>,
    #[serde(flatten)]
    rest: BTreeMap<String, Json>,
}

impl UncheckedRow {
    /// An id in quotes, or `{"id": …, "account": …, "metadata": {…}}`, or an object of `labels list --json`, which has
    /// `label_id` instead of `id`.
    pub fn of_json(json: Json) -> Result<Self, RowFault> {
        if let Json::String(id) = json {
            return Ok(Self { id, ..Self::default() });
        }
        let is_listed = json.get("label_id").is_some();
        let RowTable { id, account, metadata, rest } = serde_json::from_value(json)
            .map_err(|error| RowFault::new(format!("is not a valid row: {error}")))?;
        let known = |name: &str| is_listed && IGNORED_FIELDS.contains(&name);
        if let Some(unknown) = rest.keys().find(|name| !known(name)) {
            let hint = known_here(unknown, ["id", "account", "metadata"]);
            return Err(RowFault::new(format!("has the unknown key \"{unknown}\"")).hint(hint));
        }
        let removed = is_listed && rest.get("state").is_some_and(|state| state == "removed");
        Ok(Self { id, account, metadata: metadata.unwrap_or_default(), removed })
    }
}
