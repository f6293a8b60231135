//! Wires the trades together, spawns them, hears signals, drains.
//!
//! The only place that spawns and that knows signals. It decides nothing about parcels: start-up is the recovery path
//! and the same code as every day, because all that is owed lies in the database.

mod reload;
mod told;
mod trades;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::clock::{self, Stopwatch};
use crate::config::{Config, Environment, Fault, Faults, Loaded};
use crate::experience::Experience;
use crate::http::{self, Sources};
use crate::notices::Notices;
use crate::pulse::Pulses;
use crate::shipstation::{Client, NoClient};
use crate::store::lock::DaemonLock;
use crate::store::{self, Store, StoreError};
use crate::systemd;
use crate::webhook::NoTls;
pub use told::told_to_stop;
use trades::{Ended, Trades};

/// How long attempts in flight may take to end after SIGTERM (contract 9.2).
const DRAIN: Duration = Duration::from_secs(10);

/// How long the database may take to close.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("the configuration is not sound")]
    Config(#[from] Faults),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("http.listen = \"{listen}\": {source}")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error(transparent)]
    Client(#[from] NoClient),
    #[error(transparent)]
    Tls(#[from] NoTls),
    #[error("signals can't be heard: {0}")]
    Signals(io::Error),
    #[error("{trade} ended by itself")]
    TradeGone { trade: String },
}

impl DaemonError {
    /// A way out, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(_) => Some("trackpost check shows the same without starting anything".to_owned()),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "something else listens there: stop it, choose another port, or turn it off with \"\""
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Opens the database and runs its writer in the background, for as long as a handle is left.
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
    _lock: DaemonLock,
    pulses: Pulses,
    ready: Arc<AtomicBool>,
    notices: Notices,
    /// Wrong rows of the configuration that were told of.
    told: Vec<Fault>,
    trades: Trades,
    http: Option<SocketAddr>,
    signals: Signals,
}

impl Daemon {
    /// Takes the lock, opens the database, starts every trade. Nothing is sent before all of that is sound.
    ///
    /// `signals` come from before the configuration was read: one that comes meanwhile waits for [`Daemon::run`].
    pub async fn start(
        path: PathBuf,
        environment: Environment,
        loaded: Loaded,
        signals: Signals,
    ) -> Result<Self, DaemonError> {
        let lock = DaemonLock::acquire(&loaded.config.store.path)?;
        let listener = match loaded.config.http.listen {
            Some(listen) => {
                Some(http::bind(listen).await.map_err(|source| DaemonError::Listen { listen, source })?)
            }
            None => None,
        };
        let (store, writing) = open_with_writer(&loaded.config.store.path).await?;
        let pulses = Pulses::default();
        let ready = Arc::new(AtomicBool::new(false));
        let notices = Notices::default();
        let client = Client::new()?;
        let experience = Experience::recall(&store, clock::now()).await?;
        let mut trades = Trades::new(store.clone(), client, pulses.clone(), experience, &loaded.config);
        let http = match listener {
            Some(listener) => {
                let sources = Sources {
                    store: store.clone(),
                    pulses: pulses.clone(),
                    ready: Arc::clone(&ready),
                    notices: notices.clone(),
                    token: loaded.config.http.token.clone(),
                    jwks: trades.jwks(),
                };
                let bound = listener.local_addr().ok();
                trades.serve(listener, sources);
                bound
            }
            None => None,
        };
        reload::report(&loaded, &[]);
        trades.start_upkeep(&loaded.config.store, &notices);
        trades.register(loaded.sources);
        trades.employ(&loaded.config).await?;
        ready.store(true, Ordering::Relaxed);
        info!(
            version = env!("CARGO_PKG_VERSION"),
            database = %store.path().display(),
            accounts = loaded.config.accounts.len(),
            subscribers = loaded.config.subscribers.len(),
            "trackpost runs"
        );
        Ok(Self {
            path,
            environment,
            config: loaded.config,
            store,
            writing,
            _lock: lock,
            pulses,
            ready,
            notices,
            told: loaded.label_faults,
            trades,
            http,
            signals,
        })
    }

    /// Where health is answered, with the port that was really taken.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Goes on until a signal or `shutdown` ends it, then drains.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), DaemonError> {
        systemd::ready(&self.status());
        let beat = systemd::watchdog().map_or(Duration::MAX, |every| every / 2);
        let mut fed = Stopwatch::start();
        let outcome = loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break Ok(()),
                heard = self.signals.next() => match heard {
                    Heard::Stop => break Ok(()),
                    Heard::Reload => if let Err(error) = self.reload().await { break Err(error) },
                },
                ended = self.trades.ended() => break Err(fatal(ended)),
                // However often something else happens, the time since the last beat goes on.
                () = clock::sleep(beat.saturating_sub(fed.elapsed())) => {
                    self.feed_watchdog().await;
                    fed = Stopwatch::start();
                }
            }
        };
        self.stop().await;
        outcome
    }

    fn status(&self) -> String {
        format!("{} accounts, {} subscribers", self.config.accounts.len(), self.config.subscribers.len())
    }

    /// Only while all is well; otherwise the service manager starts us anew, and start-up is the recovery.
    async fn feed_watchdog(&self) {
        let still = self.pulses.silent(clock::now(), SignedDuration::from_secs(60));
        let answers = tokio::time::timeout(Duration::from_secs(5), self.store.ping()).await;
        match answers {
            Ok(Ok(())) if still.is_empty() => systemd::alive(),
            Ok(Ok(())) => error!(trades = ?still, "the watchdog is not fed: nothing moves"),
            Ok(Err(error)) => error!(%error, "the watchdog is not fed"),
            Err(_) => error!("the watchdog is not fed: the database did not answer within 5 s"),
        }
    }

    async fn stop(mut self) {
        systemd::stopping();
        self.ready.store(false, Ordering::Relaxed);
        info!("stopping: attempts in flight may end");
        tokio::select! {
            () = self.trades.drain() => {}
            () = clock::sleep(DRAIN) => warn!("stopped with attempts in flight: they are made again"),
            () = self.signals.stop() => warn!("stopped at once: attempts in flight are made again"),
        }
        self.store.close().await;
        // The writer ends when the last handle is gone, and leaves no WAL behind.
        drop((self.trades, self.store));
        if tokio::time::timeout(LAST_WRITES, self.writing).await.is_err() {
            warn!("stopped before the database was closed: the next start takes up its WAL");
        }
    }
}

fn fatal(ended: Ended) -> DaemonError {
    match ended.outcome {
        Err(error) => DaemonError::Store(error),
        Ok(()) => DaemonError::TradeGone { trade: ended.trade },
    }
}

/// The signals that a daemon hears, from now on.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, DaemonError> {
        let hear = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Stop,
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Heard::Stop {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    Stop,
    Reload,
}
