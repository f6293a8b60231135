//! The number of connections that the process may have at once. Some file descriptors are reserved for the database and
//! the HTTP server, so a shortage delays polls and deliveries and stops nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failure::{ExchangeFailure, FailureCause};

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A permit for one connection.
pub(super) struct ConnectionPermit(());

impl ConnectionPermit {
    pub(super) fn take() -> Result<Self, ExchangeFailure> {
        let permit = Self(());
        if OPEN.fetch_add(1, Ordering::Relaxed) < max_connections() {
            return Ok(permit);
        }
        let detail = format!("out of file descriptors for a connection ({} in use)", max_connections());
        Err(ExchangeFailure::new(FailureCause::Shortage, detail))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether so few are left that idle connections should be closed.
pub(super) fn are_scarce() -> bool {
    OPEN.load(Ordering::Relaxed) > max_connections() / 4 * 3
}

/// Returns the number of connections that the process may have at once.
pub fn max_connections() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| limit().map_or(usize::MAX, for_connections))
}

/// Minimum number of descriptors: for the database, the certificates of the system, and some connections.
pub const MIN_DESCRIPTORS: usize = 64;

/// Returns the limit of descriptors of the process; `None`: unlimited.
pub fn limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok())
}

/// Maximum number of connections to the HTTP port.
const HTTP: usize = 256;

/// Returns the number of connections that the HTTP port may have at once: an eighth of the descriptors, up to 256.
pub fn http_connections() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| (limit().unwrap_or(usize::MAX) / 8).clamp(1, HTTP))
}

/// Returns the number of connections for a limit of descriptors. Half of the descriptors are reserved, at most 320: 64 for
/// the database and files, and 256 for the HTTP port.
fn for_connections(limit: usize) -> usize {
    limit - (limit / 2).min(64 + HTTP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_the_process_leaves_some_descriptors_free() {
        assert_eq!([48, 80, 1_024, 16_384].map(for_connections), [24, 40, 704, 16_064]);
    }
}
