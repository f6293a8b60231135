//! The state of the sandbox: labels, limits, scripts.
//!
//! One lock around the whole state. It is held while an answer is built, and never across an await.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::domain::label::LabelId;
use crate::domain::tracking::Tracking;

use super::faults::FaultInjector;
use super::labels::LabelEntry;
use super::limit::Window;
use super::parcel::Parcel;
use super::recorded::RecordedJourney;
use super::replay::FileReplay;
use super::requests::RequestLog;
use super::script::AnswerScript;
use super::timeline::Timeline;
use super::{Clock, SandboxOptions};
use crate::domain::time::elapsed;

pub(super) struct SandboxShared {
    pub(super) clock: Clock,
    pub(super) base_url: String,
    pub(super) timeline: Timeline,
    pub(super) seed: u64,
    /// True once the server shuts down; delayed answers then stop waiting.
    pub(super) closing: watch::Sender<bool>,
    state: Mutex<SandboxState>,
}

impl SandboxShared {
    pub(super) fn new(base_url: String, options: SandboxOptions) -> io::Result<Self> {
        let opened_at = options.clock.now();
        let start = options.start.unwrap_or(opened_at);
        Ok(Self {
            base_url,
            timeline: Timeline { opened_at, start, factor: options.time_factor },
            seed: options.seed,
            closing: watch::Sender::new(false),
            clock: options.clock.clone(),
            state: Mutex::new(SandboxState::new(start, options)?),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SandboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parcels' time.
    pub(super) fn virtual_now(&self) -> Timestamp {
        self.timeline.at(self.clock.now())
    }
}

/// A label of the sandbox.
#[derive(Debug)]
pub(super) struct SandboxLabel {
    /// Time of its creation, in the parcels' time.
    pub(super) created_at: Timestamp,
    /// When it is voided; may be in the future.
    pub(super) voided_at: Option<Timestamp>,
    pub(super) source: AnswerSource,
}

/// Source of the answers about a label.
#[derive(Debug)]
pub(super) enum AnswerSource {
    Parcel(Parcel),
    Recorded(RecordedJourney),
    Files,
}

/// Answer to a request for a label.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LabelAnswer {
    Tracking(Bytes),
    Untrackable,
    Unknown,
}

pub(super) struct SandboxState {
    pub(super) api_keys: Vec<String>,
    pub(super) rate_limit: Option<u32>,
    auto: bool,
    seed: u64,
    pub(super) requests: RequestLog,
    pub(super) faults: FaultInjector,
    pub(super) windows: HashMap<String, Window>,
    pub(super) scripts: HashMap<String, AnswerScript>,
    pub(super) labels: BTreeMap<LabelId, SandboxLabel>,
    /// Labels that are not found, regardless of `auto`.
    pub(super) gone: HashSet<LabelId>,
    replay: Option<FileReplay>,
    answered: u64,
    pub(super) largest_page: usize,
    labels_per_hour: Option<u32>,
    /// Number of labels created while running; they are numbered after the initial ones.
    grown: u64,
    grown_from: u64,
}

/// One in this many labels created while running is voided.
const VOIDED_ONE_IN: u64 = 20;
/// Seconds from its creation until it is voided, in the parcels' time.
const VOIDED_AFTER: std::ops::Range<i64> = 60..7_200;

impl SandboxState {
    fn new(start: Timestamp, options: SandboxOptions) -> io::Result<Self> {
        let replay = options.replay.as_deref().map(FileReplay::open).transpose()?;
        let mut labels = BTreeMap::new();
        let grown_from = options.labels.len() as u64;
        let mut know = |id: LabelId, source| {
            labels.insert(id, SandboxLabel { created_at: start, voided_at: None, source });
        };
        for id in options.labels {
            let parcel = Parcel::new(&id, options.seed, start);
            know(id, AnswerSource::Parcel(parcel));
        }
        for recorded in options.journeys {
            know(recorded.label_id.clone(), AnswerSource::Recorded(recorded));
        }
        for id in replay.as_ref().map(FileReplay::labels).transpose()?.unwrap_or_default() {
            know(id, AnswerSource::Files);
        }
        Ok(Self {
            api_keys: options.api_keys,
            rate_limit: options.rate_limit,
            auto: options.auto,
            seed: options.seed,
            requests: RequestLog::default(),
            faults: FaultInjector::new(options.faults, options.seed),
            windows: HashMap::new(),
            scripts: HashMap::new(),
            labels,
            gone: HashSet::new(),
            replay,
            answered: 0,
            largest_page: options.largest_page,
            labels_per_hour: Some(options.labels_per_hour).filter(|count| *count > 0),
            grown: 0,
            grown_from,
        })
    }

    /// Returns the request id of the n-th answer, in the form of a UUID.
    pub(super) fn next_request_id(&mut self) -> String {
        self.answered += 1;
        format!("{:08x}-7000-4000-8000-{:012x}", self.seed & 0xffff_ffff, self.answered)
    }

    pub(super) fn admits(&self, key: Option<&str>) -> bool {
        key.is_some_and(|key| {
            !key.is_empty() && (self.api_keys.is_empty() || self.api_keys.iter().any(|known| known == key))
        })
    }

    /// Answers one request for a label; with `auto` the first request creates the label.
    pub(super) fn answer(&mut self, id: &LabelId, virtual_now: Timestamp) -> LabelAnswer {
        if self.gone.contains(id) {
            return LabelAnswer::Unknown;
        }
        if !self.labels.contains_key(id) {
            let Some(source) = self.discover(id, virtual_now) else { return LabelAnswer::Unknown };
            self.labels.insert(id.clone(), SandboxLabel { created_at: virtual_now, voided_at: None, source });
        }
        let known = &self.labels[id];
        if known.voided_at.is_some_and(|at| at <= virtual_now) {
            return LabelAnswer::Untrackable;
        }
        let since = elapsed(known.created_at, virtual_now);
        let body = match &known.source {
            AnswerSource::Parcel(parcel) => Some(parcel.answer(since)),
            AnswerSource::Recorded(recorded) => Some(recorded.answer(since)),
            AnswerSource::Files => self.replay.as_mut().and_then(|replay| replay.next(id)),
        };
        body.map_or(LabelAnswer::Unknown, LabelAnswer::Tracking)
    }

    fn discover(&self, id: &LabelId, virtual_now: Timestamp) -> Option<AnswerSource> {
        if self.replay.as_ref().is_some_and(|replay| replay.last(id).is_some()) {
            return Some(AnswerSource::Files);
        }
        self.auto.then(|| AnswerSource::Parcel(Parcel::new(id, self.seed, virtual_now)))
    }

    /// Returns the tracking status of a label for the list of labels. Does not advance a replay.
    pub(super) fn tracking_of(&self, id: &LabelId, virtual_now: Timestamp) -> Option<Tracking> {
        let known = self.labels.get(id)?;
        let since = elapsed(known.created_at, virtual_now);
        let body = match &known.source {
            AnswerSource::Parcel(parcel) => parcel.answer(since),
            AnswerSource::Recorded(recorded) => recorded.answer(since),
            AnswerSource::Files => self.replay.as_ref()?.last(id)?,
        };
        Tracking::parse(&body).ok()
    }

    /// Returns the labels of the list at an instant of the parcels' time.
    pub(super) fn list_entries(&self, virtual_now: Timestamp) -> Vec<LabelEntry> {
        self.labels
            .iter()
            .filter(|(id, _)| !self.gone.contains(*id))
            .map(|(id, known)| LabelEntry {
                id: id.clone(),
                created_at: known.created_at,
                voided_at: known.voided_at.filter(|at| *at <= virtual_now),
            })
            .collect()
    }

    /// Creates the labels that are due by `now`.
    pub(super) fn grow(&mut self, timeline: &Timeline, now: Timestamp) {
        let Some(per_hour) = self.labels_per_hour else { return };
        let due = (elapsed(timeline.opened_at, now).as_secs_f64() / 3600.0 * f64::from(per_hour)) as u64;
        while self.grown < due {
            self.grown += 1;
            let after = SignedDuration::from_secs_f64(self.grown as f64 * 3600.0 / f64::from(per_hour));
            let made_at = timeline.at(timeline.opened_at.saturating_add(after).unwrap_or(Timestamp::MAX));
            let Ok(id) = format!("se-{}", self.grown_from + self.grown).parse::<LabelId>() else { return };
            let mut rng = fastrand::Rng::with_seed(self.seed ^ self.grown);
            let voided_at = (rng.u64(..VOIDED_ONE_IN) == 0)
                .then(|| made_at + SignedDuration::from_secs(rng.i64(VOIDED_AFTER)));
            let source = AnswerSource::Parcel(Parcel::new(&id, self.seed, made_at));
            self.labels.insert(id, SandboxLabel { created_at: made_at, voided_at, source });
        }
    }
}
