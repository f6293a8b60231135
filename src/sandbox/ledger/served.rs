//! The API's side of the ledger: the last answer and all events of each label, and the rate of requests.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::super::limit::Window;
use super::facts::{events, fingerprint};
use crate::domain::tracking::replace_lone_surrogates;

#[derive(Clone, Debug, Default)]
pub struct Served {
    pub(super) labels: BTreeMap<String, ServedLabel>,
    keys: HashMap<String, (Window, usize)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ServedLabel {
    body: Bytes,
    /// Fingerprints of all events and of all answers that were served.
    pub(super) events: HashSet<u64>,
    pub(super) answers: HashSet<u64>,
}

impl Served {
    /// Counts a request of an API key against the quota.
    pub fn requested(&mut self, key: &str, at: Timestamp) {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.to_owned(), Default::default());
        }
        if let Some((window, busiest)) = self.keys.get_mut(key) {
            *busiest = window.count(at).max(*busiest);
        }
    }

    /// Records the body of a 200. A body that is not a tracking object is ignored.
    pub fn record_answer(&mut self, label: &str, body: &Bytes) {
        if self.labels.get(label).is_some_and(|served| served.body == *body) {
            return;
        }
        let Some(answer) = parse(body) else { return };
        let served = self.labels.entry(label.to_owned()).or_default();
        served.body = body.clone();
        served.events.extend(events(&answer).iter().map(fingerprint));
        served.answers.insert(fingerprint(&answer));
    }

    /// Returns the maximum number of requests of one API key in any 60 s, and the key.
    pub fn busiest(&self) -> Option<(&str, usize)> {
        let busiest = self.keys.iter().map(|(key, (_, busiest))| (key.as_str(), *busiest));
        busiest.max_by_key(|(_, requests)| *requests)
    }
}

impl ServedLabel {
    /// The last answer.
    pub(super) fn answer(&self) -> Value {
        parse(&self.body).unwrap_or_default()
    }
}

fn parse(body: &[u8]) -> Option<Value> {
    let answer: Value =
        serde_json::from_str(&replace_lone_surrogates(std::str::from_utf8(body).ok()?)).ok()?;
    answer.is_object().then_some(answer)
}
