//! The trade that looks: one poller per account.
//!
//! Three short steps per label, and no transaction is open across HTTP: take a due label, ask, record what the plan
//! says. Polls run side by side, up to the account's `max_in_flight` and within its quota; each is recorded by itself,
//! so a slow label holds up nothing but its own slot.
//!
//! If we die after asking and before recording, the call is lost and nothing else: the label is still due.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::Account;
use crate::domain::account::{AccountChange, AccountState, Verdict};
use crate::domain::cadence::Cadence;
use crate::domain::message::{Message, MessageType, about_account};
use crate::domain::poll::{self, FirstPoll, PlannedDelivery, PollPlan, Terms};
use crate::domain::quota::{Quota, WINDOW};
use crate::domain::reading::Reading;
use crate::domain::snapshot::Snapshot;
use crate::domain::subscriber::{Format, Subscriber};
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
    pub first_poll: FirstPoll,
    pub subscribers: Vec<Subscriber>,
}

/// An account's use of its quota; it outlives a poller that is replaced by a reload.
pub type SharedQuota = Arc<Mutex<Quota>>;

/// The quota of an account as an earlier process left it: what it asked in the last window counts.
pub async fn quota_left(store: &Store, account: &Account, now: Timestamp) -> Result<SharedQuota, StoreError> {
    let since = now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let used = store.polled_since(&account.name, since).await?;
    let used = usize::try_from(used).unwrap_or(usize::MAX);
    Ok(Arc::new(Mutex::new(Quota::new(account.requests_per_minute).with_used(used, now))))
}

/// A label's row, and whether its poll could be recorded.
type Ended = (i64, Result<(), StoreError>);

/// Looks at the labels of one account.
pub struct Poller {
    desk: Arc<Desk>,
    /// Labels under way, by row.
    busy: HashSet<i64>,
    in_flight: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Polls that ended while we looked for more.
    ended: Vec<Ended>,
    ahead: VecDeque<Snapshot>,
    read_ahead_at: Option<Timestamp>,
}

/// What polls under way share.
struct Desk {
    account: Account,
    policy: Policy,
    store: Store,
    client: Client,
    pulse: Pulse,
    quota: SharedQuota,
    state: Mutex<AccountState>,
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
        policy: Policy,
        store: Store,
        client: Client,
        pulse: Pulse,
        quota: SharedQuota,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let state = store.account_state(&account.name, now).await?;
        let desk = Desk { account, policy, store, client, pulse, quota, state: Mutex::new(state) };
        Ok(Self {
            desk: Arc::new(desk),
            busy: HashSet::new(),
            in_flight: FuturesUnordered::new(),
            ended: Vec::new(),
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
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => self.finish(done)?,
                () = clock::sleep_until(wake) => {}
            }
        }
        self.drain().await
    }

    /// One bounded piece of work: takes up what is due at `now` and may be asked about, and sees it through. Returns
    /// when there is more to do.
    pub async fn step(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        self.read_ahead_at = None;
        let wake = self.fill(now).await?;
        self.drain().await?;
        Ok(wake)
    }

    async fn drain(&mut self) -> Result<(), StoreError> {
        while let Some(done) = self.in_flight.next().await {
            self.finish(done)?;
        }
        Ok(())
    }

    fn finish(&mut self, (row, done): Ended) -> Result<(), StoreError> {
        self.busy.remove(&row);
        done
    }

    /// Starts as many polls as are due and allowed; says when to look again.
    async fn fill(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let wake = self.start_due(now).await?;
        while let Some(done) = self.ended.pop() {
            self.finish(done)?;
        }
        Ok(wake)
    }

    async fn start_due(&mut self, now: Timestamp) -> Result<Timestamp, StoreError> {
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
            let Some(label) = self.take(now).await? else { break };
            let taken = self.desk.quota().take(now);
            if let Err(free_at) = taken {
                self.ahead.push_front(label);
                self.desk.pulse.beat(now);
                return Ok(free_at.map_or(soon, |at| at.min(soon)));
            }
            self.busy.insert(label.row);
            self.in_flight.push(Box::pin(poll_label(Arc::clone(&self.desk), label, probing, now)));
        }
        self.desk.pulse.beat(now);
        Ok(soon)
    }

    async fn take(&mut self, now: Timestamp) -> Result<Option<Snapshot>, StoreError> {
        let stale = self.read_ahead_at.is_none_or(|at| now.duration_since(at).abs() >= STALE);
        if stale {
            self.ahead.clear();
        }
        if self.ahead.is_empty() && (stale || self.busy.is_empty() || self.read_full()) {
            let limit = AHEAD + u32::try_from(self.busy.len()).unwrap_or(u32::MAX);
            let desk = Arc::clone(&self.desk);
            let due = self.meanwhile(desk.store.due_labels(&desk.account.name, now, limit)).await?;
            self.ahead = due.into_iter().filter(|label| !self.busy.contains(&label.row)).collect();
            self.read_ahead_at = Some(now);
        }
        // One that ended meanwhile may have been read ahead as it was before.
        while let Some(label) = self.ahead.pop_front() {
            if !self.busy.contains(&label.row) {
                return Ok(Some(label));
            }
        }
        Ok(None)
    }

    /// Awaits `work` while the polls under way go on: one of them may hold the very connection that `work` waits for,
    /// and nobody else moves it. They stay busy until [`Self::fill`] has finished them.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(ended) = self.in_flight.next(), if !self.in_flight.is_empty() => self.ended.push(ended),
            }
        }
    }

    /// Whether the last reading ahead may have left due labels behind.
    fn read_full(&self) -> bool {
        self.busy.len() < self.desk.account.max_in_flight as usize
    }
}

/// Asks about one label and records what follows.
async fn poll_label(
    desk: Arc<Desk>,
    label: Snapshot,
    probe: bool,
    now: Timestamp,
) -> (i64, Result<(), StoreError>) {
    let row = label.row;
    let reading = ask(&desk, &label, now).await;
    // The instant of the step that records, read once: time has passed while we asked.
    let at = clock::now().max(now);
    desk.quota().release(at);
    (row, record(&desk, &label, reading, probe, at).await)
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
    let account = observe(desk, label, &reading.verdict(), probe, now);
    let terms = Terms {
        cadence: &desk.policy.cadence,
        first_poll: desk.policy.first_poll,
        subscribers: &desk.policy.subscribers,
        resource_url: &desk.account.tracking_url(&label.key.id),
        stretch: 1.0,
        outage: desk.state().probing(),
    };
    let plan = poll::plan(&terms, label, &known, &reading, now, clock::jitter());
    report(label, &reading, &plan);
    let record = PollRecord::new(label, plan, now, account);
    // If we die here, the label is still due and the API says the same again.
    if desk.store.record_poll(record).await? == Recorded::Superseded {
        debug!(label.id = %label.key.id, "the label was changed meanwhile; it is polled again");
    }
    desk.pulse.beat(now);
    Ok(())
}

/// What the poll says about the account; a record of it if that changed.
fn observe(
    desk: &Desk,
    label: &Snapshot,
    verdict: &Verdict,
    probe: bool,
    now: Timestamp,
) -> Option<AccountRecord> {
    let (change, state) = {
        let mut state = desk.state();
        let before = (state.standing, state.probe_at, state.throttled_until);
        let change = state.observe(label.row, verdict, probe, now);
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
    let deliveries = messages.iter().enumerate().flat_map(|(index, message)| {
        desk.policy
            .subscribers
            .iter()
            .filter(|subscriber| subscriber.format == Format::Standard)
            .filter(|subscriber| subscriber.wants(message.kind, Some(account)))
            .map(move |subscriber| PlannedDelivery {
                message: index,
                subscriber: subscriber.name.clone(),
                format: Format::Standard,
            })
    });
    Some(AccountRecord {
        name: account.clone(),
        change,
        deliveries: deliveries.collect(),
        messages,
        spread_ms: catch_up(&desk.account),
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

/// How long the catch-up after an outage is spread over.
fn catch_up(account: &Account) -> i64 {
    let spread = Duration::from_secs(300) + account.timeout;
    i64::try_from(spread.as_millis()).unwrap_or(i64::MAX)
}

fn report(label: &Snapshot, reading: &Reading, plan: &PollPlan) {
    let (id, account) = (&label.key.id, &label.key.account);
    match reading.detail() {
        None if plan.messages.is_empty() => {
            debug!(label.id = %id, account = %account, "looked: nothing new");
        }
        None => {
            let status = plan.standing.status_code.as_deref().unwrap_or_default();
            info!(label.id = %id, account = %account, status, messages = plan.messages.len(), "looked: news");
        }
        Some(detail) => {
            warn!(label.id = %id, account = %account, outcome = reading.as_str(), detail, "looked: no tracking");
        }
    }
}
