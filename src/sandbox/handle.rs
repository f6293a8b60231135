//! Control of a running sandbox: reads its requests and sets its answers.

use std::sync::Arc;

use axum::http::HeaderMap;
use jiff::Timestamp;

use crate::domain::label::LabelId;

use super::answer::Answer;
use super::carriers::Carrier;
use super::faults::InjectedFault;
use super::journeys::JourneyKind;
use super::ledger::Served;
use super::parcel::Parcel;
use super::requests::{Counters, LoggedRequest};
use super::state::{AnswerSource, SandboxLabel, SandboxShared};

/// Key of the scripts for the list of labels; no label has this name.
pub(super) const LIST: &str = "";

/// Reads and controls a running sandbox; clones control the same one.
#[derive(Clone)]
pub struct SandboxHandle(pub(super) Arc<SandboxShared>);

impl SandboxHandle {
    /// Base URL without `/v2/labels/…` and without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// The parcels' time.
    pub fn virtual_now(&self) -> Timestamp {
        self.0.virtual_now()
    }

    pub fn counters(&self) -> Counters {
        self.0.lock().requests.counters.clone()
    }

    /// A copy of the sandbox's side of the ledger.
    pub fn served(&self) -> Served {
        self.0.lock().requests.served.clone()
    }

    /// Number of requests for this label, answered or not.
    pub fn requests_of(&self, label: &str) -> u64 {
        self.0.lock().requests.requests_of(label)
    }

    /// The requests one by one, oldest first; of a long run the last 200 000.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.lock().requests.journal.iter().cloned().collect()
    }

    /// The headers of the latest request.
    pub fn last_headers(&self) -> HeaderMap {
        self.0.lock().requests.last_headers.clone()
    }

    /// Sets the answer to the next request for `label`, regardless of its parcel. Calls queue up, and the last answer
    /// repeats until [`Self::unscript`]. Key and rate limit are checked first; injected faults do not apply.
    pub fn script(&self, label: &str, answer: Answer) {
        self.0.lock().scripts.entry(label.to_owned()).or_default().push(answer);
    }

    /// As [`Self::script`], but only once; afterwards the label follows its parcel again.
    pub fn script_once(&self, label: &str, answer: Answer) {
        self.0.lock().scripts.entry(label.to_owned()).or_default().push_once(answer);
    }

    pub fn unscript(&self, label: &str) {
        self.0.lock().scripts.remove(label);
    }

    /// As [`Self::script`], for the list of labels.
    pub fn script_list(&self, answer: Answer) {
        self.script(LIST, answer);
    }

    /// As [`Self::script_once`], for the list of labels.
    pub fn script_list_once(&self, answer: Answer) {
        self.script_once(LIST, answer);
    }

    pub fn unscript_list(&self) {
        self.unscript(LIST);
    }

    /// Sets the maximum number of labels on a page of the list.
    pub fn set_largest_page(&self, labels: usize) {
        self.0.lock().largest_page = labels;
    }

    /// Changes a label's `created_at` in the list.
    pub fn date(&self, label: &LabelId, created_at: Timestamp) {
        if let Some(known) = self.0.lock().labels.get_mut(label) {
            known.created_at = created_at;
        }
    }

    pub fn set_faults(&self, faults: Vec<InjectedFault>) {
        self.0.lock().faults.set(faults);
    }

    /// Requests per key in any 60 s.
    pub fn set_rate_limit(&self, limit: Option<u32>) {
        self.0.lock().rate_limit = limit;
    }

    /// Sets the accepted API keys; empty: every non-empty key.
    pub fn set_api_keys(&self, keys: Vec<String>) {
        self.0.lock().api_keys = keys;
    }

    /// Creates a label; its journey and carrier follow from its id.
    pub fn create(&self, label: &LabelId) {
        let now = self.virtual_now();
        self.know(label, now, Parcel::new(label, self.0.seed, now));
    }

    /// Creates or restarts a label on the given journey.
    pub fn create_on(&self, label: &LabelId, journey: JourneyKind, carrier: Carrier) {
        let now = self.virtual_now();
        self.know(label, now, Parcel::on(journey, carrier, label, self.0.seed, now));
    }

    fn know(&self, label: &LabelId, created_at: Timestamp, parcel: Parcel) {
        let mut state = self.0.lock();
        state.gone.remove(label);
        state.labels.insert(
            label.clone(),
            SandboxLabel { created_at, voided_at: None, source: AnswerSource::Parcel(parcel) },
        );
    }

    /// Voids a known label: its tracking is answered with `tracking_not_supported`.
    pub fn void(&self, label: &LabelId) {
        let now = self.virtual_now();
        if let Some(known) = self.0.lock().labels.get_mut(label) {
            known.voided_at = Some(now);
        }
    }

    /// Makes the label not found.
    pub fn forget(&self, label: &LabelId) {
        self.0.lock().gone.insert(label.clone());
    }

    /// The labels on scripted journeys, and their parcels.
    pub fn parcels(&self) -> Vec<(LabelId, Parcel)> {
        let state = self.0.lock();
        let parcel = |(id, known): (&LabelId, &SandboxLabel)| match &known.source {
            AnswerSource::Parcel(parcel) => Some((id.clone(), parcel.clone())),
            AnswerSource::Recorded(_) | AnswerSource::Files => None,
        };
        state.labels.iter().filter_map(parcel).collect()
    }

    /// Whether every parcel is at the end of its script.
    pub fn all_ended(&self) -> bool {
        let now = self.virtual_now();
        self.parcels().iter().all(|(_, parcel)| parcel.ends_at() <= now)
    }
}
