//! A row before it is checked, and its check.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::fault::known_here;
use super::row_faults::RowFault;
use crate::domain::label::{AccountName, LabelKey, Metadata, Registration, Source};

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

    /// Returns the label of the row, if its id is valid and its account is one of `accounts` (in order).
    pub(super) fn check(self, accounts: &[AccountName], source: Source) -> Result<Registration, RowFault> {
        let Self { id, account, metadata, .. } = self;
        let label_id = id.parse().map_err(|error| {
            RowFault::new(format!("is not a label id: {error}"))
                .value(&id)
                .hint("use the label id of ShipStation, such as se-324658")
        })?;
        // A fault of the account also names the id, so that the row can be found.
        let account =
            account_named(accounts, account.as_deref()).map_err(|row_fault| match row_fault.value {
                Some(_) => RowFault { problem: format!("{} (label {id})", row_fault.problem), ..row_fault },
                None => row_fault.value(&id),
            })?;
        Ok(Registration { key: LabelKey { account, id: label_id }, metadata, source })
    }
}

fn account_named(accounts: &[AccountName], name: Option<&str>) -> Result<AccountName, RowFault> {
    match (name, accounts) {
        (None, [only]) => Ok(only.clone()),
        (None, []) => Err(RowFault::new("has no account, because the configuration has none")
            .hint("add [accounts.NAME] with its api_key")),
        (None, _) => Err(RowFault::new("does not name an account")
            .hint("the configuration has several accounts: write the account of each label")),
        (Some(name), _) => {
            account_index(accounts, name).map(|index| accounts[index].clone()).ok_or_else(|| {
                let hint = known_here(name, accounts.iter().map(AccountName::as_str));
                RowFault::new("is not an account of this configuration").value(name).hint(hint)
            })
        }
    }
}

/// The index of an account in the sorted list.
pub(super) fn account_index(accounts: &[AccountName], name: &str) -> Option<usize> {
    accounts.binary_search_by(|account| account.as_str().cmp(name)).ok()
}
