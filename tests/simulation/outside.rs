//! The outside: the API with its parcels, and the receivers. Both live in real time and keep the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use trackpost::domain::delivery::attempt::Stage;
use trackpost::domain::delivery::outbox::PendingDelivery;
use trackpost::domain::delivery::outcome::Outcome;
use trackpost::domain::label::LabelId;
use trackpost::domain::messages::envelope;
use trackpost::domain::polling::discovery::{ListPage, ListRequest, ListedLabel, ListedState};
use trackpost::domain::tracking::reading::Reading;
use trackpost::sandbox::ledger::{Accepted, Served};
use trackpost::sandbox::{Carrier, JourneyKind, Parcel, ReceivedCallback, Verified};
use trackpost::shipstation::reading_of_body;

use super::script::{ApiMode, ListChange, Listed, ReceiverMode};

/// The names of [`Carrier::ALL`] in answers.
const CARRIERS: [&str; 3] = ["ups", "fedex_walleted", "stamps_com"];

/// Changes of a label's list.
#[derive(Debug, Default)]
struct List {
    without: BTreeSet<usize>,
    newest: Option<usize>,
    empty: bool,
    reversed: bool,
    spelled: bool,
    /// Revisions of events, by their number from the oldest.
    revised: BTreeMap<usize, usize>,
}

pub struct Api {
    pub ids: Vec<LabelId>,
    /// Labels of the list; they are the last of all.
    pub listed: Vec<Listed>,
    parcels: Vec<Parcel>,
    carriers: Vec<usize>,
    lists: Vec<List>,
    start: Timestamp,
    mode: Option<(ApiMode, u8, Timestamp)>,
    refused: BTreeMap<usize, Timestamp>,
    pub served: Served,
}

/// An answer and the seconds that it takes.
pub struct Reply<T = Reading> {
    pub reading: T,
    pub takes: Duration,
}

impl Api {
    pub fn new(registered: &[(usize, usize)], listed: &[Listed], seed: u64, start: Timestamp) -> Self {
        let parcels = registered.iter().copied().chain(listed.iter().map(|listed| listed.parcel));
        let parcels: Vec<(usize, usize)> = parcels.collect();
        let ids: Vec<LabelId> = (1..=parcels.len() as u64).map(LabelId::numbered).collect();
        let carriers = parcels.iter().map(|(_, carrier)| *carrier).collect();
        let parcels = parcels.iter().zip(&ids).map(|((journey, carrier), id)| {
            Parcel::on(JourneyKind::ALL[*journey], Carrier::ALL[*carrier], id, seed, start)
        });
        let parcels: Vec<Parcel> = parcels.collect();
        let lists = parcels.iter().map(|_| List::default()).collect();
        let (refused, served) = (BTreeMap::new(), Served::default());
        let listed = listed.to_vec();
        Self { ids, listed, parcels, carriers, lists, start, mode: None, refused, served }
    }

    pub fn set_mode(&mut self, mode: ApiMode, percent: u8, until: Timestamp) {
        self.mode = Some((mode, percent, until));
    }

    pub fn refuse(&mut self, label: usize, until: Timestamp) {
        self.refused.insert(label, until);
    }

    pub fn is_disturbed(&self, now: Timestamp) -> bool {
        self.mode.as_ref().is_some_and(|(_, _, until)| *until > now)
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.mode = None;
        self.refused.clear();
        for list in &mut self.lists {
            *list = List { revised: std::mem::take(&mut list.revised), ..List::default() };
        }
    }

    pub fn change(&mut self, label: usize, change: &ListChange) {
        // An event that is revised while it is not listed cannot be distinguished from a new one.
        let cut = matches!(change, ListChange::Without(_) | ListChange::Newest(_) | ListChange::Empty);
        if cut && self.parcels[label].journey() == JourneyKind::Revised {
            return;
        }
        let list = &mut self.lists[label];
        match change {
            ListChange::Without(event) => drop(list.without.insert(*event)),
            ListChange::Newest(events) => list.newest = Some(*events),
            ListChange::Empty => list.empty = true,
            ListChange::Reversed => list.reversed = true,
            ListChange::Spelled => list.spelled = true,
            ListChange::Revise(event) => *list.revised.entry(*event).or_default() += 1,
            ListChange::Restore => {
                *list = List { revised: std::mem::take(&mut list.revised), ..List::default() };
            }
        }
    }

    /// Answers a request at `now`. `last`: digest of the last answer that the client knows.
    pub fn answer(&mut self, label: usize, last: Option<u64>, now: Timestamp, rng: &mut Rng) -> Reply {
        let carrier = CARRIERS[self.carriers[label]];
        let Reply { reading, takes } = self.fault(Some(carrier), now, rng);
        let reading = match reading {
            Some(Reading::TimedOut) if matches!(self.mode, Some((ApiMode::Late(_), ..))) => {
                self.body(label, now);
                Reading::TimedOut
            }
            Some(reading) => reading,
            None if self.refused.get(&label).is_some_and(|until| now < *until) => {
                Reading::Refused { status: 404, detail: format!("no label {label}") }
            }
            None => self.read(label, last, now),
        };
        Reply { reading, takes }
    }

    /// Answers a request for the list at `now`.
    pub fn list(
        &mut self,
        request: ListRequest,
        now: Timestamp,
        rng: &mut Rng,
    ) -> Reply<Result<ListPage, Reading>> {
        let Reply { reading, takes } = self.fault(None, now, rng);
        let reading = reading.map_or_else(|| Ok(self.page(request, now)), Err);
        Reply { reading, takes }
    }

    fn page(&self, request: ListRequest, now: Timestamp) -> ListPage {
        let numbers = self.ids.iter().skip(self.ids.len() - self.listed.len());
        let mut labels: Vec<ListedLabel> = numbers
            .zip(&self.listed)
            .filter(|(_, listed)| listed.shows_at(self.start) <= now)
            .map(|(id, listed)| ListedLabel {
                id: id.clone(),
                created_at: Some(listed.created_at(self.start)),
                state: listed.state(self.start, now),
                metadata: Default::default(),
            })
            .filter(|label| label.created_at >= Some(request.created_from))
            .filter(|label| !request.voided_only || label.state == ListedState::Voided)
            .collect();
        labels.sort_by_key(|label| label.created_at);
        let size = request.page_size as usize;
        let passed = (request.page as usize - 1) * size;
        let more = labels.len() > passed + size;
        let labels = labels.into_iter().skip(passed).take(size).collect();
        ListPage { labels, more, invalid_ids: 0 }
    }

    /// Counts a request, and returns its fault, if any.
    fn fault(&mut self, carrier: Option<&str>, now: Timestamp, rng: &mut Rng) -> Reply<Option<Reading>> {
        self.served.requested("key", now);
        let mode = self.mode.as_ref().filter(|(_, percent, until)| now < *until && rng.u8(0..100) < *percent);
        let mode = mode.map(|(mode, ..)| mode.clone());
        let takes = Duration::from_millis(rng.u64(20..1_500));
        let detail = || "simulated".to_owned();
        let hangs = Duration::from_secs(30);
        let (reading, takes) = match mode {
            None => return Reply { reading: None, takes },
            Some(ApiMode::ServerError) => (Reading::ServerError { status: 502 }, takes),
            Some(ApiMode::Garbled) => (Reading::Garbled { status: 200, detail: detail() }, takes),
            Some(ApiMode::Unauthorized) => (Reading::Unauthorized { status: 401, detail: detail() }, takes),
            Some(ApiMode::WrongEndpoint) => {
                (Reading::WrongEndpoint { status: Some(404), url: detail(), detail: detail() }, takes)
            }
            Some(ApiMode::Refuses) => (Reading::Refused { status: 403, detail: detail() }, takes),
            Some(ApiMode::Throttles(seconds)) => {
                let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.into()));
                (Reading::Throttled { retry_after }, takes)
            }
            Some(ApiMode::CarrierThrottles { named, seconds }) => {
                let retry_after = Some(Duration::from_secs(seconds.into()));
                match carrier {
                    Some(carrier) => {
                        let carrier = named.then(|| carrier.to_owned());
                        (Reading::CarrierThrottled { carrier, retry_after }, takes)
                    }
                    None => return Reply { reading: None, takes },
                }
            }
            Some(ApiMode::NoConnection) => (Reading::NoConnection { detail: detail() }, takes),
            Some(ApiMode::Shortage) => (Reading::Shortage { detail: detail() }, takes),
            Some(ApiMode::Late(seconds)) if seconds < 30 => {
                return Reply { reading: None, takes: Duration::from_secs(seconds.into()) };
            }
            Some(ApiMode::Hangs | ApiMode::Late(_)) => (Reading::TimedOut, hangs),
        };
        Reply { reading: Some(reading), takes }
    }

    fn read(&mut self, label: usize, last: Option<u64>, now: Timestamp) -> Reading {
        reading_of_body(&self.body(label, now), last)
    }

    fn body(&mut self, label: usize, now: Timestamp) -> Bytes {
        let elapsed = Duration::try_from(now.duration_since(self.start)).unwrap_or_default();
        let body = self.lists[label].apply(self.parcels[label].answer(elapsed));
        self.served.record_answer(self.ids[label].as_str(), &body);
        body
    }
}

impl Listed {
    pub fn created_at(&self, start: Timestamp) -> Timestamp {
        start + SignedDuration::from_secs(self.created.into())
    }

    fn shows_at(&self, start: Timestamp) -> Timestamp {
        after(self.created_at(start), self.late)
    }

    pub fn completed_at(&self, start: Timestamp) -> Timestamp {
        after(self.shows_at(start), self.making)
    }

    pub fn voided_at(&self, start: Timestamp) -> Option<Timestamp> {
        self.voided.map(|voided| after(self.completed_at(start), voided))
    }

    fn state(&self, start: Timestamp, now: Timestamp) -> ListedState {
        let completed = if self.completed_at(start) <= now { "completed" } else { "processing" };
        let voided = self.voided_at(start).is_some_and(|at| at <= now);
        ListedState::of(Some(completed), Some(voided), Some(true))
    }
}

impl List {
    fn apply(&self, body: Bytes) -> Bytes {
        let Self { without, newest, empty, reversed, spelled, revised } = self;
        let plain = without.is_empty() && newest.is_none() && revised.is_empty();
        if plain && !(*empty || *reversed || *spelled) {
            return body;
        }
        let mut answer: Value = serde_json::from_slice(&body).expect("the parcel's answer is JSON");
        let Some(events) = answer["events"].as_array_mut() else { return body };
        let all = std::mem::take(events);
        let count = all.len();
        for (index, mut event) in all.into_iter().enumerate() {
            let number = count - 1 - index;
            if let Some(revision) = revised.get(&number) {
                // Each text extends the last one, because a place that contradicts the last one is another event.
                event["company_name"] = format!("Hub{}", " 1".repeat(*revision)).into();
            }
            if *spelled {
                let fields = event.as_object_mut().expect("an event is an object");
                for value in fields.values_mut().filter(|value| value.is_null()) {
                    *value = "".into();
                }
            }
            let kept = newest.is_none_or(|newest| index < newest);
            if kept && !*empty && (index == 0 || !without.contains(&index)) {
                events.push(event);
            }
        }
        if *reversed {
            events.reverse();
        }
        serde_json::to_vec(&answer).expect("a value").into()
    }
}

#[derive(Default)]
pub struct Receivers {
    modes: BTreeMap<String, (ReceiverMode, Timestamp)>,
    requests: usize,
    pub accepted: Accepted,
    /// Ids that a subscriber got with a 2xx.
    pub got: BTreeSet<(String, String)>,
}

pub struct HookReply {
    pub outcome: Outcome,
    pub retry_after: Option<Duration>,
    pub takes: Duration,
}

/// Time limit of a callback.
const TIMEOUT: Duration = Duration::from_secs(15);

impl Receivers {
    pub fn set_mode(&mut self, subscriber: &str, mode: ReceiverMode, until: Timestamp) {
        self.modes.insert(subscriber.to_owned(), (mode, until));
    }

    pub fn heal(&mut self) {
        self.modes.clear();
    }

    pub fn receive(
        &mut self,
        subscriber: &str,
        delivery: &PendingDelivery,
        now: Timestamp,
        rng: &mut Rng,
    ) -> HookReply {
        self.requests += 1;
        let takes = Duration::from_millis(rng.u64(1..400));
        let mode = self.modes.get(subscriber).filter(|(_, until)| now < *until).map(|(mode, _)| mode.clone());
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let refused = |status| (Outcome::ErrorStatus { status }, None, takes);
        let (outcome, retry_after, takes) = match mode {
            Some(ReceiverMode::Fails { outcome, seconds: takes }) => (outcome, None, seconds(takes)),
            Some(ReceiverMode::Throttles { status, seconds: wait }) => {
                (Outcome::ErrorStatus { status }, Some(seconds(wait)), takes)
            }
            Some(ReceiverMode::RefusesSome) if delivery.lane.unwrap_or_default() % 2 == 1 => refused(422),
            Some(ReceiverMode::AcceptsAndResets) => (Outcome::Reset, None, takes),
            Some(ReceiverMode::Slow(takes)) => (Outcome::Accepted { status: 200 }, None, seconds(takes)),
            Some(ReceiverMode::Flaky) if self.requests.is_multiple_of(3) => refused(500),
            _ => (Outcome::Accepted { status: 200 }, None, takes),
        };
        let accepts_unheard = matches!(
            self.modes.get(subscriber),
            Some((ReceiverMode::AcceptsAndResets, until)) if now < *until
        );
        self.record(subscriber, delivery, outcome.is_accepted() || accepts_unheard, now);
        if takes >= TIMEOUT {
            return HookReply {
                outcome: Outcome::TimedOut { stage: Stage::Waiting },
                retry_after: None,
                takes: TIMEOUT,
            };
        }
        HookReply { outcome, retry_after, takes }
    }

    fn record(&mut self, subscriber: &str, delivery: &PendingDelivery, accepts: bool, now: Timestamp) {
        let message = &delivery.message;
        let body = envelope::render(delivery.format, &message.body, message.resource_url.as_deref());
        let callback = ReceivedCallback {
            at: now,
            path: format!("/{subscriber}"),
            headers: HeaderMap::new(),
            body: body.expect("a stored message can be rendered").into(),
            verified: Verified::Unchecked,
            message_id: Some(message.message_id.clone()),
            label_id: message.label_id.clone(),
            seq: message.seq.and_then(|seq| u64::try_from(seq).ok()),
            kind: Some(message.kind.clone()),
            attempt: Some(delivery.attempts + 1),
            answered: None,
        };
        self.accepted.received(&callback);
        self.accepted.record_answer(&callback, if accepts { 200 } else { 500 });
        if accepts {
            self.got.insert((subscriber.to_owned(), message.message_id.clone()));
        }
    }
}

/// A span of `seconds` after `at`.
pub fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at + SignedDuration::from_secs(seconds.into())
}
