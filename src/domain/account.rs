//! An account as configured: one API key, and the URLs it is used with.

use std::time::Duration;

use super::label::{AccountName, LabelId};
use super::proxies::Proxies;
use super::secret::Hidden;

/// An account as configured and validated: `[accounts.X]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub name: AccountName,
    /// Base URL, without a slash at its end.
    pub base_url: String,
    /// Whether the key may go over plain http to a public address.
    pub allow_insecure: bool,
    /// Starts with a slash and contains `{label_id}`.
    pub tracking_path: String,
    pub api_key: Hidden<String>,
    /// Requests in any window of 60 s.
    pub requests_per_minute: u32,
    /// Requests in a calendar month; 0: unlimited.
    pub requests_per_month: u64,
    pub max_in_flight: u32,
    pub timeout: Duration,
    pub proxies: Proxies,
    pub discover: Discover,
}

/// Discovery of new labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discover {
    pub enabled: bool,
    pub interval: Duration,
    /// Time before now from which on the first request lists labels.
    pub lookback: Duration,
}

impl Account {
    /// The URL of a label's tracking.
    pub fn tracking_url(&self, label: &LabelId) -> String {
        tracking_url(&self.base_url, &self.tracking_path, label.as_str())
    }

    /// The path without its query, which may contain a key.
    pub fn shown_tracking_path(&self) -> String {
        shown_path(&self.tracking_path)
    }

    /// The URL of the list of labels; `None` if it cannot be derived from `tracking_path`.
    pub fn labels_url(&self) -> Option<String> {
        Some(format!("{}{}", self.base_url, labels_path(&self.tracking_path)?))
    }
}

/// The path of the list of labels: `…/labels` if the tracking is at `…/labels/{label_id}/track`.
pub fn labels_path(tracking_path: &str) -> Option<&str> {
    tracking_path
        .strip_suffix("/{label_id}/track")
        .filter(|path| path.ends_with("/labels") && !path.contains(['{', '?']))
}

/// The URL of a label's tracking.
pub fn tracking_url(base_url: &str, path: &str, label: &str) -> String {
    format!("{base_url}{}", path.replace("{label_id}", label))
}

/// A path with its query masked.
pub fn shown_path(path: &str) -> String {
    path.split_once(['?', '#']).map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_url_is_derived_from_the_tracking_url() {
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
