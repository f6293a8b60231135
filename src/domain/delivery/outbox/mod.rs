//! Deliveries of one subscriber that its courier holds in memory: lanes, their heads and due times.
//!
//! Each label has a lane. Only the head of a lane may be attempted, and no other delivery of the lane while the head is in
//! flight. So the order holds by construction, and no label waits for another (contract 7.2). System messages have one
//! lane per subject; pings have none.
//!
//! The table is the truth. Memory is bounded ([`MEMORY_LIMIT`]): the rest is read when there is room ([`Outbox::next_read`]).
//! A lane in memory is always a prefix of the lane in the table, so its first delivery is the head.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::delivery::outcome::DeliverySchedule;
use crate::domain::messages::subscriber::Format;

/// Limits of one subscriber's outbox in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    pub deliveries: usize,
    /// Total length of the bodies.
    pub bytes: usize,
}

pub const MEMORY_LIMIT: MemoryLimit = MemoryLimit { deliveries: 2_000, bytes: 16 * 1024 * 1024 };

/// Lanes read at once.
const LANES_PER_READ: usize = 64;
/// Maximum number of lanes to be read by name.
const MAX_NAMED_LANES: usize = 1_000;

/// Content of a message, shared by its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageContent {
    pub message_id: String,
    pub kind: String,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub body: String,
    pub resource_url: Option<String>,
}

/// A pending delivery with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    pub key: i64,
    pub message: Arc<MessageContent>,
    pub format: Format,
    /// Key of the label, or a negative key of the subject of a system message; `None` for a ping.
    pub lane: Option<i64>,
    /// Position in the lane.
    pub position: i64,
    /// Number of attempts.
    pub attempts: u32,
    pub schedule: DeliverySchedule,
}

impl PendingDelivery {
    pub fn kind(&self) -> AttemptKind {
        if self.attempts == 0 { AttemptKind::First } else { AttemptKind::Retry }
    }
}

/// Kind of an attempt. First attempts never wait for retries (contract 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptKind {
    First,
    Retry,
}

/// Deliveries read from the table.
#[derive(Clone, Debug, Default)]
pub struct LoadedDeliveries {
    pub deliveries: Vec<PendingDelivery>,
    /// `None`: these are all deliveries.
    pub not_loaded: Option<NotLoaded>,
}

/// Deliveries that are in the table only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotLoaded {
    /// By kind of attempt: heads that are due after this may be missing in memory; `None`: none is missing.
    pub after: [Option<Timestamp>; 2],
    /// Lanes whose head may be missing although it is due earlier.
    named: BTreeSet<i64>,
}

/// Next read from the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextRead {
    Nothing,
    /// The first deliveries of these lanes.
    Lanes(Vec<i64>),
    /// The heads of all lanes that are due first.
    Heads,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<i64, PendingDelivery>,
    in_flight: Option<i64>,
    /// Entry of the head in the index of ready heads.
    ready: Option<(AttemptKind, Timestamp, i64)>,
    /// Whether the table may have further deliveries of the lane.
    more: bool,
}

/// Heads not in flight: due time, key and lane.
type ReadyHeads = BTreeSet<(Timestamp, i64, i64)>;

/// Outbox of one subscriber in memory.
#[derive(Debug)]
pub struct Outbox {
    limit: MemoryLimit,
    lanes: HashMap<i64, Lane>,
    /// By kind of attempt.
    ready: [ReadyHeads; 2],
    pings: Vec<PendingDelivery>,
    deliveries: usize,
    bytes: usize,
    not_loaded: Option<NotLoaded>,
}

impl Outbox {
    pub fn new(limit: MemoryLimit) -> Self {
        Self {
            limit,
            lanes: HashMap::new(),
            ready: Default::default(),
            pings: Vec::new(),
            deliveries: 0,
            bytes: 0,
            not_loaded: None,
        }
    }

    /// Replaces all deliveries except those in flight.
    pub fn load(&mut self, loaded: LoadedDeliveries) {
        let in_flight = self.lanes.drain().filter_map(|(id, lane)| Some((id, lane.in_flight?)));
        let more = loaded.not_loaded.is_some();
        let lane = |key| Lane { in_flight: Some(key), more, ..Lane::default() };
        let lanes = in_flight.map(|(id, key)| (id, lane(key))).collect();
        *self = Self { lanes, not_loaded: loaded.not_loaded, ..Self::new(self.limit) };
        for delivery in loaded.deliveries {
            match delivery.lane {
                Some(id) => self.insert(id, delivery, more),
                None => self.pings.push(delivery),
            }
        }
        self.lanes.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.index(id));
    }

    /// Adds the first deliveries of a lane. `more`: the table may have further ones.
    pub fn load_lane(&mut self, id: i64, deliveries: Vec<PendingDelivery>, more: bool) {
        deliveries.into_iter().for_each(|delivery| self.insert(id, delivery, more));
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.more = more;
        }
        self.index(id);
        let Some(not_loaded) = &mut self.not_loaded else { return };
        not_loaded.named.remove(&id);
        if *not_loaded == NotLoaded::default() && !self.lanes.values().any(|lane| lane.more) {
            self.not_loaded = None;
        }
    }

    /// Adds a delivery just written to the table. A known one stays as it is.
    pub fn add(&mut self, delivery: PendingDelivery) {
        let Some(id) = delivery.lane else { return self.pings.push(delivery) };
        let full = self.is_full(delivery.message.body.len());
        match (self.lanes.get_mut(&id), &mut self.not_loaded) {
            // It is read with the deliveries before it.
            (Some(lane), _) if lane.more => {}
            (Some(lane), not_loaded) if full => {
                lane.more = true;
                not_loaded.get_or_insert_default();
            }
            (None, not_loaded) if full => {
                let after = &mut not_loaded.get_or_insert_default().after[AttemptKind::First as usize];
                let due = delivery.schedule.next.at;
                *after = Some(after.map_or(due, |after| after.min(due)));
            }
            // The table may have earlier deliveries of this lane.
            (None, Some(not_loaded)) => not_loaded.name(id),
            _ => {
                self.insert(id, delivery, false);
                self.index(id);
            }
        }
    }

    /// Returns the read that is needed so that memory holds all deliveries due at `now`.
    pub fn next_read(&self, now: Timestamp) -> NextRead {
        let Some(not_loaded) = &self.not_loaded else { return NextRead::Nothing };
        let missing = |kind: AttemptKind| {
            // Missing heads are due after `after`: they are needed then, once no earlier one is ready.
            let first = self.ready[kind as usize].first();
            not_loaded.after[kind as usize]
                .is_some_and(|after| after <= now && first.is_none_or(|(due, ..)| *due > after))
        };
        let crowded_out = !not_loaded.named.is_empty()
            && self.is_full(0)
            && self.due_count(AttemptKind::First, now, 1) == 0;
        if missing(AttemptKind::First) || missing(AttemptKind::Retry) || crowded_out {
            return NextRead::Heads;
        }
        match not_loaded.named.is_empty() || self.is_full(0) {
            true => NextRead::Nothing,
            false => NextRead::Lanes(not_loaded.named.iter().copied().take(LANES_PER_READ).collect()),
        }
    }

    pub fn limit(&self) -> MemoryLimit {
        self.limit
    }

    /// Number of deliveries in memory, including deliveries in flight.
    pub fn len(&self) -> usize {
        self.deliveries
    }

    pub fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    /// Whether all pending deliveries are in memory.
    pub fn is_complete(&self) -> bool {
        self.not_loaded.is_none()
    }

    /// Number of ready attempts of a kind due at `now`, counted up to `limit`.
    pub fn due_count(&self, kind: AttemptKind, now: Timestamp, limit: usize) -> usize {
        self.ready[kind as usize].range(..=until(now)).take(limit).count()
    }

    /// Next due time after `now`.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |ready: &ReadyHeads| ready.range(until(now)..).next().map(|(due, ..)| *due);
        let not_loaded = self.not_loaded.iter().flat_map(|not_loaded| not_loaded.after).flatten();
        self.ready.iter().filter_map(next).chain(not_loaded.filter(|after| *after > now)).min()
    }

    /// Takes the delivery of a kind that is due longest. It is in flight until [`Self::finish`].
    pub fn take(&mut self, kind: AttemptKind, now: Timestamp) -> Option<PendingDelivery> {
        let (_, _, lane) = *self.ready[kind as usize].range(..=until(now)).next()?;
        self.start(lane)
    }

    /// Takes the delivery for a probe: the newest or oldest one not yet attempted, else the retry due longest. Retries come
    /// last because they may be the cause of the failures.
    pub fn take_probe(&mut self, newest: bool, now: Timestamp) -> Option<PendingDelivery> {
        let mut due = self.ready[AttemptKind::First as usize].range(..=until(now));
        match if newest { due.next_back() } else { due.next() } {
            Some((_, _, lane)) => self.start(*lane),
            None => self.take(AttemptKind::Retry, now),
        }
    }

    /// Takes all pings.
    pub fn take_pings(&mut self) -> Vec<PendingDelivery> {
        std::mem::take(&mut self.pings)
    }

    /// Ends an attempt. `pending`: attempts and schedule if the delivery stays pending, else `None`.
    pub fn finish(&mut self, (id, position, key): (i64, i64, i64), pending: Option<(u32, DeliverySchedule)>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.in_flight == Some(key) {
            lane.in_flight = None;
        }
        match (lane.waiting.get_mut(&position), pending) {
            (Some(delivery), Some((attempts, schedule))) => {
                (delivery.attempts, delivery.schedule) = (attempts, schedule);
            }
            (Some(_), None) => self.remove(id, position),
            // The delivery is in the table only.
            (None, Some(_)) => lane.more = true,
            (None, None) => {}
        }
        self.index(id);
    }

    fn is_full(&self, more: usize) -> bool {
        self.deliveries >= self.limit.deliveries || self.bytes + more > self.limit.bytes
    }

    fn insert(&mut self, id: i64, delivery: PendingDelivery, more: bool) {
        let lane = self.lanes.entry(id).or_default();
        lane.more |= more;
        let size = delivery.message.body.len();
        if lane.waiting.insert(delivery.position, delivery).is_none() {
            self.deliveries += 1;
            self.bytes += size;
        }
    }

    fn remove(&mut self, id: i64, position: i64) {
        let gone = self.lanes.get_mut(&id).and_then(|lane| lane.waiting.remove(&position));
        if let Some(gone) = gone {
            self.deliveries -= 1;
            self.bytes -= gone.message.body.len();
        }
    }

    /// Updates the entry of a lane's head in the index, and removes an empty lane.
    fn index(&mut self, id: i64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some((kind, due, key)) = lane.ready.take() {
            self.ready[kind as usize].remove(&(due, key, id));
        }
        if lane.in_flight.is_some() {
            return;
        }
        match lane.waiting.first_key_value() {
            Some((_, head)) => {
                let (kind, due, key) = (head.kind(), head.schedule.next.at, head.key);
                lane.ready = Some((kind, due, key));
                self.ready[kind as usize].insert((due, key, id));
            }
            None => {
                if lane.more {
                    self.not_loaded.get_or_insert_default().name(id);
                }
                self.lanes.remove(&id);
            }
        }
    }

    fn start(&mut self, id: i64) -> Option<PendingDelivery> {
        let lane = self.lanes.get_mut(&id)?;
        let delivery = lane.waiting.first_key_value()?.1.clone();
        lane.in_flight = Some(delivery.key);
        self.index(id);
        Some(delivery)
    }
}

impl NotLoaded {
    fn name(&mut self, lane: i64) {
        if self.named.len() < MAX_NAMED_LANES {
            self.named.insert(lane);
        } else {
            // Too many lanes to read by name: the heads of all lanes are read instead.
            self.after = [Some(Timestamp::MIN); 2];
        }
    }
}

/// Upper bound of the entries due at `now`.
fn until(now: Timestamp) -> (Timestamp, i64, i64) {
    (now, i64::MAX, i64::MAX)
}

#[cfg(test)]
mod tests;
