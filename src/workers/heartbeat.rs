//! Heartbeats: the time of each worker's last progress.
//!
//! They feed the watchdog, so a worker that hangs is found while the rest of the process works.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::domain::time::earlier;

/// The heartbeat interval of an idle worker.
pub const IDLE_INTERVAL: SignedDuration = SignedDuration::from_secs(30);

/// Heartbeats of all workers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Arc<AtomicI64>>>>);

/// Heartbeat of one worker.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<AtomicI64>);

impl Heartbeats {
    /// Returns the heartbeat of a worker that starts at `now`.
    pub fn start(&self, worker: &str, now: Timestamp) -> Heartbeat {
        let heartbeat = Heartbeat::default();
        heartbeat.beat(now);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(worker.to_owned(), Arc::clone(&heartbeat.0));
        heartbeat
    }

    /// Removes the heartbeat of a worker that has ended.
    pub fn stop(&self, worker: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
    }

    /// Returns the workers without a heartbeat for `limit`.
    pub fn silent(&self, now: Timestamp, limit: SignedDuration) -> Vec<String> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = real_ms(now);
        let silent = |beat: &AtomicI64| i128::from(now - beat.load(Ordering::Relaxed)) > limit.as_millis();
        beats.iter().filter(|(_, beat)| silent(beat)).map(|(worker, _)| worker.clone()).collect()
    }
}

/// Returns the time without the jumps of the wall clock, so that a jump neither delays nor replaces a heartbeat.
fn real_ms(at: Timestamp) -> i64 {
    earlier(at, clock::skew()).as_millisecond()
}

impl Heartbeat {
    pub fn beat(&self, now: Timestamp) {
        self.0.store(real_ms(now), Ordering::Relaxed);
    }
}
