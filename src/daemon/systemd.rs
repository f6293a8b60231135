//! What we tell the service manager: ready, reloading, stopping, and that we live.
//!
//! Without one (no `NOTIFY_SOCKET`) all of it does nothing. The watchdog is fed only while every worker gets something
//! done and the store answers; whoever calls decides that.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn reloading() {
    // The clock must be named, or systemd before 253 takes the reload for done at once.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear from us, if it does.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager could not be told");
    }
}
