//! A row before it is checked, and what can be wrong with one.
//!
//! Whether the id is one and the account is there is for [`super::super::roll`] to say.

use serde_json::Value as Json;

use super::super::fault::nearest;
use crate::domain::label::Metadata;

/// A row before it is checked.
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
}

impl Slip {
    pub fn new(problem: impl Into<String>) -> Self {
        Self { value: None, problem: problem.into(), hint: None }
    }
}

impl Draft {
    /// An id in quotes, or `{"id": …, "account": …, "metadata": {…}}`; `label_id` is taken for `id`.
    pub fn of_json(json: Json) -> Result<Self, Slip> {
        const KEYS: [&str; 3] = ["id", "account", "metadata"];
        let mut object = match json {
            Json::String(id) => return Ok(Self { id, ..Self::default() }),
            Json::Object(object) => object,
            _ => return Err(Slip::new("is neither an id in quotes nor an object with an id")),
        };
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
        if let Some(unknown) = object.keys().next() {
            let meant = nearest(unknown, KEYS).unwrap_or_default();
            let hint = Some(format!("did you mean \"{meant}\"? Known here: {}", KEYS.join(", ")));
            return Err(Slip { value: None, problem: format!("has the unknown key \"{unknown}\""), hint });
        }
        Ok(Self { id, account, metadata })
    }
}
