//! A row before it is checked, and what can be wrong with one.
//!
//! Whether the id is one and the account is there is for [`super::super::roll`] to say.

use serde_json::Value as Json;

use super::super::fault::meant;
use crate::domain::label::Metadata;

/// A row before it is checked.
#[derive(Debug, Default)]
pub struct Draft {
    pub id: String,
    pub account: Option<String>,
    pub metadata: Metadata,
    /// Whether `labels list --json` has it as removed.
    pub removed: bool,
}

/// Further fields of `labels list --json`, which is read back without them.
const LISTED: [&str; 10] = [
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

/// What is wrong with a row.
#[derive(Debug)]
pub struct Slip {
    pub value: Option<String>,
    pub problem: String,
    pub hint: Option<String>,
    /// The bytes are no text, so that nothing else of the source can be trusted either.
    pub not_utf8: bool,
}

impl Slip {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None, not_utf8: false }
    }

    pub fn not_json(error: &serde_json::Error) -> Self {
        let hint = "an object a line, as in {\"id\": \"se-324658\"}".to_owned();
        Self { hint: Some(hint), ..Self::new(format!("is no JSON: {error}")) }
    }

    pub fn too_long() -> Self {
        let hint = "is an end of line missing?".to_owned();
        Self { hint: Some(hint), ..Self::new("is longer than 64 KiB") }
    }

    pub fn not_utf8() -> Self {
        let hint = "save it as UTF-8; spreadsheets offer that when a CSV is saved".to_owned();
        Self { hint: Some(hint), not_utf8: true, ..Self::new("is not UTF-8 text") }
    }
}

impl Draft {
    /// An id in quotes, or `{"id": …, "account": …, "metadata": {…}}`, or an object of `labels list --json`, which has
    /// `label_id` in place of `id`.
    pub fn of_json(json: Json) -> Result<Self, Slip> {
        const KEYS: [&str; 3] = ["id", "account", "metadata"];
        let mut object = match json {
            Json::String(id) => return Ok(Self { id, ..Self::default() }),
            Json::Object(object) => object,
            _ => return Err(Slip::new("is neither an id in quotes nor an object with an id")),
        };
        let is_listed = object.contains_key("label_id");
        let id = match object.remove("id").or_else(|| object.remove("label_id")) {
            Some(Json::String(id)) => id,
            Some(_) => return Err(Slip::new("has an id that is no text")),
            None => return Err(Slip::new("has no id")),
        };
        let account = match object.remove("account") {
            None | Some(Json::Null) => None,
            Some(Json::String(account)) => Some(account),
            Some(_) => return Err(Slip::new("has an account that is no text")),
        };
        let metadata = match object.remove("metadata") {
            None | Some(Json::Null) => Metadata::new(),
            Some(Json::Object(metadata)) => metadata,
            Some(_) => return Err(Slip::new("has metadata that are no table")),
        };
        let removed = object.get("state").is_some_and(|state| state == "removed");
        if is_listed {
            object.retain(|key, _| !LISTED.contains(&key.as_str()));
        }
        if let Some(unknown) = object.keys().next() {
            let meant = meant(unknown, KEYS);
            let hint = Some(format!("{meant}Known here: {}", KEYS.join(", ")));
            return Err(Slip { hint, ..Slip::new(format!("has the unknown key \"{unknown}\"")) });
        }
        Ok(Self { id, account, metadata, removed: is_listed && removed })
    }
}
