//! Who is at work: the workers, each with the configuration it was started with.
//!
//! A reload tells only those to stop whose part changed, and waits for none of them: what an old one has under way ends
//! within its own time limit, and its successor begins when it has ended. So there are never two couriers of one
//! subscriber at a time, and no callback is under way twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::DaemonError;
use crate::clock;
use crate::config::{Account, Config, LabelSources, StoreConfig};
use crate::domain::label::AccountName;
use crate::domain::messages::signature::jwks;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::time::{later, signed};
use crate::http::{self, Sources};
use crate::notices::Notices;
use crate::shipstation::Client;
use crate::store::views::attention::Configured;
use crate::store::{Store, StoreError};
use crate::workers::account_access::AccountAccess;
use crate::workers::courier::{Audience, Courier};
use crate::workers::discoverer::Discoverer;
use crate::workers::heartbeat::{Heartbeat, Heartbeats};
use crate::workers::janitor;
use crate::workers::learned_rates::SharedRates;
use crate::workers::poller::{Policy, Poller};
use crate::workers::registrar;
use crate::workers::registrar::Wanted;

/// A worker that ended.
#[derive(Debug)]
pub struct Ended {
    pub worker: String,
    pub outcome: Result<(), StoreError>,
}

/// Who waits for a predecessor gives a sign of life every so often.
const SIGN: Duration = Duration::from_secs(5);
/// How much longer than its calls may take a worker may take to end: it still writes what came of them.
const SLACK: Duration = Duration::from_secs(60);

/// A worker at work.
struct Post {
    name: String,
    stop: watch::Sender<bool>,
    task: Id,
    gone: Gone,
    /// How long its calls may take.
    alerts: Duration,
    /// Whom it waits for, and by when that must have ended.
    before: Option<(Gone, Timestamp)>,
}

/// Closes when a worker has ended.
type Gone = watch::Receiver<()>;

/// A worker that was told to stop.
struct Leaving {
    gone: Gone,
    /// If it has not ended then, it hangs.
    by: Timestamp,
}

pub struct Supervisor {
    store: Store,
    client: Client,
    heartbeats: Heartbeats,
    tasks: JoinSet<Ended>,
    /// The workers of each account.
    accounts: BTreeMap<AccountName, (Vec<Post>, Account)>,
    couriers: BTreeMap<SubscriberName, (Post, Subscriber)>,
    desks: BTreeMap<AccountName, Arc<AccountAccess>>,
    others: Vec<Post>,
    wanted: watch::Sender<Wanted>,
    policy: watch::Sender<Arc<Policy>>,
    audience: watch::Sender<Arc<Vec<Subscriber>>>,
    learned_rates: SharedRates,
    jwks: watch::Sender<Arc<str>>,
    configured: watch::Sender<Arc<Configured>>,
    /// Those that were told to stop, by name: who comes after them waits.
    leaving: BTreeMap<String, Leaving>,
    told_to_stop: HashSet<Id>,
}

impl Supervisor {
    pub fn new(
        store: Store,
        client: Client,
        heartbeats: Heartbeats,
        learned_rates: SharedRates,
        config: &Config,
    ) -> Self {
        Self {
            store,
            client,
            heartbeats,
            learned_rates,
            tasks: JoinSet::new(),
            accounts: BTreeMap::new(),
            couriers: BTreeMap::new(),
            desks: BTreeMap::new(),
            others: Vec::new(),
            wanted: watch::Sender::new(None),
            policy: watch::Sender::new(policy(config)),
            audience: watch::Sender::new(audience(config)),
            jwks: watch::Sender::new(published(config)),
            configured: watch::Sender::new(Arc::new(Configured::of(config))),
            leaving: BTreeMap::new(),
            told_to_stop: HashSet::new(),
        }
    }

    /// What the configuration says about labels; read and applied in the background.
    pub fn register(&mut self, sources: LabelSources) {
        self.wanted.send_replace(Some(Arc::new(sources)));
    }

    /// The key set to be published, as it changes.
    pub fn jwks(&self) -> watch::Receiver<Arc<str>> {
        self.jwks.subscribe()
    }

    /// The accounts and subscribers of the configuration, as they change.
    pub fn configured(&self) -> watch::Receiver<Arc<Configured>> {
        self.configured.subscribe()
    }

    pub fn start_upkeep(&mut self, keep: &StoreConfig, notices: &Notices) {
        let (store, wanted, notices) = (self.store.clone(), self.wanted.subscribe(), notices.clone());
        let none = Heartbeat::default();
        let registrar = self.post("the registrar", &none, Duration::ZERO, |stop| {
            registrar::run(store, wanted, notices, stop)
        });
        let (store, keep, audience) = (self.store.clone(), keep.clone(), self.audience.subscribe());
        let learned_rates = self.learned_rates.clone();
        let janitor = self.post("the janitor", &none, Duration::ZERO, |stop| {
            janitor::run(store, keep, audience, learned_rates, stop)
        });
        self.others.extend([registrar, janitor]);
    }

    pub fn serve(&mut self, listener: TcpListener, sources: Sources) {
        let post =
            self.post("the HTTP server", &Heartbeat::default(), Duration::ZERO, |mut stop| async move {
                let shutdown = async move {
                    let _ = stop.wait_for(|stop| *stop).await;
                };
                // It ends when it is told to; an error of one connection is that connection's.
                let _ = http::serve(listener, sources, shutdown).await;
                Ok(())
            });
        self.others.push(post);
    }

    /// Brings the workers of accounts and subscribers in step with `config`.
    pub async fn employ(&mut self, config: &Config) -> Result<(), DaemonError> {
        self.policy.send_replace(policy(config));
        // Before anybody signs with a new key.
        self.jwks.send_replace(published(config));
        self.configured.send_replace(Arc::new(Configured::of(config)));
        self.dismiss(config);
        self.audience.send_replace(audience(config));
        for (name, account) in &config.accounts {
            if self.accounts.contains_key(name) {
                continue;
            }
            let access = self.access(account).await?;
            let worker = format!("the poller of {name}");
            let heartbeat = self.heartbeats.start(&worker, clock::now());
            let (policy, learned_rates) = (self.policy.subscribe(), self.learned_rates.clone());
            let poller = Poller::new(Arc::clone(&access), policy, learned_rates, heartbeat.clone());
            let mut posts = vec![self.post(&worker, &heartbeat, account.timeout, |stop| poller.run(stop))];
            if account.discover.enabled {
                let worker = format!("the discoverer of {name}");
                let heartbeat = self.heartbeats.start(&worker, clock::now());
                let (audience, beat) = (self.audience.subscribe(), heartbeat.clone());
                posts.push(self.post(&worker, &heartbeat, account.timeout, |stop| async move {
                    // When the one before has ended: how far it came is where this one goes on.
                    match Discoverer::new(access, audience, beat).await? {
                        Some(discoverer) => discoverer.run(stop).await,
                        None => Ok(()),
                    }
                }));
            }
            self.accounts.insert(name.clone(), (posts, account.clone()));
        }
        for (name, subscriber) in config.subscribers.iter().filter(|(_, subscriber)| subscriber.enabled) {
            if self.couriers.contains_key(name) {
                continue;
            }
            let worker = format!("the courier of {name}");
            let heartbeat = self.heartbeats.start(&worker, clock::now());
            let audience: Audience = self.audience.subscribe();
            let courier = Courier::new(subscriber.clone(), audience, self.store.clone(), heartbeat.clone())?;
            let post = self.post(&worker, &heartbeat, subscriber.timeout, |stop| courier.run(stop));
            self.couriers.insert(name.clone(), (post, subscriber.clone()));
        }
        Ok(())
    }

    /// Tells those to stop that are no longer wanted or are wanted otherwise.
    fn dismiss(&mut self, config: &Config) {
        let goes = |(name, (_, account)): &(&AccountName, &(Vec<Post>, Account))| {
            config.accounts.get(*name) != Some(account)
        };
        let accounts: Vec<AccountName> =
            self.accounts.iter().filter(goes).map(|(name, _)| name.clone()).collect();
        let changed = |(name, (_, subscriber)): &(&SubscriberName, &(Post, Subscriber))| {
            config.subscribers.get(*name) != Some(subscriber)
        };
        let subscribers: Vec<SubscriberName> =
            self.couriers.iter().filter(changed).map(|(name, _)| name.clone()).collect();
        let mut going: Vec<Post> = Vec::new();
        going.extend(
            accounts.iter().filter_map(|name| self.accounts.remove(name)).flat_map(|(posts, _)| posts),
        );
        going.extend(subscribers.iter().filter_map(|name| self.couriers.remove(name)).map(|(post, _)| post));
        let now = clock::now();
        for post in going {
            // One that still waits for its own predecessor ends with that.
            let waits = post.before.filter(|(gone, _)| gone.has_changed().is_ok());
            let by =
                waits.map_or_else(|| later(now, signed(post.alerts.saturating_add(SLACK))), |(_, by)| by);
            post.stop.send_replace(true);
            self.heartbeats.stop(&post.name);
            self.told_to_stop.insert(post.task);
            self.leaving.insert(post.name, Leaving { gone: post.gone, by });
        }
    }

    /// The account's access; one that was there before a reload goes on with its limiter.
    async fn access(&mut self, account: &Account) -> Result<Arc<AccountAccess>, DaemonError> {
        let (now, client) = (clock::now(), self.client.for_account(account)?);
        let access = match self.desks.get(&account.name) {
            Some(access) => access.reopened(account.clone(), client, now),
            None => AccountAccess::open(account.clone(), self.store.clone(), client, now).await?,
        };
        let access = Arc::new(access);
        self.desks.insert(account.name.clone(), Arc::clone(&access));
        Ok(access)
    }

    /// Starts a worker whose calls take no longer than `alerts`; when the one of its name before has ended, if that was
    /// told to stop.
    fn post<F>(
        &mut self,
        name: &str,
        heartbeat: &Heartbeat,
        alerts: Duration,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> Post
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (here, gone) = watch::channel(());
        let before = self.leaving.remove(name);
        let waits = before.as_ref().map(|before| (before.gone.clone(), before.by));
        let (work, heartbeat, worker) = (work(stopped.clone()), heartbeat.clone(), name.to_owned());
        let task = self.tasks.spawn(async move {
            if let Some(before) = before {
                wait_for(before.gone, before.by, &heartbeat).await;
            }
            let outcome = if *stopped.borrow() { Ok(()) } else { work.await };
            drop(here);
            Ended { worker, outcome }
        });
        Post { name: name.to_owned(), stop, task: task.id(), gone, alerts, before: waits }
    }

    /// Waits until a worker ends that was not told to, which none does by itself.
    pub async fn ended(&mut self) -> Ended {
        loop {
            match self.tasks.join_next_with_id().await {
                // One that was told to stop may still say that the store is lost.
                Some(Ok((id, ended))) if self.told_to_stop.remove(&id) && ended.outcome.is_ok() => {}
                Some(Ok((_, ended))) => return ended,
                Some(Err(error)) => return panicked(&error),
                None => return std::future::pending().await,
            }
        }
    }

    /// Tells all to stop and waits until they have.
    pub async fn drain(&mut self) {
        let accounts = self.accounts.values().flat_map(|(posts, _)| posts);
        let couriers = self.couriers.values().map(|(post, _)| post);
        for post in accounts.chain(couriers).chain(&self.others) {
            post.stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
        for access in self.desks.values() {
            // If it can't be written, what was not under way counts as sent at the next start, too: no harm.
            let _ = access.close(clock::now()).await;
        }
    }
}

fn published(config: &Config) -> Arc<str> {
    jwks::publish(&config.rsa_keys).into()
}

fn policy(config: &Config) -> Arc<Policy> {
    Arc::new(Policy {
        cadence: config.cadence.clone(),
        alerts: config.silence.clone(),
        first_poll: config.registration.first_poll,
        subscribers: config.subscribers.values().cloned().collect(),
    })
}

fn audience(config: &Config) -> Arc<Vec<Subscriber>> {
    Arc::new(config.subscribers.values().cloned().collect())
}

/// Waits for a predecessor. If it hangs, so does who waits for it, and no sign of life hides that.
async fn wait_for(mut before: Gone, by: Timestamp, heartbeat: &Heartbeat) {
    loop {
        let now = clock::now();
        if now < by {
            heartbeat.beat(now);
        }
        tokio::select! {
            // Nothing is ever sent: it closes.
            _ = before.changed() => return,
            () = clock::sleep(SIGN) => {}
        }
    }
}

fn panicked(error: &JoinError) -> Ended {
    Ended { worker: format!("a worker ({error})"), outcome: Ok(()) }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::domain::time::earlier;

    #[tokio::test]
    async fn who_waits_for_a_trade_that_hangs_seems_to_hang_too() {
        let (heartbeats, now) = (Heartbeats::default(), clock::now());
        let long_ago = earlier(now, SignedDuration::from_mins(10));
        for (by, silent) in [(later(now, signed(SLACK)), 0), (now, 1)] {
            let heartbeat = heartbeats.start("a courier", long_ago);
            let (here, before) = watch::channel(());
            drop(here);
            wait_for(before, by, &heartbeat).await;
            assert_eq!(heartbeats.silent(clock::now(), signed(SLACK)).len(), silent);
        }
    }
}
