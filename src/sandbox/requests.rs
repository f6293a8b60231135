//! Journal of the requests that the sandbox received, including rejected ones.

use std::collections::{BTreeMap, HashMap};

use axum::http::HeaderMap;
use jiff::Timestamp;

use super::journal::Journal;
use super::ledger::Served;
use super::limit::Window;

/// Number of requests that are kept; the counters include all.
const KEPT_REQUESTS: usize = 200_000;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// Time by the real clock.
    pub at: Timestamp,
    /// Path and query.
    pub target: String,
    /// The label id of the path, well-formed or not.
    pub label: Option<String>,
    /// None while it is being answered, and if the client disconnected.
    pub status: Option<u16>,
}

#[derive(Debug)]
pub(super) struct RequestLog {
    pub(super) counters: Counters,
    by_label: HashMap<String, u64>,
    window: Window,
    in_flight: usize,
    pub(super) last_headers: HeaderMap,
    pub(super) journal: Journal<LoggedRequest>,
    /// The sandbox's side of the ledger.
    pub(super) served: Served,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            by_label: HashMap::new(),
            window: Window::default(),
            in_flight: 0,
            last_headers: HeaderMap::new(),
            journal: Journal::new(KEPT_REQUESTS),
            served: Served::default(),
        }
    }
}

impl RequestLog {
    /// Counts an incoming request. Returns its number in the journal.
    pub(super) fn arrived(
        &mut self,
        now: Timestamp,
        target: &str,
        label: Option<&str>,
        headers: &HeaderMap,
    ) -> u64 {
        let counters = &mut self.counters;
        counters.requests += 1;
        if let Some(label) = label {
            *self.by_label.entry(label.to_owned()).or_default() += 1;
        }
        counters.max_in_60s = counters.max_in_60s.max(self.window.count(now));
        self.in_flight += 1;
        counters.max_in_flight = counters.max_in_flight.max(self.in_flight);
        self.last_headers.clone_from(headers);
        let key = headers.get("api-key").and_then(|key| key.to_str().ok());
        self.served.requested(key.unwrap_or_default(), now);
        let label = label.map(str::to_owned);
        self.journal.push(LoggedRequest { at: now, target: target.to_owned(), label, status: None })
    }

    pub(super) fn record_answer(&mut self, number: u64, status: u16) {
        *self.counters.by_status.entry(status).or_default() += 1;
        if let Some(request) = self.journal.get_mut(number) {
            request.status = Some(status);
        }
    }

    /// Records the end of a request, answered or cancelled by the client.
    pub(super) fn record_end(&mut self) {
        self.in_flight -= 1;
    }

    pub(super) fn requests_of(&self, label: &str) -> u64 {
        self.by_label.get(label).copied().unwrap_or(0)
    }
}

/// Totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// All requests, with any answer.
    pub requests: u64,
    /// Requests without a configured key.
    pub wrong_key: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// Maximum number of requests in any 60 s, over all keys.
    pub max_in_60s: usize,
    /// Maximum number of concurrent requests.
    pub max_in_flight: usize,
}

impl Counters {
    pub fn answered(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }
}
