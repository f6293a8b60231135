//! A daemon's poller with a real database, and an API that returns any bytes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use trackpost::domain::account::Account;
use trackpost::domain::label::{LabelId, LabelKey, Registration, Source};
use trackpost::shipstation::{self, Client};
use trackpost::store::{self, Store};
use trackpost::workers::account_access::AccountAccess;
use trackpost::workers::heartbeat::Heartbeat;
use trackpost::workers::learned_rates::SharedRates;
use trackpost::workers::poller::{PollPolicy, Poller};

pub struct World {
    pub runtime: Runtime,
    pub store: Store,
    access: Arc<AccountAccess>,
    poller: Poller,
    /// The API's answer, head included.
    answer: Arc<Mutex<Vec<u8>>>,
    now: Timestamp,
    labels: u64,
    _directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (directory, answer) = (tempfile::tempdir().unwrap(), Arc::default());
        let base_url = serve(Arc::clone(&answer));
        let account = Account { base_url, ..super::account().clone() };
        let now = "2030-03-04T12:00:00Z".parse().unwrap();
        let (store, access, poller) = runtime.block_on(async {
            let (store, writer) = store::open(&directory.path().join("trackpost.db")).await.unwrap();
            tokio::spawn(writer.run());
            let client = Client::new(&shipstation::tls().unwrap(), &account).unwrap();
            let access = Arc::new(AccountAccess::open(account, store.clone(), client, now).await.unwrap());
            let policy = watch::channel(Arc::new(PollPolicy::of(super::config()))).1;
            let rates = SharedRates::load(&store, now).await.unwrap();
            let poller = Poller::new(Arc::clone(&access), policy, rates, Heartbeat::default());
            (store, access, poller)
        });
        Self { runtime, store, access, poller, answer, now, labels: 0, _directory: directory }
    }

    /// The number of labels that were registered.
    pub fn labels(&self) -> u64 {
        self.labels
    }

    /// Whether the account is ok, so that a new label is polled like the first one.
    pub fn is_ok(&self) -> bool {
        !self.access.probing() && self.access.open_at(self.now).is_none()
    }

    pub fn register(&mut self) -> LabelKey {
        self.labels += 1;
        let key = LabelKey { account: super::account().name.clone(), id: LabelId::numbered(self.labels) };
        let label = Registration { key: key.clone(), metadata: Default::default(), source: Source::Config };
        self.runtime.block_on(self.store.add_by_hand(&[label], self.now)).unwrap();
        key
    }

    pub fn remove(&mut self, label: &LabelKey) {
        self.runtime.block_on(self.store.remove_by_hand(label, self.now)).unwrap();
    }

    /// Polls a label once, a day after the last poll.
    pub fn poll(&mut self, label: &LabelKey, answer: &[u8]) {
        *self.answer.lock().unwrap() = answer.to_vec();
        self.now += SignedDuration::from_hours(25);
        self.runtime.block_on(async {
            self.store.poll_now(label, self.now).await.unwrap();
            self.poller.step(self.now).await.unwrap();
        });
    }

    /// Checks the database and the last polls of the newest label.
    pub fn check(&self) {
        self.runtime.block_on(async {
            let violations = self.store.violations().await.unwrap();
            assert!(violations.is_empty(), "{violations:?}");
            let row = self.store.label_rows(0).await.unwrap().pop().expect("a label is registered");
            let (_, detail) = self.store.label_detail(row).await.unwrap().expect("the label is kept");
            for poll in detail.recent_polls {
                let detail = poll.detail.unwrap_or_default();
                assert!(!detail.contains("cannot be recorded"), "{detail}");
            }
        });
    }
}

/// Starts a server that reads a request, sends the answer and closes the connection. Returns its base URL.
fn serve(answer: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        // It ends with the world that owns the other half.
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            // A client that has closed the connection wants no answer.
            let _ = stream.write_all(&answer.lock().unwrap());
            if Arc::strong_count(&answer) == 1 {
                return;
            }
        }
    });
    base_url
}
