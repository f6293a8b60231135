//! The trade that looks: one poller per account.
//!
//! Three short steps per label, and no transaction is open across HTTP: take a due label, ask, record what the plan
//! says. Polls run side by side, up to the account's `max_in_flight` and within its quota; each is recorded by itself,
//! so a slow label holds up nothing but its own slot.
//!
//! If we die after asking and before recording, the call is lost and nothing else: the label is still due.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::desk::{Call, Desk, Errand, Slot};
use crate::domain::account::ALL_LABELS;
use crate::domain::cadence::Cadence;
use crate::domain::pace;
use crate::domain::poll::{self, FirstPoll, PollPlan, Terms};
use crate::domain::reading::Reading;
use crate::domain::rhythm::Rhythms;
use crate::domain::silence::Patience;
use crate::domain::snapshot::Snapshot;
use crate::domain::span::later;
use crate::domain::subscriber::Subscriber;
use crate::experience::Experience;
use crate::in_flight::InFlight;
use crate::pulse::Pulse;
use crate::store::StoreError;
use crate::store::polls::{PollRecord, Recorded};

/// Due labels read ahead; what the registry does to one meanwhile is noticed when its poll is recorded.
const AHEAD: u32 = 64;
/// How old what was read ahead may get: a label added or made due by hand is noticed within this.
const STALE: SignedDuration = SignedDuration::from_millis(500);

/// What all polls are planned under.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub cadence: Cadence,
    pub patience: Patience,
    pub first_poll: FirstPoll,
    pub subscribers: Vec<Subscriber>,
}

/// Looks at the labels of one account.
pub struct Poller {
    looking: Arc<Looking>,
    /// Labels under way.
    in_flight: InFlight<(), ()>,
    ahead: VecDeque<Snapshot>,
    read_ahead_at: Option<Timestamp>,
}

/// What polls under way share.
struct Looking {
    desk: Arc<Desk>,
    policy: watch::Receiver<Arc<Policy>>,
    experience: Experience,
    pulse: Pulse,
}

impl Poller {
    pub fn new(
        desk: Arc<Desk>,
        policy: watch::Receiver<Arc<Policy>>,
        experience: Experience,
        pulse: Pulse,
    ) -> Self {
        Self {
            looking: Arc::new(Looking { desk, policy, experience, pulse }),
            in_flight: InFlight::default(),
            ahead: VecDeque::new(),
            read_ahead_at: None,
        }
    }

    /// Polls until `shutdown` says so, then lets what is under way end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        self.looking.desk.occupy().await?;
        loop {
            let wake = self.fill(clock::now()).await?;
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(done) = self.in_flight.ended() => done?,
                () = clock::sleep_until(wake) => {}
            }
        }
        self.in_flight.drain().await
    }

    /// One bounded piece of work: takes up what is due at `now` and may be asked about, and sees it through. Returns
    /// when there is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.read_ahead_at = None;
        let wake = self.fill(now).await?;
        self.in_flight.drain().await?;
        Ok(wake)
    }

    /// Starts as many polls as are due and allowed; says when to look again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let desk = Arc::clone(&self.looking.desk);
        let soon = later(now, STALE);
        if let Some(open_at) = desk.open_at(now) {
            self.looking.pulse.beat(now);
            return Ok(open_at.min(soon));
        }
        let probing = desk.probing();
        let slots = if probing { 1 } else { desk.account.max_in_flight as usize };
        while self.in_flight.len() < slots {
            let Some(label) = self.take(now, probing).await? else { break };
            let slot = match desk.take(Errand::Look, now) {
                Ok(slot) => slot,
                Err(free_at) => {
                    self.ahead.push_front(label);
                    self.looking.pulse.beat(now);
                    return Ok(free_at.map_or(soon, |at| at.min(soon)));
                }
            };
            desk.serves(label.standing.next_poll_at, label.standing.pace, now);
            self.in_flight.start(label.row, (), poll_label(Arc::clone(&self.looking), slot, label, now));
        }
        self.looking.pulse.beat(now);
        let next = desk.store.next_due(&desk.account.name, now).await?;
        Ok(next.map_or(soon, |next| next.min(soon)))
    }

    /// What is served next, in order, and what all labels together ask for.
    async fn read_ahead(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let desk = &self.looking.desk;
        let (store, account) = (&desk.store, &desk.account.name);
        let queues = store.due_queues(account, now, AHEAD, self.in_flight.len()).await?;
        let mut rows = pace::order(&queues, desk.turn(), now, AHEAD as usize + self.in_flight.len());
        rows.retain(|row| !self.in_flight.has(*row));
        if rows.is_empty() && self.in_flight.is_empty() {
            desk.caught_up();
        }
        self.ahead = store.due_labels(&rows, now).await?.into();
        self.read_ahead_at = Some(now);
        desk.asks(store.polled_labels(account, ALL_LABELS).await?, store.demand(account).await?, now);
        Ok(())
    }

    async fn take(&mut self, now: Timestamp, probing: bool) -> Result<Option<Snapshot>, StoreError> {
        let stale = self.read_ahead_at.is_none_or(|at| now.duration_since(at).abs() >= STALE);
        if stale {
            self.ahead.clear();
        }
        if self.ahead.is_empty() {
            self.read_ahead(now).await?;
        }
        // Who answered last time is the best probe: a label that fails by itself proves nothing.
        if probing && let Some(well) = self.ahead.iter().position(|label| label.standing.failures == 0) {
            self.ahead.swap(0, well);
        }
        // One that ended meanwhile may have been read ahead as it was before.
        while let Some(label) = self.ahead.pop_front() {
            if !self.in_flight.has(label.row) {
                return Ok(Some(label));
            }
        }
        Ok(None)
    }
}

/// Asks about one label and records what follows.
async fn poll_label(
    looking: Arc<Looking>,
    slot: Slot,
    label: Snapshot,
    now: Timestamp,
) -> Result<(), StoreError> {
    let call = slot.call;
    let reading = ask(&looking.desk, &label, now).await;
    drop(slot);
    // The instant of the step that records, read once: time has passed while we asked.
    let at = clock::now().max(now);
    record(&looking, &label, reading, call, at).await
}

async fn ask(desk: &Desk, label: &Snapshot, now: Timestamp) -> Reading {
    // An event that was missing last time is retracted by the same bytes: they must be read, not only compared.
    let last = label.standing.answer_digest.as_ref().filter(|_| label.standing.missing_events == 0);
    desk.client.read(&desk.account, &label.key.id, last, now).await
}

async fn record(
    looking: &Looking,
    label: &Snapshot,
    reading: Reading,
    call: Call,
    now: Timestamp,
) -> Result<(), StoreError> {
    let desk = &looking.desk;
    let known = match &reading {
        Reading::Answer { digest, .. } if poll::needs_history(&label.standing, digest) => {
            desk.store.known_events(label.row).await?
        }
        _ => Vec::new(),
    };
    // One policy for the whole poll, whatever a reload does meanwhile.
    let policy = Arc::clone(&looking.policy.borrow());
    let observed = desk.observe(Some(label.row), &reading.verdict(), call, now);
    let account = observed.map(|observed| desk.to_record(observed, &policy.subscribers, now));
    let terms = Terms {
        cadence: &policy.cadence,
        rhythms: &Rhythms::default(),
        patience: &policy.patience,
        first_poll: policy.first_poll,
        subscribers: &policy.subscribers,
        resource_url: &desk.account.tracking_url(&label.key.id),
        outage: desk.probing(),
        sent_at: call.sent_at,
    };
    let plan = |reading: &Reading| {
        looking.experience.with(|rhythms| {
            poll::plan(&Terms { rhythms, ..terms }, label, &known, reading, now, clock::jitter())
        })
    };
    let found = plan(&reading);
    let news = News::of(&found);
    let after = found.standing.clone();
    // If we die here, the label is still due and the API says the same again.
    let held = poll::held_carrier(&reading, label, now);
    let usage = desk.usage(call, held, now);
    let requests = usage.requests;
    let record = PollRecord::new(label, found, now, account.clone(), usage.clone());
    let recorded = match desk.store.record_poll(record).await {
        Err(error) if error.is_refusal() => {
            // An answer that no law of the database lets in is that label's failure, and nobody else's.
            error!(label.id = %label.key.id, %error, "what the API said can't be recorded");
            let garbled = Reading::Garbled { status: 200, detail: format!("it can't be recorded: {error}") };
            desk.store.record_poll(PollRecord::new(label, plan(&garbled), now, account, usage)).await
        }
        recorded => recorded,
    };
    match recorded.inspect_err(|_| desk.unrecorded(requests))? {
        Recorded::Done => {
            if matches!(reading, Reading::Answer { .. } | Reading::SameBytes) {
                looking.experience.learn(label, &after, now);
            }
            report(label, &reading, &news);
        }
        Recorded::Superseded => {
            debug!(label.id = %label.key.id, "the label was changed meanwhile; it is polled again");
        }
    }
    looking.pulse.beat(now);
    Ok(())
}

/// What the log says of a plan once it is recorded.
struct News {
    status: String,
    messages: usize,
}

impl News {
    fn of(plan: &PollPlan) -> Self {
        let status = plan.standing.status_code.clone().unwrap_or_default();
        Self { status, messages: plan.messages.len() }
    }
}

fn report(label: &Snapshot, reading: &Reading, news: &News) {
    let (id, account) = (&label.key.id, &label.key.account);
    match reading.detail() {
        None if news.messages == 0 => {
            debug!(label.id = %id, account = %account, "looked: nothing new");
        }
        None => {
            let News { status, messages } = news;
            info!(label.id = %id, account = %account, status, messages, "looked: news");
        }
        Some(detail) => {
            warn!(label.id = %id, account = %account, outcome = reading.as_str(), detail, "looked: no tracking");
        }
    }
}
