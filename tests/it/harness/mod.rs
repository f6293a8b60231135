//! The test harness: a real database, the real sandbox and receiver over loopback, and time as an argument.
//!
//! [`Harness`] checks the database's invariants, every signature and schema, and the ledger of every test when it is
//! dropped.

pub mod child;
mod database;
pub mod disk;
mod ending;
mod inspection;
pub mod parcel;
pub mod peer;
mod rows;
pub mod server;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use trackpost::config::{Config, Environment};
use trackpost::domain::account::Account;
use trackpost::domain::label::{AccountName, LabelKey, Registration, Source};
use trackpost::domain::messages::signature::SigningSecret;
use trackpost::domain::messages::subscriber::SubscriberName;
use trackpost::sandbox::ledger::Follows;
use trackpost::sandbox::{
    Answer, Clock, ReceivedCallback, Receiver, ReceiverHandle, ReceiverOptions, Sandbox, SandboxHandle,
    SandboxOptions,
};
use trackpost::shipstation::{self, Client};
use trackpost::store::Store;
use trackpost::store::views::labels::{LabelFilter, LabelView};
use trackpost::workers::account_access::{AccountAccess, RequestKind};
use trackpost::workers::courier::Courier;
use trackpost::workers::discoverer::Discoverer;
use trackpost::workers::learned_rates::SharedRates;
use trackpost::workers::poller::{PollPolicy, Poller};
use trackpost::workers::registrar::Registrar;

pub use database::{about, connect};

/// Number of attempts of all deliveries.
const ATTEMPTS: &str = "SELECT coalesce(sum(attempts), 0) FROM deliveries";

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const API_KEY: &str = "TEST_the_key_of_the_tests";

/// One subscriber, `orders`, that gets all messages in the standard format.
pub const ORDERS: &str = r#"
[subscribers.orders]
url = "HOOK/orders"
secret = "SECRET"
format = "standard"
events = ["*"]
"#;

pub struct Harness {
    pub sandbox: SandboxHandle,
    pub receiver: ReceiverHandle,
    pub account: Account,
    pub policy: PollPolicy,
    /// URL of the receiver, with a slash at the end.
    pub hook: String,
    /// A database restored from a copy sends the same messages with other timestamps.
    one_body_per_id: bool,
    clock: Arc<AtomicI64>,
    path: PathBuf,
    work: Option<Work>,
    servers: Vec<JoinHandle<()>>,
    _directory: TempDir,
}

/// The parts that a restart replaces.
struct Work {
    store: Store,
    /// `None` after it was lost.
    writer: Option<JoinHandle<()>>,
    access: Arc<AccountAccess>,
    learned_rates: SharedRates,
    /// `None` after it was taken.
    poller: Option<Poller>,
    /// `None` without discovery.
    discoverer: Option<Discoverer>,
    couriers: BTreeMap<SubscriberName, Courier>,
}

impl Harness {
    /// Starts with one account, `main`, and [`ORDERS`], at noon of a future day.
    pub async fn new() -> Self {
        Self::with(ORDERS).await
    }

    /// Starts with `configuration`: TOML in which HOOK, SECRET and API stand for the harness's values.
    pub async fn with(configuration: &str) -> Self {
        Self::at("2030-03-04T12:00:00Z".parse().unwrap(), configuration).await
    }

    /// Like [`Self::with`], at another time, not before today, because steps read the clock too.
    pub async fn at(now: Timestamp, configuration: &str) -> Self {
        let clock = Arc::new(AtomicI64::new(now.as_millisecond()));
        let server_clock = reading(&clock);
        let options = SandboxOptions {
            api_keys: vec![API_KEY.to_owned()],
            clock: server_clock.clone(),
            ..Default::default()
        };
        let sandbox = Sandbox::bind(loopback(), options).await.unwrap();
        let options = ReceiverOptions {
            secrets: vec![SigningSecret::parse(SECRET).unwrap()],
            clock: server_clock,
            ..Default::default()
        };
        let receiver = Receiver::bind(loopback(), options).await.unwrap();
        let (sandbox_handle, receiver_handle) = (sandbox.handle(), receiver.handle());
        let hook = receiver.url();
        let text = format!(
            "[accounts.main]\nbase_url = \"API\"\napi_key = \"{API_KEY}\"\ntimeout = \"2s\"\n{configuration}"
        )
        .replace("API/", &format!("{}/", sandbox.base_url()))
        .replace("\"API\"", &format!("\"{}\"", sandbox.base_url()))
        .replace("HOOK/", &hook)
        .replace("SECRET", SECRET);
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("trackpost.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, &Environment::default()).unwrap().config;
        let account = config.accounts[&AccountName::new("main")].clone();
        let policy = PollPolicy::of(&config);
        let servers = vec![
            tokio::spawn(async move { sandbox.serve(std::future::pending()).await.unwrap() }),
            tokio::spawn(async move { receiver.serve(std::future::pending()).await.unwrap() }),
        ];
        let path = directory.path().join("trackpost.db");
        let mut harness = Self {
            sandbox: sandbox_handle,
            receiver: receiver_handle,
            account,
            policy,
            hook,
            one_body_per_id: true,
            clock,
            path,
            work: None,
            servers,
            _directory: directory,
        };
        harness.open().await;
        harness
    }

    /// The clock of the test, for servers.
    fn server_clock(&self) -> Clock {
        reading(&self.clock)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.clock.load(Ordering::Relaxed)).unwrap()
    }

    /// Advances the time.
    pub fn pass(&self, time: SignedDuration) {
        self.clock.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub fn store(&self) -> &Store {
        &self.work.as_ref().expect("the harness is open").store
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn work(&mut self) -> &mut Work {
        self.work.as_mut().expect("the harness is open")
    }

    /// Registers these labels.
    pub async fn register(&self, labels: &[&str]) {
        let wanted: Vec<Registration> = labels
            .iter()
            .map(|id| Registration {
                key: LabelKey { account: self.account.name.clone(), id: id.parse().unwrap() },
                metadata: serde_json::from_str(r#"{"order":"A-1001"}"#).unwrap(),
                source: Source::Config,
            })
            .collect();
        self.store().add_by_hand(&wanted, self.now()).await.unwrap();
    }

    /// Sets `registration.labels` of the configuration to `labels`.
    pub async fn configure(&self, labels: &str) {
        self.registrar("LABELS", labels).step(self.now()).await.unwrap();
    }

    /// Returns a registrar for a configuration with this key of `registration`.
    pub fn registrar(&self, key: &str, value: &str) -> Registrar {
        let key = format!("TRACKPOST__REGISTRATION__{key}");
        let variables = [("TRACKPOST__ACCOUNTS__MAIN__API_KEY", API_KEY), (&key, value)];
        let loaded = Config::builtin(&variables.into_iter().collect()).unwrap();
        let mut registrar = Registrar::new(self.store().clone());
        registrar.configure(Arc::new(loaded.sources));
        registrar
    }

    /// Lets the API return this tracking answer for `label` from now on.
    pub fn says(&self, label: &str, body: &str) {
        self.answers(label, Answer::json(200, body.to_owned()));
    }

    /// Lets the API return this answer for `label` from now on.
    pub fn answers(&self, label: &str, answer: Answer) {
        self.sandbox.unscript(label);
        self.sandbox.script(label, answer);
    }

    /// Returns all labels, in order of registration.
    pub async fn labels(&self) -> Vec<LabelView> {
        let found = self.store().find_labels(LabelFilter::default(), u32::MAX).await.unwrap();
        self.store().label_views(&found).await.unwrap()
    }

    /// Runs one step of the poller.
    pub async fn poll_once(&mut self) {
        let now = self.now();
        self.poller().step(now).await.unwrap();
    }

    /// Polls until no label is due or the quota is used up. Returns the number of requests.
    pub async fn poll(&mut self) -> u64 {
        let first = self.sandbox.counters().requests;
        for _ in 0..1_000 {
            let before = self.sandbox.counters().requests;
            self.poll_once().await;
            if self.sandbox.counters().requests == before {
                return before - first;
            }
        }
        panic!("polling finds no rest");
    }

    /// Runs one step of the discoverer. Returns when to call it again.
    pub async fn discover_once(&mut self) -> Timestamp {
        let now = self.now();
        self.discoverer().step(now).await.unwrap()
    }

    /// Reads the list of labels until no walk is due, advancing the time. Returns the number of requests.
    pub async fn discover(&mut self) -> u64 {
        let first = self.sandbox.counters().requests;
        for _ in 0..1_000 {
            let before = self.sandbox.counters().requests;
            let wake = self.discover_once().await;
            if self.sandbox.counters().requests == before {
                return before - first;
            }
            self.pass(wake.duration_since(self.now()).max(SignedDuration::ZERO));
        }
        panic!("the walk finds no end");
    }

    /// Makes the label due, and polls.
    pub async fn poll_again(&mut self, label: &str) {
        let key = LabelKey { account: self.account.name.clone(), id: label.parse().unwrap() };
        assert!(self.store().poll_now(&key, self.now()).await.unwrap(), "{label} is registered");
        self.poll().await;
    }

    /// Runs one step of a subscriber's courier.
    pub async fn deliver_once(&mut self, subscriber: &str) {
        let now = self.now();
        let courier = self.work().couriers.get_mut(&SubscriberName::new(subscriber)).unwrap();
        courier.step(now).await.unwrap();
    }

    /// Delivers to all subscribers until no delivery is due.
    pub async fn deliver(&mut self) {
        let names: Vec<SubscriberName> = self.work().couriers.keys().cloned().collect();
        for name in names {
            for round in 0.. {
                assert!(round < 1_000, "deliveries never end");
                let before = self.count(ATTEMPTS).await;
                self.deliver_once(name.as_str()).await;
                if self.count(ATTEMPTS).await == before {
                    break;
                }
            }
        }
    }

    /// Checks that all served changes are recorded and that these subscribers received them.
    pub async fn check_received(&self, subscribers: &[(&str, Follows)]) {
        let (served, accepted) = (self.sandbox.served(), self.receiver.accepted());
        inspection::check_received(&self.path, &served, &accepted, subscribers).await;
    }

    pub async fn poll_and_deliver(&mut self) {
        self.poll().await;
        self.deliver().await;
    }

    /// Returns the callbacks to a subscriber, with any answer.
    pub fn callbacks(&self, subscriber: &str) -> Vec<ReceivedCallback> {
        let path = format!("/{subscriber}");
        self.receiver.callbacks().into_iter().filter(|delivery| delivery.path == path).collect()
    }

    /// Returns the message types of the callbacks to `orders`, in order.
    pub fn kinds(&self) -> Vec<String> {
        self.callbacks("orders").into_iter().map(|delivery| delivery.kind.unwrap()).collect()
    }

    /// Returns the poller, which a crash test steps or drops halfway.
    pub fn poller(&mut self) -> &mut Poller {
        self.work().poller.as_mut().expect("the poller was taken")
    }

    pub fn discoverer(&mut self) -> &mut Discoverer {
        self.work().discoverer.as_mut().expect("discovery is enabled")
    }

    pub fn courier(&mut self, subscriber: &str) -> &mut Courier {
        self.work().couriers.get_mut(&SubscriberName::new(subscriber)).unwrap()
    }

    /// Returns the account's access.
    pub fn access(&self) -> Arc<AccountAccess> {
        Arc::clone(&self.work.as_ref().expect("the harness is open").access)
    }

    /// Reserves requests, so that the next poll writes nothing before it is sent.
    pub async fn reserve(&self) {
        drop(self.access().acquire(RequestKind::Poll, self.now()).await.unwrap().unwrap());
    }

    /// Returns the access of another account in the same database.
    pub async fn of_account(&self, name: &str) -> Arc<AccountAccess> {
        let account = Account { name: AccountName::new(name), ..self.account.clone() };
        let client = Client::new(&shipstation::tls().unwrap(), &account).unwrap();
        Arc::new(AccountAccess::open(account, self.store().clone(), client, self.now()).await.unwrap())
    }

    /// Takes the poller, to run it outside of the harness.
    pub fn take_poller(&mut self) -> Poller {
        self.work().poller.take().expect("the poller was taken")
    }

    /// Puts a taken courier back.
    pub fn return_courier(&mut self, courier: Courier, subscriber: &str) {
        self.work().couriers.insert(SubscriberName::new(subscriber), courier);
    }

    /// Takes a courier, to step it outside of the harness.
    pub fn take_courier(&mut self, subscriber: &str) -> Courier {
        self.work().couriers.remove(&SubscriberName::new(subscriber)).unwrap()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.work = None;
        self.servers.iter().for_each(JoinHandle::abort);
        if !std::thread::panicking() {
            inspection::inspect(&self.path, &self.sandbox.served(), &self.receiver, self.one_body_per_id);
        }
    }
}

fn reading(clock: &Arc<AtomicI64>) -> Clock {
    let clock = Arc::clone(clock);
    Clock::from_fn(move || Timestamp::from_millisecond(clock.load(Ordering::Relaxed)).unwrap())
}

/// `seq` of a label's first message in a harness that polls at its first noon. Messages of the same instant have the
/// next numbers.
const FIRST_SEQ: u64 = 1_898_856_000_000;

/// Returns the `seq` of a label's `n`th message, counted from 1, if all polls were at noon.
pub fn nth(n: u64) -> u64 {
    FIRST_SEQ + n - 1
}

/// The inverse of [`nth`].
pub fn position(seq: u64) -> u64 {
    seq + 1 - FIRST_SEQ
}

pub const fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

pub const fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Returns a loopback address whose port is free now, and probably a moment later.
pub fn free_address() -> SocketAddr {
    TcpListener::bind(loopback()).unwrap().local_addr().unwrap()
}
