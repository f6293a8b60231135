//! Messages to the service manager: ready, reloading, stopping, watchdog.
//!
//! Without `NOTIFY_SOCKET` they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn reloading() {
    // The monotonic time must be included, or systemd before 253 treats the reload as complete at once.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// Returns the watchdog interval of the service manager, if it has one.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "a message to systemd could not be sent");
    }
}
