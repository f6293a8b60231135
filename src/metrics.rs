//! Counts and durations of this process since it started, for `/metrics` and the plots of the status page.
//!
//! Figures of the database are read from it. Label values are names of the configuration and small closed sets, without
//! label ids, so the number of series is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use crate::clock::Stopwatch;

/// Names and values of `N` labels.
pub type LabelValues<const N: usize> = [(&'static str, String); N];

/// A histogram for each set of label values.
type Histograms<const N: usize> = Family<LabelValues<N>, Histogram, fn() -> Histogram>;

#[derive(Debug)]
pub struct Metrics {
    started: Stopwatch,
    pub polls: Family<LabelValues<2>, Counter>,
    pub noticed: Histograms<2>,
    pub attempts: Family<LabelValues<2>, Counter>,
    pub dead: Family<LabelValues<1>, Counter>,
    pub latency: Histograms<1>,
    pub batch_rows: Histogram,
    pub batch_seconds: Histogram,
    recent: Mutex<Recent>,
}

/// Upper bounds of the buckets, in seconds.
pub const NOTICED_BOUNDS: [f64; 10] =
    [60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0, 43_200.0, 86_400.0];
pub const LATENCY_BOUNDS: [f64; 12] =
    [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0, 21_600.0, 86_400.0];
const BATCH_ROWS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0];
const BATCH_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Returns the counts of this process.
pub fn metrics() -> &'static Metrics {
    static ALL: OnceLock<Metrics> = OnceLock::new();
    ALL.get_or_init(|| Metrics {
        started: Stopwatch::start(),
        polls: Family::default(),
        noticed: Family::new_with_constructor(|| Histogram::new(NOTICED_BOUNDS)),
        attempts: Family::default(),
        dead: Family::default(),
        latency: Family::new_with_constructor(|| Histogram::new(LATENCY_BOUNDS)),
        batch_rows: Histogram::new(BATCH_ROWS),
        batch_seconds: Histogram::new(BATCH_SECONDS),
        recent: Mutex::default(),
    })
}

impl Metrics {
    /// Returns the time since the process started to count.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts a poll; `changed`: it made messages.
    pub fn polled(&self, account: &str, outcome: &str, changed: bool) {
        let poll = [("account", account.to_owned()), ("outcome", outcome.to_owned())];
        self.polls.get_or_create(&poll).inc();
        let mut recent = self.recent();
        let minute = recent.at(self.minute());
        minute.polls += 1;
        minute.changes += u32::from(changed);
    }

    /// Counts a new event, noticed `after` the last good answer without it.
    pub fn noticed(&self, account: &str, delivered: bool, after: Duration) {
        let event = if delivered { "delivery" } else { "other" };
        let noticed = [("account", account.to_owned()), ("event", event.to_owned())];
        self.noticed.get_or_create(&noticed).observe(after.as_secs_f64());
    }

    /// Counts an attempt.
    pub fn attempted(&self, subscriber: &str, outcome: &str) {
        self.attempts.get_or_create(&attempt_labels(subscriber, outcome)).inc();
    }

    /// Returns the number of attempts with this outcome.
    pub fn attempts_of(&self, subscriber: &str, outcome: &str) -> u64 {
        self.attempts.get(&attempt_labels(subscriber, outcome)).map_or(0, |count| count.get())
    }

    /// Counts an accepted message, with the time since it was made or queued again.
    pub fn delivered(&self, subscriber: &str, after: Duration) {
        self.latency.get_or_create(&subscriber_label(subscriber)).observe(after.as_secs_f64());
        let bucket = LATENCY_BOUNDS.iter().position(|bound| after.as_secs_f64() <= *bound);
        let mut recent = self.recent();
        let latencies = recent.latencies.entry(subscriber.to_owned()).or_default();
        latencies[bucket.unwrap_or(LATENCY_BOUNDS.len())] += 1;
    }

    /// Makes the series of dead deliveries of a subscriber exist from the start, so that `increase` sees the first one.
    pub fn create_dead_series(&self, subscriber: &str) {
        drop(self.dead.get_or_create(&subscriber_label(subscriber)));
    }

    /// Counts a dead delivery.
    pub fn dead(&self, subscriber: &str) {
        self.dead.get_or_create(&subscriber_label(subscriber)).inc();
    }

    /// Counts a committed transaction of the writer.
    pub fn batch(&self, rows: usize, took: Duration) {
        self.batch_rows.observe(rows as f64);
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// Returns the minutes of the last day since the start, oldest first; the last one is the current minute.
    pub fn minutes(&self) -> Vec<Minute> {
        let mut recent = self.recent();
        recent.at(self.minute());
        recent.minutes.iter().copied().collect()
    }

    /// Returns the latencies of deliveries, of all subscribers or of one.
    pub fn latencies(&self, subscriber: Option<&str>) -> Latencies {
        let recent = self.recent();
        let mut sum = Latencies::default();
        let wanted =
            recent.latencies.iter().filter(|(name, _)| subscriber.is_none_or(|wanted| wanted == *name));
        wanted.for_each(|(_, of)| sum.iter_mut().zip(of).for_each(|(sum, more)| *sum += more));
        sum
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the current minute since the start.
    fn minute(&self) -> u64 {
        self.uptime().as_secs() / 60
    }
}

fn attempt_labels(subscriber: &str, outcome: &str) -> LabelValues<2> {
    [("subscriber", subscriber.to_owned()), ("outcome", outcome.to_owned())]
}

/// The label of a subscriber.
pub fn subscriber_label(subscriber: &str) -> LabelValues<1> {
    [("subscriber", subscriber.to_owned())]
}

/// Polls of a minute, and the number of them with a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    pub polls: u32,
    pub changes: u32,
}

/// Number of deliveries up to each of [`LATENCY_BOUNDS`], and above.
pub type Latencies = [u64; LATENCY_BOUNDS.len() + 1];

const MINUTES: usize = 24 * 60;

#[derive(Debug, Default)]
struct Recent {
    /// The last minutes, oldest first; the first is minute `first` since the start.
    minutes: VecDeque<Minute>,
    first: u64,
    latencies: BTreeMap<String, Latencies>,
}

impl Recent {
    /// Returns the entry of `minute`, which becomes the last one; entries older than a day are dropped.
    fn at(&mut self, minute: u64) -> &mut Minute {
        while self.first + self.minutes.len() as u64 <= minute {
            self.minutes.push_back(Minute::default());
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
                self.first += 1;
            }
        }
        self.minutes.back_mut().expect("one was put there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_minutes_is_kept() {
        let mut recent = Recent::default();
        recent.at(2).polls += 1;
        assert_eq!(recent.minutes.len(), 3);
        recent.at(1).changes += 1;
        assert_eq!(recent.minutes[2], Minute { polls: 1, changes: 1 }, "time does not go back");
        recent.at(MINUTES as u64 + 9);
        assert_eq!((recent.minutes.len(), recent.first), (MINUTES, 10));
    }
}
