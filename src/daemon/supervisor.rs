//! The supervisor: the running workers, each with the configuration it was started with.
//!
//! A reload stops only the workers whose part of the configuration changed, and does not wait for them. Requests in
//! flight of a stopped worker end within their timeout. The next worker of the same name starts after the stopped one
//! has ended, so a subscriber never has two couriers at once.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::DaemonError;
use crate::clock;
use crate::config::{Config, LabelSources, StoreConfig};
use crate::domain::account::Account;
use crate::domain::label::AccountName;
use crate::domain::messages::signature::jwks;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::time::{later, signed};
use crate::http::{self, HttpState};
use crate::notices::Notices;
use crate::shipstation::{Client, Tls};
use crate::store::views::degraded::Configured;
use crate::store::{Store, StoreError};
use crate::workers::account_access::AccountAccess;
use crate::workers::courier::Courier;
use crate::workers::discoverer::Discoverer;
use crate::workers::heartbeat::{Heartbeat, Heartbeats};
use crate::workers::janitor;
use crate::workers::learned_rates::SharedRates;
use crate::workers::poller::{PollPolicy, Poller};
use crate::workers::registrar::{self, CurrentSources};

/// A worker that ended.
#[derive(Debug)]
pub struct EndedWorker {
    pub worker: String,
    pub outcome: Result<(), StoreError>,
}

/// Heartbeat interval while waiting for the previous worker to end.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Grace period on top of the request timeout, in which a worker writes its results.
const GRACE: Duration = Duration::from_secs(60);

/// A running worker.
struct RunningWorker {
    name: String,
    stop: watch::Sender<bool>,
    task: Id,
    ended: EndSignal,
    /// The longest time a request of the worker may take.
    timeout: Duration,
    /// The previous worker of this name, if it was stopping at the start of this one.
    before: Option<StoppingWorker>,
}

/// Closes when a worker has ended.
type EndSignal = watch::Receiver<()>;

/// A stopping worker.
#[derive(Clone)]
struct StoppingWorker {
    ended: EndSignal,
    /// A worker that has not ended by then hangs.
    by: Timestamp,
}

pub struct Supervisor {
    store: Store,
    tls: Tls,
    heartbeats: Heartbeats,
    tasks: JoinSet<EndedWorker>,
    accounts: BTreeMap<AccountName, (Vec<RunningWorker>, Account)>,
    couriers: BTreeMap<SubscriberName, (RunningWorker, Subscriber)>,
    /// Accesses of the accounts, shared by their workers.
    accesses: BTreeMap<AccountName, Arc<AccountAccess>>,
    others: Vec<RunningWorker>,
    sources: watch::Sender<CurrentSources>,
    policy: watch::Sender<Arc<PollPolicy>>,
    subscribers: watch::Sender<Arc<Vec<Subscriber>>>,
    learned_rates: SharedRates,
    jwks: watch::Sender<Arc<str>>,
    configured: watch::Sender<Arc<Configured>>,
    /// Stopping workers by name. The next worker of a name waits for it.
    stopping: BTreeMap<String, StoppingWorker>,
    stopped: HashSet<Id>,
}

impl Supervisor {
    pub fn new(
        store: Store,
        tls: Tls,
        heartbeats: Heartbeats,
        learned_rates: SharedRates,
        config: &Config,
    ) -> Self {
        Self {
            store,
            tls,
            heartbeats,
            learned_rates,
            tasks: JoinSet::new(),
            accounts: BTreeMap::new(),
            couriers: BTreeMap::new(),
            accesses: BTreeMap::new(),
            others: Vec::new(),
            sources: watch::Sender::new(None),
            policy: watch::Sender::new(policy(config)),
            subscribers: watch::Sender::new(subscribers(config)),
            jwks: watch::Sender::new(published(config)),
            configured: watch::Sender::new(Arc::new(Configured::of(config))),
            stopping: BTreeMap::new(),
            stopped: HashSet::new(),
        }
    }

    /// Passes the label sources of the configuration to the registrar, which reads and applies them.
    pub fn register(&mut self, sources: LabelSources) {
        self.sources.send_replace(Some(Arc::new(sources)));
    }

    /// Returns a receiver of the published key set.
    pub fn jwks(&self) -> watch::Receiver<Arc<str>> {
        self.jwks.subscribe()
    }

    /// Returns a receiver of the accounts and subscribers of the configuration.
    pub fn configured(&self) -> watch::Receiver<Arc<Configured>> {
        self.configured.subscribe()
    }

    pub fn start_upkeep(&mut self, keep: &StoreConfig, notices: &Notices) {
        let (store, sources, notices) = (self.store.clone(), self.sources.subscribe(), notices.clone());
        let none = Heartbeat::default();
        let registrar = self.start_worker("the registrar", &none, Duration::ZERO, |stop| {
            registrar::run(store, sources, notices, stop)
        });
        let (store, keep, subscribers) = (self.store.clone(), keep.clone(), self.subscribers.subscribe());
        let learned_rates = self.learned_rates.clone();
        let janitor = self.start_worker("the janitor", &none, Duration::ZERO, |stop| {
            janitor::run(store, keep, subscribers, learned_rates, stop)
        });
        self.others.extend([registrar, janitor]);
    }

    pub fn serve(&mut self, listener: TcpListener, state: HttpState) {
        let running = self.start_worker(
            "the HTTP server",
            &Heartbeat::default(),
            Duration::ZERO,
            |mut stop| async move {
                let shutdown = async move {
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                http::serve(listener, state, shutdown).await;
                Ok(())
            },
        );
        self.others.push(running);
    }

    /// Starts and stops workers of accounts and subscribers as `config` requires.
    pub async fn apply(&mut self, config: &Config) -> Result<(), DaemonError> {
        self.policy.send_replace(policy(config));
        // Published before a new key is used.
        self.jwks.send_replace(published(config));
        self.configured.send_replace(Arc::new(Configured::of(config)));
        self.stop_changed(config);
        self.subscribers.send_replace(subscribers(config));
        for (name, account) in &config.accounts {
            if self.accounts.contains_key(name) {
                continue;
            }
            let access = self.access(account).await?;
            let worker = format!("the poller of {name}");
            let heartbeat = self.heartbeats.start(&worker, clock::now());
            let (policy, learned_rates) = (self.policy.subscribe(), self.learned_rates.clone());
            let poller = Poller::new(Arc::clone(&access), policy, learned_rates, heartbeat.clone());
            let mut workers =
                vec![self.start_worker(&worker, &heartbeat, account.timeout, |stop| poller.run(stop))];
            if account.discover.enabled {
                let worker = format!("the discoverer of {name}");
                let heartbeat = self.heartbeats.start(&worker, clock::now());
                let (subscribers, beat) = (self.subscribers.subscribe(), heartbeat.clone());
                workers.push(self.start_worker(&worker, &heartbeat, account.timeout, |stop| async move {
                    // After the previous discoverer has ended, because it writes the position at which this one begins.
                    match Discoverer::new(access, subscribers, beat).await? {
                        Some(discoverer) => discoverer.run(stop).await,
                        None => Ok(()),
                    }
                }));
            }
            self.accounts.insert(name.clone(), (workers, account.clone()));
        }
        for (name, subscriber) in config.subscribers.iter().filter(|(_, subscriber)| subscriber.enabled) {
            if self.couriers.contains_key(name) {
                continue;
            }
            let worker = format!("the courier of {name}");
            let heartbeat = self.heartbeats.start(&worker, clock::now());
            let subscribers = self.subscribers.subscribe();
            let courier =
                Courier::new(subscriber.clone(), subscribers, self.store.clone(), heartbeat.clone())?;
            let running =
                self.start_worker(&worker, &heartbeat, subscriber.timeout, |stop| courier.run(stop));
            self.couriers.insert(name.clone(), (running, subscriber.clone()));
        }
        Ok(())
    }

    /// Stops workers without a configuration or with a changed one.
    fn stop_changed(&mut self, config: &Config) {
        let accounts = self
            .accounts
            .extract_if(.., |name, (_, account)| config.accounts.get(name) != Some(account))
            .flat_map(|(_, (workers, _))| workers);
        let couriers = self
            .couriers
            .extract_if(.., |name, (_, subscriber)| config.subscribers.get(name) != Some(subscriber))
            .map(|(_, (courier, _))| courier);
        let now = clock::now();
        for running in accounts.chain(couriers) {
            // A worker that still waits for the previous one ends with it.
            let before = running.before.filter(|before| before.ended.has_changed().is_ok());
            let by = before.map_or_else(
                || later(now, signed(running.timeout.saturating_add(GRACE))),
                |before| before.by,
            );
            running.stop.send_replace(true);
            self.heartbeats.stop(&running.name);
            self.stopped.insert(running.task);
            self.stopping.insert(running.name, StoppingWorker { ended: running.ended, by });
        }
    }

    /// Returns the access of an account. Over a reload it keeps its rate limiter.
    async fn access(&mut self, account: &Account) -> Result<Arc<AccountAccess>, DaemonError> {
        let (now, client) = (clock::now(), Client::new(&self.tls, account)?);
        let access = match self.accesses.get(&account.name) {
            Some(access) => access.reopened(account.clone(), client, now),
            None => AccountAccess::open(account.clone(), self.store.clone(), client, now).await?,
        };
        let access = Arc::new(access);
        self.accesses.insert(account.name.clone(), Arc::clone(&access));
        Ok(access)
    }

    /// Starts a worker whose requests take at most `timeout`. If a previous worker of the same name is stopping, the
    /// new one waits for it.
    fn start_worker<F>(
        &mut self,
        name: &str,
        heartbeat: &Heartbeat,
        timeout: Duration,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> RunningWorker
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = watch::channel(());
        let before = self.stopping.remove(name);
        let previous = before.clone();
        let (work, heartbeat, worker) = (work(stopped.clone()), heartbeat.clone(), name.to_owned());
        let task = self.tasks.spawn(async move {
            if let Some(before) = previous {
                wait_for(before, &heartbeat).await;
            }
            let outcome = if *stopped.borrow() { Ok(()) } else { work.await };
            drop(alive);
            EndedWorker { worker, outcome }
        });
        RunningWorker { name: name.to_owned(), stop, task: task.id(), ended, timeout, before }
    }

    /// Waits for a worker that ended without being stopped, which is a fault.
    pub async fn ended(&mut self) -> EndedWorker {
        loop {
            match self.tasks.join_next_with_id().await {
                // A stopping worker may still report that the store is lost.
                Some(Ok((id, ended))) if self.stopped.remove(&id) && ended.outcome.is_ok() => {}
                Some(Ok((_, ended))) => return ended,
                Some(Err(error)) => return panicked(&error),
                None => return std::future::pending().await,
            }
        }
    }

    /// Stops all workers and waits for them.
    pub async fn drain(&mut self) {
        let accounts = self.accounts.values().flat_map(|(workers, _)| workers);
        let couriers = self.couriers.values().map(|(running, _)| running);
        for running in accounts.chain(couriers).chain(&self.others) {
            running.stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
        for access in self.accesses.values() {
            // If the write fails, the reserved requests count as sent at the next start.
            let _ = access.close(clock::now()).await;
        }
    }
}

fn published(config: &Config) -> Arc<str> {
    jwks::publish(&config.rsa_keys).into()
}

fn policy(config: &Config) -> Arc<PollPolicy> {
    Arc::new(PollPolicy::of(config))
}

fn subscribers(config: &Config) -> Arc<Vec<Subscriber>> {
    Arc::new(config.subscribers.values().cloned().collect())
}

/// Waits for the previous worker. If it hangs, the heartbeat stops too, so the watchdog notices.
async fn wait_for(mut before: StoppingWorker, heartbeat: &Heartbeat) {
    loop {
        let now = clock::now();
        if now < before.by {
            heartbeat.beat(now);
        }
        tokio::select! {
            // The channel only closes; it carries no messages.
            _ = before.ended.changed() => return,
            () = clock::sleep(HEARTBEAT_INTERVAL) => {}
        }
    }
}

fn panicked(error: &JoinError) -> EndedWorker {
    EndedWorker { worker: format!("a worker ({error})"), outcome: Ok(()) }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::domain::time::earlier;

    #[tokio::test]
    async fn waiting_for_a_hanging_worker_stops_the_heartbeat() {
        let (heartbeats, now) = (Heartbeats::default(), clock::now());
        let long_ago = earlier(now, SignedDuration::from_mins(10));
        for (by, silent) in [(later(now, signed(GRACE)), 0), (now, 1)] {
            let heartbeat = heartbeats.start("a courier", long_ago);
            let (alive, ended) = watch::channel(());
            drop(alive);
            wait_for(StoppingWorker { ended, by }, &heartbeat).await;
            assert_eq!(heartbeats.silent(clock::now(), signed(GRACE)).len(), silent);
        }
    }
}
