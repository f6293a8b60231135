//! Signs of life: when each trade last got something done.
//!
//! The watchdog is fed from here, so a trade that hangs is seen even while the rest of the process is well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// The beats of all trades. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulses(Arc<Mutex<BTreeMap<String, Arc<AtomicI64>>>>);

/// One trade's beat.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicI64>);

impl Pulses {
    /// The pulse of a trade that starts at `now`.
    pub fn start(&self, trade: &str, now: Timestamp) -> Pulse {
        let pulse = Pulse::default();
        pulse.beat(now);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(trade.to_owned(), Arc::clone(&pulse.0));
        pulse
    }

    /// A trade that has ended is no longer listened to.
    pub fn stop(&self, trade: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(trade);
    }

    /// The trades that have not beaten for `limit`.
    pub fn silent(&self, now: Timestamp, limit: SignedDuration) -> Vec<String> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |beat: &AtomicI64| now.as_millisecond() - beat.load(Ordering::Relaxed) > millis(limit);
        beats.iter().filter(|(_, beat)| silent(beat)).map(|(trade, _)| trade.clone()).collect()
    }
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Pulse {
    pub fn beat(&self, now: Timestamp) {
        self.0.store(now.as_millisecond(), Ordering::Relaxed);
    }
}
