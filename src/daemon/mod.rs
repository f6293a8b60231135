//! The daemon: starts the workers, handles signals, stops.
//!
//! Only this module starts workers and handles signals. Start-up is the recovery path: everything that is not delivered
//! is in the database.

mod reload;
mod signals;
mod supervisor;
pub mod systemd;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::clock::{self, Stopwatch};
use crate::config::{Config, Environment, Fault, Faults, Loaded};
use crate::domain::time::millis;
use crate::domain::words::counted;
use crate::http::{self, HttpState};
use crate::notices::Notices;
use crate::shipstation::{self, NoClient};
use crate::store::lock::DaemonLock;
use crate::store::wal::LostCommits;
use crate::store::{self, Store, StoreError};
use crate::transport::{MIN_DESCRIPTORS, descriptor_limit};
use crate::workers::heartbeat::Heartbeats;
use crate::workers::learned_rates::SharedRates;
use signals::SignalRequest;
pub use signals::{Signals, stop_signal};
use supervisor::{EndedWorker, Supervisor};

/// The longest wait for attempts in flight after SIGTERM (contract 9.2).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait for the database to close.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// The interval at which the database's path is compared with the open file (contract 9.4).
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(4);

/// A command that checks whether a daemon runs holds the lock for a moment, so a locked file is tried again: how often,
/// and how long apart.
const LOCK_TRIES: u32 = 5;
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Reason why the daemon did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Config(#[from] Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("http.listen = \"{listen}\": {error}")]
    Listen { listen: SocketAddr, error: io::Error },
    #[error(transparent)]
    Client(#[from] NoClient),
    #[error("this process may have {0} files open at once; the daemon needs at least {MIN_DESCRIPTORS}")]
    TooFewDescriptors(usize),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    #[error("{worker} ended unexpectedly")]
    WorkerEnded { worker: String },
}

impl DaemonError {
    /// Returns a hint, if there is one.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Config(faults) => faults.hint(),
            Self::Store(error) => error.hint(),
            Self::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse => Some(
                "another process listens there: stop it, choose another port, or turn the server off with \"\"",
            ),
            Self::TooFewDescriptors(_) => {
                Some("raise the limit of open files: LimitNOFILE= in the unit, ulimit -n in a shell")
            }
            Self::Listen { .. } => Some(
                "set http.listen to an address of this machine and a port above 1023, or \"\" to turn the server off",
            ),
            Self::WorkerEnded { .. } => {
                Some("start trackpost again; earlier lines of the log may have the cause")
            }
            Self::Client(_) | Self::Signals(_) => None,
        }
    }
}

/// Reads the configuration; `None` if a signal to stop comes first. A SIGHUP waits for [`Daemon::run`].
pub async fn read_config(
    path: &Path,
    environment: &Environment,
    signals: &mut Signals,
) -> Result<Option<Loaded>, DaemonError> {
    tokio::select! {
        biased;
        () = signals.stop() => Ok(None),
        loaded = load(path, environment) => Ok(Some(loaded?)),
    }
}

/// Reads the configuration on a thread that may block, because secret files may lie on a slow file system.
async fn load(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    let (path, environment) = (path.to_owned(), environment.clone());
    let loading = tokio::task::spawn_blocking(move || Config::load(&path, &environment));
    loading.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Opens the database and runs its writer in the background, as long as a handle exists.
pub async fn open_store(path: &Path) -> Result<Store, StoreError> {
    Ok(open_with_writer(path).await?.0)
}

async fn open_with_writer(path: &Path) -> Result<(Store, JoinHandle<()>), StoreError> {
    let (store, writer) = store::open(path).await?;
    #[allow(clippy::disallowed_methods, reason = "this is where spawning is done")]
    let writing = tokio::spawn(writer.run());
    Ok((store, writing))
}

/// A daemon that has started.
pub struct Daemon {
    path: PathBuf,
    environment: Environment,
    config: Config,
    store: Store,
    writing: JoinHandle<()>,
    lock: DaemonLock,
    heartbeats: Heartbeats,
    ready: Arc<AtomicBool>,
    notices: Notices,
    /// Wrong rows of the configuration that are logged already.
    logged_faults: Vec<Fault>,
    workers: Supervisor,
    http: Option<SocketAddr>,
    signals: Signals,
}

impl Daemon {
    /// Takes the lock, opens the database and starts every worker. Nothing is sent before the lock is held and the
    /// database is open. A signal during the start waits in `signals` for [`Daemon::run`].
    pub async fn start(
        path: PathBuf,
        environment: Environment,
        loaded: Loaded,
        signals: Signals,
    ) -> Result<Self, DaemonError> {
        if let Some(limit) = descriptor_limit().filter(|limit| *limit < MIN_DESCRIPTORS) {
            return Err(DaemonError::TooFewDescriptors(limit));
        }
        let lock = take_lock(&loaded.config.store.path).await?;
        let listener = match loaded.config.http.listen {
            Some(listen) => {
                let bound = TcpListener::bind(listen).await;
                Some(bound.map_err(|error| DaemonError::Listen { listen, error })?)
            }
            None => None,
        };
        let damage = store::wal::lost_commits(&loaded.config.store.path);
        let (store, writing) = open_with_writer(&loaded.config.store.path).await?;
        warn_about_database(&store);
        if let Ok(Some(LostCommits { frame, commits })) = damage {
            error!(database = %store.path().display(), frame, commits,
                "the database's -wal file is damaged: {commits} commits from frame {frame} on are lost. Lost polls and \
                 deliveries are repeated under the same ids. Check the disk; registrations and pauses by hand since then \
                 must be repeated");
            store::wal::empty_log(store.path()).await?;
        }
        let jump = store.last_run().await?.map(clock::continue_last_run).unwrap_or_default();
        store.begin_run(clock::record(), jump).await?;
        let heartbeats = Heartbeats::default();
        let ready = Arc::new(AtomicBool::new(false));
        let notices = Notices::default();
        let tls = shipstation::tls()?;
        let learned_rates = SharedRates::load(&store, clock::now()).await?;
        let mut workers =
            Supervisor::new(store.clone(), tls, heartbeats.clone(), learned_rates, &loaded.config);
        let http = match listener {
            Some(listener) => {
                let bound = listener.local_addr().ok();
                let state = HttpState {
                    store: store.clone(),
                    heartbeats: heartbeats.clone(),
                    ready: Arc::clone(&ready),
                    notices: notices.clone(),
                    token: loaded.config.http.token.clone(),
                    listen: bound.or(loaded.config.http.listen).expect("it listens"),
                    hosts: loaded.config.http.hosts.clone(),
                    configured: workers.configured(),
                    jwks: workers.jwks(),
                };
                workers.serve(listener, state);
                bound
            }
            None => None,
        };
        reload::report(&loaded, &[], &notices);
        workers.start_upkeep(&loaded.config.store, &notices);
        workers.register(loaded.sources);
        workers.apply(&loaded.config).await?;
        ready.store(true, Ordering::Relaxed);
        info!(
            version = env!("CARGO_PKG_VERSION"),
            database = %store.path().display(),
            accounts = loaded.config.accounts.len(),
            subscribers = loaded.config.subscribers.len(),
            "started: accounts {}, subscribers {}, database {}",
            loaded.config.accounts.len(),
            loaded.config.subscribers.len(),
            store.path().display()
        );
        Ok(Self {
            path,
            environment,
            config: loaded.config,
            store,
            writing,
            lock,
            heartbeats,
            ready,
            notices,
            logged_faults: loaded.label_faults.kept,
            workers,
            http,
            signals,
        })
    }

    /// The address of the HTTP server, with the actual port.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Runs until a signal or `shutdown`, then stops.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), DaemonError> {
        systemd::ready(&self.status());
        let watchdog = systemd::watchdog().map(|every| every / 2);
        let interval = watchdog.map_or(FILE_CHECK_INTERVAL, |every| every.min(FILE_CHECK_INTERVAL));
        let mut fed = Stopwatch::start();
        let outcome = loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break Ok(()),
                request = self.signals.next() => match request {
                    SignalRequest::Stop => break Ok(()),
                    SignalRequest::Reload => match self.reload_for_signal().await {
                        Ok(true) => {}
                        Ok(false) => break Ok(()),
                        Err(error) => break Err(error),
                    },
                },
                ended = self.workers.ended() => break Err(self.fatal(ended)),
                // Its own timer, so that frequent other events do not delay it.
                () = clock::tick(interval) => {
                    if let Err(error) = self.store.check_files() { break Err(error.into()) }
                    let degraded = self.notices.degraded(clock::now());
                    if let Err(error) = self.lock.renew().and_then(|()| self.lock.record_degraded(degraded)) {
                        warn!(%error, "the lock file beside the database cannot be written");
                    }
                    // Feeds a little early at this tick rather than late at the next.
                    if watchdog.is_some_and(|every| fed.elapsed() + interval / 2 >= every) {
                        self.feed_watchdog().await;
                        fed = Stopwatch::start();
                    }
                }
            }
        };
        if let Err(error) = &outcome {
            error!(hint = error.hint(), "trackpost cannot continue: {error}");
        }
        self.stop().await;
        outcome
    }

    /// Reloads, and writes the result into the lock file, for the command that sent the signal. Returns whether the
    /// daemon keeps running.
    async fn reload_for_signal(&mut self) -> Result<bool, DaemonError> {
        let noted = self.lock.reload_begins();
        let Some(outcome) = self.reload().await? else { return Ok(false) };
        let degraded = self.notices.degraded(clock::now());
        let noted = noted.and_then(|()| self.lock.record_degraded(degraded));
        if let Err(error) = noted.and_then(|()| self.lock.reload_ended(outcome)) {
            warn!(%error, "the result of the reload could not be written for trackpost reload");
        }
        Ok(true)
    }

    /// Returns why the daemon must stop after a worker has ended.
    fn fatal(&self, ended: EndedWorker) -> DaemonError {
        // A lost or failed database is the cause.
        let why =
            self.store.check_files().err().or_else(|| self.store.first_failure()).or(ended.outcome.err());
        match why {
            Some(error) => error.of(self.store.path()).into(),
            None => DaemonError::WorkerEnded { worker: ended.worker },
        }
    }

    fn status(&self) -> String {
        let (accounts, subscribers) = (self.config.accounts.len(), self.config.subscribers.len());
        format!("{}, {}", counted(accounts as u64, "account"), counted(subscribers as u64, "subscriber"))
    }

    /// Feeds the watchdog while all workers make progress. Otherwise the service manager restarts the process, and the
    /// start-up recovers.
    async fn feed_watchdog(&self) {
        let faults = http::faults(&self.store, &self.heartbeats).await;
        if faults.is_empty() {
            systemd::alive();
        } else {
            error!(?faults, "the watchdog is not fed: {}", faults.join("; "));
        }
    }

    async fn stop(mut self) {
        systemd::stopping();
        let watch = Stopwatch::start();
        self.ready.store(false, Ordering::Relaxed);
        info!("stopping: waiting for attempts in flight");
        tokio::select! {
            () = self.workers.drain() => {}
            () = clock::sleep(DRAIN_TIMEOUT) => warn!("stopped with attempts in flight; the next start repeats them"),
            () = self.signals.stop() => warn!("stopped at once; the next start repeats attempts in flight"),
        }
        drop(self.workers);
        // The writer stops even if handles remain, and leaves no WAL behind.
        let closed = async {
            self.store.close().await;
            self.writing.await
        };
        if tokio::time::timeout(LAST_WRITES, closed).await.is_err() {
            warn!("stopped before the database was closed; the next start recovers its write-ahead log");
        }
        info!(duration_ms = millis(watch.elapsed()), "stopped");
    }
}

async fn take_lock(path: &Path) -> Result<DaemonLock, StoreError> {
    for _ in 1..LOCK_TRIES {
        match DaemonLock::acquire(path) {
            Err(StoreError::InUse { .. }) => clock::sleep(LOCK_WAIT).await,
            done => return done,
        }
    }
    DaemonLock::acquire(path)
}

/// Logs a new database as a warning: an unmounted volume or an emptied file looks like one.
fn warn_about_database(store: &Store) {
    let database = store.path().display();
    if store.is_new() {
        warn!(%database, "a new, empty database was created: {database}; if there should be one, stop trackpost and check \
             that its disk is mounted and store.path is right");
    }
    if let Some(mode) = store.wide_mode() {
        warn!(%database, mode = format!("{mode:o}"), "other users can read the database; to change this: chmod 600 {database}");
    }
}
