//! The trade that looks: one poller per account.
//!
//! Three short steps per label, and no transaction is open across HTTP: take a due label, ask, record what the plan
//! says. Polls run side by side, up to the account's `max_in_flight` and within its quota; each is recorded by itself,
//! so a slow label holds up nothing but its own slot.
//!
//! If we die after asking and before recording, the call is lost and nothing else: the label is still due.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::clock;
use crate::config::Account;
use crate::domain::account::{ALL_LABELS, AccountChange, AccountState, Verdict};
use crate::domain::cadence::Cadence;
use crate::domain::message::{Message, MessageType, about_account};
use crate::domain::poll::{self, FirstPoll, PollPlan, Terms};
use crate::domain::quota::{Quota, WINDOW};
use crate::domain::reading::Reading;
use crate::domain::silence::Patience;
use crate::domain::snapshot::Snapshot;
use crate::domain::subscriber::Subscriber;
use crate::domain::system;
use crate::in_flight::InFlight;
use crate::pulse::Pulse;
use crate::shipstation::Client;
use crate::store::accounts::AccountRecord;
use crate::store::polls::{PollRecord, Recorded};
use crate::store::{Store, StoreError};

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

/// An account's use of its quota; it outlives a poller that is replaced by a reload.
pub type SharedQuota = Arc<Mutex<Quota>>;

/// The quota of an account as an earlier process left it: what it asked in the last window counts.
pub async fn quota_left(store: &Store, account: &Account, now: Timestamp) -> Result<SharedQuota, StoreError> {
    let since = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let used = store.polled_since(&account.name, since).await?;
    // What was under way when it ended is not remembered: it counts as if all of it had been sent.
    let under_way = if used > 0 { u64::from(account.max_in_flight) } else { 0 };
    let used = usize::try_from(used + under_way).unwrap_or(usize::MAX);
    Ok(Arc::new(Mutex::new(Quota::new(account.requests_per_minute).with_used(used, now))))
}

/// Looks at the labels of one account.
pub struct Poller {
    desk: Arc<Desk>,
    /// Labels under way.
    in_flight: InFlight<(), ()>,
    ahead: VecDeque<Snapshot>,
    read_ahead_at: Option<Timestamp>,
}

/// What polls under way share.
struct Desk {
    account: Account,
    policy: watch::Receiver<Arc<Policy>>,
    store: Store,
    client: Client,
    pulse: Pulse,
    quota: SharedQuota,
    state: Mutex<AccountState>,
    /// How many labels the account has polled, as far as it matters.
    labels: AtomicUsize,
}

impl Desk {
    fn quota(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, AccountState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Poller {
    /// Takes the account up where an earlier process left it.
    pub async fn new(
        account: Account,
        policy: watch::Receiver<Arc<Policy>>,
        store: Store,
        client: Client,
        pulse: Pulse,
        quota: SharedQuota,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let state = store.account_state(&account.name, now).await?;
        let desk = Desk {
            account,
            policy,
            store,
            client,
            pulse,
            quota,
            state: Mutex::new(state),
            labels: AtomicUsize::new(ALL_LABELS),
        };
        Ok(Self {
            desk: Arc::new(desk),
            in_flight: InFlight::default(),
            ahead: VecDeque::new(),
            read_ahead_at: None,
        })
    }

    /// Polls until `shutdown` says so, then lets what is under way end.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
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
        let soon = now.saturating_add(STALE).unwrap_or(Timestamp::MAX);
        let (open_at, probing) = {
            let state = self.desk.state();
            (state.open_at(now), state.probing())
        };
        if let Some(open_at) = open_at {
            self.desk.pulse.beat(now);
            return Ok(open_at.min(soon));
        }
        let slots = if probing { 1 } else { self.desk.account.max_in_flight as usize };
        while self.in_flight.len() < slots {
            let Some(label) = self.take(now, probing).await? else { break };
            let slot = match Slot::take(&self.desk, now) {
                Ok(slot) => slot,
                Err(free_at) => {
                    self.ahead.push_front(label);
                    self.desk.pulse.beat(now);
                    return Ok(free_at.map_or(soon, |at| at.min(soon)));
                }
            };
            self.in_flight.start(label.row, (), poll_label(slot, label, probing, now));
        }
        self.desk.pulse.beat(now);
        let next = self.desk.store.next_due(&self.desk.account.name, now).await?;
        Ok(next.map_or(soon, |next| next.min(soon)))
    }

    async fn take(&mut self, now: Timestamp, probing: bool) -> Result<Option<Snapshot>, StoreError> {
        let stale = self.read_ahead_at.is_none_or(|at| now.duration_since(at).abs() >= STALE);
        if stale {
            self.ahead.clear();
        }
        if self.ahead.is_empty() {
            let limit = AHEAD + u32::try_from(self.in_flight.len()).unwrap_or(u32::MAX);
            let due = self.desk.store.due_labels(&self.desk.account.name, now, limit).await?;
            self.ahead = due.into_iter().filter(|label| !self.in_flight.has(label.row)).collect();
            self.read_ahead_at = Some(now);
            let labels = self.desk.store.polled_labels(&self.desk.account.name, ALL_LABELS).await?;
            self.desk.labels.store(labels, Ordering::Relaxed);
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

/// A request's place in the quota, given back when its answer is here or nobody waits for it any more.
struct Slot {
    desk: Arc<Desk>,
    taken_at: Timestamp,
}

impl Slot {
    fn take(desk: &Arc<Desk>, now: Timestamp) -> Result<Self, Option<Timestamp>> {
        desk.quota().take(now)?;
        Ok(Self { desk: Arc::clone(desk), taken_at: now })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.desk.quota().release(clock::now().max(self.taken_at));
    }
}

/// Asks about one label and records what follows.
async fn poll_label(slot: Slot, label: Snapshot, probe: bool, now: Timestamp) -> Result<(), StoreError> {
    let desk = Arc::clone(&slot.desk);
    let reading = ask(&desk, &label, now).await;
    drop(slot);
    // The instant of the step that records, read once: time has passed while we asked.
    let at = clock::now().max(now);
    record(&desk, &label, reading, probe, at).await
}

async fn ask(desk: &Desk, label: &Snapshot, now: Timestamp) -> Reading {
    // An event that was missing last time is retracted by the same bytes: they must be read, not only compared.
    let last = label.standing.answer_digest.as_ref().filter(|_| label.standing.missing_events == 0);
    desk.client.read(&desk.account, &label.key.id, last, now).await
}

async fn record(
    desk: &Desk,
    label: &Snapshot,
    reading: Reading,
    probe: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let known = match &reading {
        Reading::Answer { digest, .. } if poll::needs_history(&label.standing, digest) => {
            desk.store.known_events(label.row).await?
        }
        _ => Vec::new(),
    };
    // One policy for the whole poll, whatever a reload does meanwhile.
    let policy = Arc::clone(&desk.policy.borrow());
    let account = observe(desk, &policy, label, &reading.verdict(), probe, now);
    let terms = Terms {
        cadence: &policy.cadence,
        patience: &policy.patience,
        first_poll: policy.first_poll,
        subscribers: &policy.subscribers,
        resource_url: &desk.account.tracking_url(&label.key.id),
        stretch: 1.0,
        outage: desk.state().probing(),
    };
    let plan = |reading: &Reading| poll::plan(&terms, label, &known, reading, now, clock::jitter());
    let found = plan(&reading);
    let news = News::of(&found);
    // If we die here, the label is still due and the API says the same again.
    let record = PollRecord::new(label, found, now, account.clone());
    let recorded = match desk.store.record_poll(record).await {
        Err(error) if error.is_refusal() => {
            // An answer that no law of the database lets in is that label's failure, and nobody else's.
            error!(label.id = %label.key.id, %error, "what the API said can't be recorded");
            let garbled = Reading::Garbled { status: 200, detail: format!("it can't be recorded: {error}") };
            desk.store.record_poll(PollRecord::new(label, plan(&garbled), now, account)).await?
        }
        recorded => recorded?,
    };
    match recorded {
        Recorded::Done => report(label, &reading, &news),
        Recorded::Superseded => {
            debug!(label.id = %label.key.id, "the label was changed meanwhile; it is polled again");
        }
    }
    desk.pulse.beat(now);
    Ok(())
}

/// What the poll says about the account; a record of it if that changed.
fn observe(
    desk: &Desk,
    policy: &Policy,
    label: &Snapshot,
    verdict: &Verdict,
    probe: bool,
    now: Timestamp,
) -> Option<AccountRecord> {
    let (change, state) = {
        let mut state = desk.state();
        let before = (state.standing, state.probe_at, state.throttled_until);
        let change = state.observe(label.row, verdict, desk.labels.load(Ordering::Relaxed), probe, now);
        if before == (state.standing, state.probe_at, state.throttled_until) {
            return None;
        }
        (change, state.clone())
    };
    let account = &desk.account.name;
    let detail = state.detail.as_deref().unwrap_or_default();
    match change {
        Some(AccountChange::Refused) => {
            warn!(account = %account, detail, "the account is refused: polling is suspended but for a probe")
        }
        Some(AccountChange::Accepted) => info!(account = %account, "the account is accepted again"),
        Some(AccountChange::WentDown) => {
            warn!(account = %account, detail, "all labels fail: one probe at a time until the API answers")
        }
        Some(AccountChange::CameBack) => info!(account = %account, "the API answers again"),
        None => {}
    }
    if let Verdict::Throttled { retry_after } = verdict {
        warn!(account = %account, wait_s = retry_after.as_secs(), "the API says 429: the account waits");
    }
    let messages = change.and_then(|change| told(change, desk, &state, now)).into_iter().collect::<Vec<_>>();
    let deliveries = system::fan_out(&messages, Some(account), &policy.subscribers);
    Some(AccountRecord {
        name: account.clone(),
        change,
        deliveries,
        messages,
        requests_per_minute: desk.account.requests_per_minute,
        state,
        now,
    })
}

fn told(change: AccountChange, desk: &Desk, state: &AccountState, now: Timestamp) -> Option<Message> {
    let kind = match change {
        AccountChange::Refused => MessageType::AccountUnauthorized,
        AccountChange::Accepted => MessageType::AccountRecovered,
        AccountChange::WentDown | AccountChange::CameBack => return None,
    };
    Some(about_account(kind, &desk.account.name, state.standing.as_str(), state.detail.as_deref(), now))
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
