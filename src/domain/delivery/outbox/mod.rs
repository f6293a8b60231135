//! What a courier holds in memory of its subscriber's outbox: lanes, their heads, and which of them are due.
//!
//! Per label there is a lane, and only its head may be attempted; nothing else of the lane is while the head is in
//! flight. So order holds by construction, and one label never waits for another. What the system says of one account or
//! subscriber has a lane, too; a ping has none.
//!
//! The table is the truth. Memory is bounded ([`LIMIT`]): what does not fit is left out and read when there is room for
//! it ([`Outbox::wanted`]). A lane in memory is always a prefix of what the table has of it, so that no head is taken for
//! one that is none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::delivery::outcome::DeliverySchedule;
use crate::domain::messages::subscriber::Format;

/// The most that is kept of one subscriber's outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub deliveries: usize,
    /// Of bodies.
    pub bytes: usize,
}

pub const LIMIT: Limit = Limit { deliveries: 2_000, bytes: 16 * 1024 * 1024 };

/// Lanes that are read at once.
const LANES_READ: usize = 64;
/// Lanes that wait to be read by name.
const LANES_NAMED: usize = 1_000;

/// What is sent of a message. Its deliveries share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageContent {
    pub message_id: String,
    pub kind: String,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub body: String,
    pub resource_url: Option<String>,
}

/// A delivery still to be made, with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    pub key: i64,
    pub message: Arc<MessageContent>,
    pub format: Format,
    /// The label's key, or that of the subject of a system message, below zero; `None`: a ping.
    pub lane: Option<i64>,
    /// In the lane.
    pub place: i64,
    /// Attempts made so far, whatever they were.
    pub attempts: u32,
    pub schedule: DeliverySchedule,
}

impl PendingDelivery {
    pub fn kind(&self) -> Kind {
        if self.attempts == 0 { Kind::First } else { Kind::Retry }
    }
}

/// Two kinds of deliveries: first attempts never wait behind retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never attempted before.
    First,
    Retry,
}

/// What is read of the table as a whole.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub deliveries: Vec<PendingDelivery>,
    /// `None`: this is all there is.
    pub left_out: Option<LeftOut>,
}

/// What the table has and memory has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Heads never attempted that are due after this may be missing; `None`: none is.
    pub first_after: Option<Timestamp>,
    /// The same of heads attempted before.
    pub retries_after: Option<Timestamp>,
    /// Lanes with a head that may be missing though it is due earlier.
    named: BTreeSet<i64>,
}

/// What should be read of the table now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// The beginnings of these lanes.
    Lanes(Vec<i64>),
    /// The heads that are due first, of all lanes.
    Heads,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: BTreeMap<i64, PendingDelivery>,
    in_flight: Option<i64>,
    /// The head as it stands among those that may be taken.
    ready: Option<(Kind, Timestamp, i64)>,
    /// The table may have more of it, behind these.
    more: bool,
}

/// Heads that may be taken: when they are due, their keys and their lanes.
type Ready = BTreeSet<(Timestamp, i64, i64)>;

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    limit: Limit,
    lanes: HashMap<i64, Lane>,
    first: Ready,
    retries: Ready,
    pings: Vec<PendingDelivery>,
    deliveries: usize,
    bytes: usize,
    left_out: Option<LeftOut>,
}

impl Outbox {
    pub fn new(limit: Limit) -> Self {
        Self {
            limit,
            lanes: HashMap::new(),
            first: Ready::new(),
            retries: Ready::new(),
            pings: Vec::new(),
            deliveries: 0,
            bytes: 0,
            left_out: None,
        }
    }

    /// Replaces everything but what is in flight by what was read.
    pub fn load(&mut self, loaded: Loaded) {
        let in_flight = self.lanes.drain().filter_map(|(id, lane)| Some((id, lane.in_flight?)));
        let more = loaded.left_out.is_some();
        let lane = |key| Lane { in_flight: Some(key), more, ..Lane::default() };
        let lanes = in_flight.map(|(id, key)| (id, lane(key))).collect();
        *self = Self { lanes, left_out: loaded.left_out, ..Self::new(self.limit) };
        for delivery in loaded.deliveries {
            match delivery.lane {
                Some(id) => self.insert(id, delivery, more),
                None => self.pings.push(delivery),
            }
        }
        self.lanes.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.index(id));
    }

    /// Takes in the beginning of a lane as it was read; `more`: there may be more behind it.
    pub fn load_lane(&mut self, id: i64, deliveries: Vec<PendingDelivery>, more: bool) {
        deliveries.into_iter().for_each(|delivery| self.insert(id, delivery, more));
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.more = more;
        }
        self.index(id);
        let Some(left_out) = &mut self.left_out else { return };
        left_out.named.remove(&id);
        if *left_out == LeftOut::default() && !self.lanes.values().any(|lane| lane.more) {
            self.left_out = None;
        }
    }

    /// Takes in a delivery that has just been written. One that is known already is left as it is.
    pub fn add(&mut self, delivery: PendingDelivery) {
        let Some(id) = delivery.lane else { return self.pings.push(delivery) };
        let full = self.is_full(delivery.message.body.len());
        match (self.lanes.get_mut(&id), &mut self.left_out) {
            // It is read with what goes before it.
            (Some(lane), _) if lane.more => {}
            (Some(lane), left_out) if full => {
                lane.more = true;
                left_out.get_or_insert_default();
            }
            (None, left_out) if full => {
                let after = &mut left_out.get_or_insert_default().first_after;
                let due = delivery.schedule.next.at;
                *after = Some(after.map_or(due, |after| after.min(due)));
            }
            // Only the table knows whether something goes before it.
            (None, Some(left_out)) => left_out.name(id),
            _ => {
                self.insert(id, delivery, false);
                self.index(id);
            }
        }
    }

    /// What should be read now, to have in memory whatever is due at `now`.
    pub fn wanted(&self, now: Timestamp) -> Wanted {
        let Some(left_out) = &self.left_out else { return Wanted::Nothing };
        let missing = |after: Option<Timestamp>, ready: &Ready| {
            // Those left out are due after that; they are needed once they are due and nothing before them is left.
            after.is_some_and(|after| after <= now && ready.first().is_none_or(|(due, ..)| *due > after))
        };
        let crowded_out = !left_out.named.is_empty() && self.is_full(0) && self.due(Kind::First, now, 1) == 0;
        if missing(left_out.first_after, &self.first)
            || missing(left_out.retries_after, &self.retries)
            || crowded_out
        {
            return Wanted::Heads;
        }
        match left_out.named.is_empty() || self.is_full(0) {
            true => Wanted::Nothing,
            false => Wanted::Lanes(left_out.named.iter().copied().take(LANES_READ).collect()),
        }
    }

    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// How many are in memory, with those in flight.
    pub fn len(&self) -> usize {
        self.deliveries
    }

    pub fn is_empty(&self) -> bool {
        self.deliveries == 0
    }

    /// Whether everything pending is in memory.
    pub fn is_complete(&self) -> bool {
        self.left_out.is_none()
    }

    /// How many of a kind are due at `now` and may be taken; counted up to `limit`.
    pub fn due(&self, kind: Kind, now: Timestamp, limit: usize) -> usize {
        self.ready(kind).range(..=until(now)).take(limit).count()
    }

    /// When the next one is due after `now`.
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |ready: &Ready| ready.range(until(now)..).next().map(|(due, ..)| *due);
        let left_out = self.left_out.as_ref().map(|left_out| [left_out.first_after, left_out.retries_after]);
        let left_out = left_out.into_iter().flatten().flatten().filter(|after| *after > now);
        [next(&self.first), next(&self.retries)].into_iter().flatten().chain(left_out).min()
    }

    /// Takes the one of a kind that is due longest; it is in flight until [`Self::settled`].
    pub fn take(&mut self, kind: Kind, now: Timestamp) -> Option<PendingDelivery> {
        let (_, _, lane) = *self.ready(kind).range(..=until(now)).next()?;
        self.start(lane)
    }

    /// Takes the delivery that a failing subscriber is probed with. What has failed already may be what is bad, so it
    /// comes last, and by due time, so that what was just tried comes after all others. Of what was never attempted, the
    /// `newest` if it is its turn.
    pub fn take_probe(&mut self, newest: bool, now: Timestamp) -> Option<PendingDelivery> {
        let mut due = self.first.range(..=until(now));
        match if newest { due.next_back() } else { due.next() } {
            Some((_, _, lane)) => self.start(*lane),
            None => self.take(Kind::Retry, now),
        }
    }

    /// Takes all pings: they wait for nothing.
    pub fn take_pings(&mut self) -> Vec<PendingDelivery> {
        std::mem::take(&mut self.pings)
    }

    /// Takes in what became of an attempt: the delivery is pending still, with this schedule, or `None`: it is settled.
    pub fn settled(&mut self, (id, place, key): (i64, i64, i64), pending: Option<(u32, DeliverySchedule)>) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.in_flight == Some(key) {
            lane.in_flight = None;
        }
        match (lane.waiting.get_mut(&place), pending) {
            (Some(delivery), Some((attempts, schedule))) => {
                (delivery.attempts, delivery.schedule) = (attempts, schedule);
            }
            (Some(_), None) => self.remove(id, place),
            // It was not read with the others.
            (None, Some(_)) => lane.more = true,
            (None, None) => {}
        }
        self.index(id);
    }

    fn ready(&self, kind: Kind) -> &Ready {
        match kind {
            Kind::First => &self.first,
            Kind::Retry => &self.retries,
        }
    }

    fn is_full(&self, more: usize) -> bool {
        self.deliveries >= self.limit.deliveries || self.bytes + more > self.limit.bytes
    }

    fn insert(&mut self, id: i64, delivery: PendingDelivery, more: bool) {
        let lane = self.lanes.entry(id).or_default();
        lane.more |= more;
        let size = delivery.message.body.len();
        if lane.waiting.insert(delivery.place, delivery).is_none() {
            self.deliveries += 1;
            self.bytes += size;
        }
    }

    fn remove(&mut self, id: i64, place: i64) {
        let gone = self.lanes.get_mut(&id).and_then(|lane| lane.waiting.remove(&place));
        if let Some(gone) = gone {
            self.deliveries -= 1;
            self.bytes -= gone.message.body.len();
        }
    }

    /// Has the head of a lane stand where it belongs, and a lane without any go.
    fn index(&mut self, id: i64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some((kind, due, key)) = lane.ready.take() {
            match kind {
                Kind::First => self.first.remove(&(due, key, id)),
                Kind::Retry => self.retries.remove(&(due, key, id)),
            };
        }
        if lane.in_flight.is_some() {
            return;
        }
        match lane.waiting.first_key_value() {
            Some((_, head)) => {
                let (kind, due, key) = (head.kind(), head.schedule.next.at, head.key);
                lane.ready = Some((kind, due, key));
                match kind {
                    Kind::First => self.first.insert((due, key, id)),
                    Kind::Retry => self.retries.insert((due, key, id)),
                };
            }
            None => {
                if lane.more {
                    self.left_out.get_or_insert_default().name(id);
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

impl LeftOut {
    fn name(&mut self, lane: i64) {
        if self.named.len() < LANES_NAMED {
            self.named.insert(lane);
        } else {
            // Too many to ask for by name: all are chosen from when nothing else is due.
            self.first_after = Some(Timestamp::MIN);
            self.retries_after = Some(Timestamp::MIN);
        }
    }
}

/// Where those due at `now` end.
fn until(now: Timestamp) -> (Timestamp, i64, i64) {
    (now, i64::MAX, i64::MAX)
}

#[cfg(test)]
mod tests;
