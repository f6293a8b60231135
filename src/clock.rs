//! The only door to time and chance.
//!
//! Loops ask here and hand the answer down; a step freezes `now` once. Nothing else in the crate reads a clock or
//! throws dice (`.clippy.toml` keeps it so).
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The wall clock, cut to whole milliseconds: what the database keeps is what was decided with.
pub fn now() -> Timestamp {
    Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("a millisecond instant is in range")
}

/// A number from -1 to 1, to spread what would otherwise march in step.
pub fn jitter() -> f64 {
    fastrand::f64().mul_add(2.0, -1.0)
}

/// `bytes` random bytes; for secrets of the demo only, not for keys that matter.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    std::array::from_fn(|_| fastrand::u8(..))
}

/// Measures how long something takes, on a clock that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Waits. The caller selects against its shutdown.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Waits until `at`, or not at all if it has passed.
pub async fn sleep_until(at: Timestamp) {
    let wait = Duration::try_from(at.duration_since(now())).unwrap_or(Duration::ZERO);
    tokio::time::sleep(wait).await;
}
