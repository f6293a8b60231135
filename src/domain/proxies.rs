//! By way of which proxies somebody is reached.
//!
//! Only what was configured: the environment counts where the configuration says so.

use super::secret::Hidden;

/// The proxies on the way to somebody, by the scheme of the URL. By default there are none. They may hold credentials.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    pub http: Option<Hidden<String>>,
    pub https: Option<Hidden<String>>,
    /// Hosts that are reached without, in the form of `NO_PROXY`.
    pub except: String,
}
