//! `[accounts.X]`: whom to ask, with which key, how often.
//!
//! Whether a key is accepted is for the API to say; here is only what can be seen without asking.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::Fault;
use super::reader::{Entry, NAME_FORM, Table, is_name};
use super::{proxies, secret, url};
use crate::domain::label::{AccountName, LabelId};
use crate::domain::proxies::Proxies;
use crate::domain::secret::Hidden;

/// An account: one API key.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub name: AccountName,
    /// Without a slash at its end.
    pub base_url: String,
    /// Whether the key may go over plain http to a public address.
    pub allow_insecure: bool,
    /// Starts with a slash and holds `{label_id}`.
    pub tracking_path: String,
    pub api_key: Hidden<String>,
    /// In any 60 s window.
    pub requests_per_minute: u32,
    /// In a calendar month; 0 is no budget.
    pub requests_per_month: u64,
    pub max_in_flight: u32,
    pub timeout: Duration,
    pub proxies: Proxies,
    pub discover: Discover,
}

/// Registering new labels of an account by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discover {
    pub enabled: bool,
    pub interval: Duration,
    /// How far back the first look goes.
    pub lookback: Duration,
}

impl Account {
    /// The URL of a label's tracking.
    pub fn tracking_url(&self, label: &LabelId) -> String {
        tracking_url(&self.base_url, &self.tracking_path, label.as_str())
    }

    /// The path without its query, which may hold a key.
    pub fn shown_tracking_path(&self) -> String {
        shown_path(&self.tracking_path)
    }

    /// The URL of the list of labels, which lies beside the tracking; none if `tracking_path` does not tell where.
    pub fn labels_url(&self) -> Option<String> {
        Some(format!("{}{}", self.base_url, labels_path(&self.tracking_path)?))
    }
}

/// `…/labels/{label_id}/track` is beside `…/labels`; of another form nobody knows what is beside it.
fn labels_path(tracking_path: &str) -> Option<&str> {
    tracking_path
        .strip_suffix("/{label_id}/track")
        .filter(|path| path.ends_with("/labels") && !path.contains(['{', '?']))
}

const BASE_URL: &str = "https://api.shipstation.com";
const TRACKING_PATH: &str = "/v2/labels/{label_id}/track";
const REQUESTS_PER_MINUTE: u32 = 160;
const MAX_IN_FLIGHT: u32 = 8;
const TIMEOUT: Duration = Duration::from_secs(30);
const DISCOVER: Discover = Discover {
    enabled: false,
    interval: Duration::from_secs(5 * 60),
    lookback: Duration::from_secs(14 * 86_400),
};

/// All accounts; those at fault are left out and reported.
pub(super) fn read(section: &Entry<'_>) -> BTreeMap<AccountName, Account> {
    let named = section.named().unwrap_or_default();
    let accounts = named.iter().filter_map(|(name, entry)| account(name, entry));
    accounts.map(|account| (account.name.clone(), account)).collect()
}

/// The names of all accounts, also of those at fault: one mistake should not be reported as several.
pub(super) fn names(section: Option<&Entry<'_>>) -> Vec<AccountName> {
    let table = match section.map(|section| &section.value.kind) {
        Some(config::ValueKind::Table(table)) => table,
        _ => return Vec::new(),
    };
    let mut names: Vec<AccountName> = table.keys().map(|name| AccountName::new(name)).collect();
    names.sort();
    names
}

fn account(name: &str, entry: &Entry<'_>) -> Option<Account> {
    let table = entry.table(&[
        "base_url",
        "allow_insecure",
        "tracking_path",
        "api_key",
        "requests_per_minute",
        "requests_per_month",
        "max_in_flight",
        "timeout",
        "proxy",
        "discover",
    ])?;
    if !is_name(name) {
        entry.fault_unshown::<()>("is no name of an account", NAME_FORM);
    }
    let allow_insecure = table.flag("allow_insecure").unwrap_or(false);
    let base_url = table
        .get("base_url")
        .map_or_else(|| Some(BASE_URL.to_owned()), |entry| base_url(entry, allow_insecure));
    let tracking_path =
        table.get("tracking_path").map_or_else(|| Some(TRACKING_PATH.to_owned()), tracking_path);
    let api_key = table.required("api_key", "api_key = { credential = \"shipstation-api-key\" }");
    let api_key = api_key.and_then(api_key_of);
    let proxies = proxies::of(&table);
    let requests_per_month = table.get("requests_per_month").and_then(|entry| entry.whole(0..=i64::MAX));
    Some(Account {
        requests_per_minute: table.count("requests_per_minute", 60_000).unwrap_or(REQUESTS_PER_MINUTE),
        requests_per_month: requests_per_month.map_or(0, i64::unsigned_abs),
        max_in_flight: table.count("max_in_flight", u32::MAX).unwrap_or(MAX_IN_FLIGHT),
        timeout: table.duration("timeout").unwrap_or(TIMEOUT),
        discover: discover(&table, tracking_path.as_deref()).unwrap_or(DISCOVER),
        name: AccountName::new(name),
        base_url: base_url?,
        allow_insecure,
        tracking_path: tracking_path?,
        api_key: api_key?,
        proxies: proxies?,
    })
}

fn base_url(entry: &Entry<'_>, allow_insecure: bool) -> Option<String> {
    const HINT: &str = "as in \"https://api.shipstation.com\"";
    let text = entry.text()?.trim();
    let shown = url::masked(text);
    match url::parse(text) {
        Err(problem) => entry.fault_masked(&shown, problem, HINT),
        Ok(url) if url.has_user => {
            entry.fault_masked(&shown, "has a user or password", "the key belongs in api_key")
        }
        Ok(url) if url.has_query || url.has_fragment => {
            entry.fault_masked(&shown, "goes on with ? or #", HINT)
        }
        Ok(url) if !url.https && !allow_insecure && url.address.is_some_and(url::in_the_open) => entry
            .fault_masked(
                &shown,
                "is plain http to a public address, and the API key goes with each request",
                "https, or allow_insecure = true if anybody on the way may read the key",
            ),
        Ok(url) => {
            let text = text.trim_end_matches('/');
            let warn = |problem: &str, hint: &str| {
                let fault = Fault::new(entry.place(), &entry.key, problem).value(&shown).hint(hint);
                entry.context.findings.warn(fault);
            };
            if text.ends_with("/v1") || text.ends_with("/v2") {
                warn("ends with a version, which tracking_path begins with", "leave it out here");
            }
            if !url.https && !allow_insecure && url.address.is_none() && is_public_name(text) {
                warn("is plain http: the API key can be read on the way", "https");
            }
            Some(text.to_owned())
        }
    }
}

/// Whether a name is one of the open internet, as far as a name tells.
fn is_public_name(url: &str) -> bool {
    let authority = url.split("//").nth(1).unwrap_or_default().split('/').next().unwrap_or_default();
    let host = authority.split(':').next().unwrap_or_default();
    let private = [".local", ".internal", ".lan", ".home.arpa", ".localhost", ".test", ".cluster.local"];
    host.contains('.') && !private.iter().any(|end| host.ends_with(end))
}

fn tracking_path(entry: &Entry<'_>) -> Option<String> {
    const HINT: &str = "as in \"/v2/labels/{label_id}/track\"";
    let text = entry.text()?;
    let fault = |problem: &str| entry.fault_masked(&shown_path(text), problem, HINT);
    if !text.starts_with('/') {
        return fault("does not start with a slash");
    }
    if !text.contains("{label_id}") {
        return fault("does not hold {label_id}");
    }
    match url::parse(&tracking_url(BASE_URL, text, "se-1")) {
        Ok(url) if !url.has_fragment => Some(text.to_owned()),
        _ => fault("is no path of a URL"),
    }
}

fn shown_path(path: &str) -> String {
    path.split_once(['?', '#']).map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?…"))
}

fn api_key_of(entry: &Entry<'_>) -> Option<Hidden<String>> {
    let key = secret::read_token(entry)?;
    if key.expose().is_empty() {
        return entry.fault_unshown("is empty", "the key is made in the account's API settings");
    }
    Some(key)
}

fn discover(account: &Table<'_>, tracking_path: Option<&str>) -> Option<Discover> {
    let table = account.get("discover")?.table(&["enabled", "interval", "lookback"])?;
    let enabled = table.flag("enabled").unwrap_or(DISCOVER.enabled);
    if enabled && tracking_path.is_some_and(|path| labels_path(path).is_none()) {
        const PROBLEM: &str = "needs the list of labels, which lies beside the tracking; and tracking_path does not end with /labels/{label_id}/track";
        const HINT: &str = "false, or a tracking_path as in \"/v2/labels/{label_id}/track\"";
        table.get("enabled")?.fault::<()>(PROBLEM, HINT);
    }
    Some(Discover {
        enabled,
        interval: table.duration("interval").unwrap_or(DISCOVER.interval),
        lookback: table.duration("lookback").unwrap_or(DISCOVER.lookback),
    })
}

fn tracking_url(base_url: &str, path: &str, label: &str) -> String {
    format!("{base_url}{}", path.replace("{label_id}", label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_lies_beside_the_tracking() {
        for (tracking, list) in [
            ("/v2/labels/{label_id}/track", Some("/v2/labels")),
            ("/v1/labels/{label_id}/track", Some("/v1/labels")),
            ("/gate/way/labels/{label_id}/track", Some("/gate/way/labels")),
            ("/v2/labels/{label_id}/track?a=1", None),
            ("/v2/labels/{label_id}", None),
            ("/v2/track/{label_id}", None),
            ("/{label_id}/labels/{label_id}/track", None),
            ("/mylabels/{label_id}/track", None),
        ] {
            assert_eq!(labels_path(tracking), list, "{tracking}");
        }
    }
}
