//! Starts and controls the mock: the API and the receiver in one server ([`super::server`]).
//!
//! The mock is a separate process: the bench starts its own binary again.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process::Process;

/// Argument with which a bench runs as the mock; the number of labels follows.
pub const SERVE: &str = "serve-mock";

/// Behavior of the mock from now on. Its counters start at zero.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Behavior {
    /// Percentage of labels with a changed answer at each poll.
    pub changed: u64,
    /// Events in the first answer of a label.
    pub first_events: usize,
    /// Events in the longest answer of a label.
    pub most_events: usize,
    /// Whether every label begins again with its first answer.
    pub begin_again: bool,
}

impl Behavior {
    /// Lists grow from 3 events to 20.
    pub fn changed(changed: u64) -> Self {
        Self { changed, first_events: 3, most_events: 20, begin_again: true }
    }
}

/// Counts of the mock since the last [`Behavior`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    pub gets: u64,
    pub posts: u64,
    /// Time from the first callback to the last.
    pub posting: Duration,
    /// Times from an answer served to its callback received, in ms, sorted.
    pub latencies: Vec<f64>,
}

impl Counted {
    /// Returns the latency that `share` of the callbacks did not exceed, in ms.
    pub fn latency(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    }
}

/// Returns whether the answer of this label changes at each poll, if `changed` percent do.
pub fn changes(label: usize, changed: u64) -> bool {
    label as u64 * 37 % 100 < changed
}

/// The running mock; it ends with this value.
pub struct Mock {
    child: Child,
    pub url: String,
    client: reqwest::Client,
}

impl Mock {
    pub fn start(labels: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([SERVE, &labels.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self {
            child,
            url: url.trim().to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn process(&self) -> Process {
        Process::new(self.child.id())
    }

    pub async fn behave(&self, behavior: Behavior) {
        let body = serde_json::to_string(&behavior).unwrap();
        let answer = self.client.post(format!("{}/behavior", self.url)).body(body).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Returns the counts without the latencies.
    pub async fn counts(&self) -> Counted {
        self.get("counted?latencies=false").await
    }

    pub async fn counted(&self) -> Counted {
        self.get("counted?latencies=true").await
    }

    async fn get(&self, path: &str) -> Counted {
        let answer = self.client.get(format!("{}/{path}", self.url)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
