//! `[accounts.X]`: the API keys, and how often each is used.
//!
//! The checks send no request.

use serde::Deserialize;

use super::bounded_int::{BoundedInt, MaxInFlight};
use super::duration::ConfigDuration;
use super::proxies::ProxyUrls;
use super::secret::Token;
use super::table::At;
use super::url::{self, HttpUrl};
use crate::domain::account::{Account, Discover, labels_path, shown_path, tracking_url};
use crate::domain::label::AccountName;

/// `[accounts.X]` as written.
#[derive(Deserialize)]
pub(super) struct AccountSection {
    base_url: String,
    allow_insecure: bool,
    tracking_path: String,
    api_key: Token,
    requests_per_minute: BoundedInt<1, 60_000>,
    requests_per_month: BoundedInt<0, { i64::MAX }>,
    max_in_flight: MaxInFlight,
    timeout: ConfigDuration,
    proxy: ProxyUrls,
    discover: DiscoverSection,
}

#[derive(Deserialize)]
struct DiscoverSection {
    enabled: bool,
    interval: ConfigDuration,
    lookback: ConfigDuration,
}

impl AccountSection {
    pub(super) fn check(self, at: &At<'_>, name: &str) -> Account {
        at.check_name(name);
        let account = Account {
            name: AccountName::new(name),
            base_url: self.base_url.trim().trim_end_matches('/').to_owned(),
            allow_insecure: self.allow_insecure,
            tracking_path: self.tracking_path,
            api_key: self.api_key.0,
            requests_per_minute: self.requests_per_minute.u32(),
            requests_per_month: self.requests_per_month.u64(),
            max_in_flight: self.max_in_flight.u32(),
            timeout: self.timeout.0,
            proxies: self.proxy.into(),
            discover: Discover {
                enabled: self.discover.enabled,
                interval: self.discover.interval.0,
                lookback: self.discover.lookback.0,
            },
        };
        check_base_url(&at.key("base_url"), &account);
        if account.api_key.expose().is_empty() {
            at.key("api_key").fault("is empty", "create a key in the account's API settings");
        }
        let path = &account.tracking_path;
        if let Some(problem) = problem_of_path(path) {
            let hint = "write it like \"/v2/labels/{label_id}/track\"";
            at.key("tracking_path").fault_of(&shown_path(path), problem, hint);
        } else if account.discover.enabled && labels_path(path).is_none() {
            at.key("discover").key("enabled").fault_of(
                "true",
                "needs the list of labels, but tracking_path does not end with /labels/{label_id}/track",
                "set it to false, or use a tracking_path like \"/v2/labels/{label_id}/track\"",
            );
        }
        account
    }
}

fn check_base_url(at: &At<'_>, account: &Account) {
    const HINT: &str = "write it like \"https://api.shipstation.com\"";
    let shown = url::masked(&account.base_url);
    let url = match HttpUrl::parse(&account.base_url) {
        Ok(url) => url,
        Err(problem) => return at.fault_of(&shown, problem, HINT),
    };
    if url.has_user {
        at.fault_of(&shown, "has a user or password", "write the key in api_key");
    } else if url.has_query || url.has_fragment {
        at.fault_of(&shown, "has a query or a fragment", HINT);
    } else if url.is_plain_to_public() && !account.allow_insecure {
        at.fault_of(
            &shown,
            "is plain http to a public address, and each request contains the API key",
            "use https, or set allow_insecure = true to accept that others can read the key",
        );
    } else if !url.https && !account.allow_insecure && url.is_public_name() {
        let hint = "use https; with allow_insecure = false, requests to a public address are refused";
        at.warn(Some(&shown), "is plain http: others on the network can read the API key", hint);
    } else if !url.https
        && !account.allow_insecure
        && let Some(problem) = url.refusal()
    {
        at.warn(Some(&shown), problem, "every request will be refused: give the server's own address");
    }
    if account.base_url.ends_with("/v1") || account.base_url.ends_with("/v2") {
        let problem = "ends with a version, but tracking_path begins with one too";
        at.warn(Some(&shown), problem, "remove the version from base_url");
    }
}

fn problem_of_path(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("does not start with a slash");
    }
    if !path.contains("{label_id}") {
        return Some("does not contain {label_id}");
    }
    match HttpUrl::parse(&tracking_url("https://example.com", path, "se-1")) {
        Ok(url) if !url.has_fragment => None,
        _ => Some("is not a valid path of a URL"),
    }
}
