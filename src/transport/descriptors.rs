//! How many connections the process may have at once: of its descriptors some are left to the database and the HTTP
//! server, so that a shortage delays polls and deliveries and ends nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::failure::{Failure, Fault};

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// The right to one connection.
pub(super) struct Permit(());

impl Permit {
    pub(super) fn take() -> Result<Self, Failure> {
        let permit = Self(());
        if OPEN.fetch_add(1, Ordering::Relaxed) < most() {
            return Ok(permit);
        }
        let what = format!("no file descriptor is left for a connection ({} are in use)", most());
        Err(Failure::new(Fault::Ours, what))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether so few are left that idle connections are better closed.
pub(super) fn are_scarce() -> bool {
    OPEN.load(Ordering::Relaxed) > most() / 4 * 3
}

fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| limit().map_or(usize::MAX, for_connections))
}

/// How many descriptors the process may have; `None`: any number.
fn limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok())
}

/// The most connections to the HTTP port.
const HTTP: usize = 256;

/// How many connections the HTTP port may have at once: an eighth of the descriptors, up to 256.
pub fn http_connections() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| (limit().unwrap_or(usize::MAX) / 8).clamp(1, HTTP))
}

/// Returns the number of connections for this many descriptors: half are reserved, at most 64, and those of the HTTP
/// port.
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
