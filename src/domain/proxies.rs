//! Proxies for requests to the API and to subscribers, as configured.

use super::secret::Hidden;

/// Proxies by the scheme of the URL, by default none. The URLs may contain credentials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    pub http: Option<Hidden<String>>,
    pub https: Option<Hidden<String>>,
    /// Hosts that are reached without a proxy, in the form of `NO_PROXY`.
    pub except: String,
}
