//! Who is at work: the trades, each with the configuration it was started with.
//!
//! A reload tells only those to stop whose part changed, and waits for none of them: what an old one has under way ends
//! within its own time limit, and its successor begins when it has ended. So there are never two couriers of one
//! subscriber at a time, and no callback is under way twice.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::DaemonError;
use crate::clock;
use crate::config::{Account, Config, StoreConfig};
use crate::courier::{Audience, Courier};
use crate::domain::label::{AccountName, Registration};
use crate::domain::subscriber::{Subscriber, SubscriberName};
use crate::http::{self, Sources};
use crate::janitor;
use crate::poller::{self, Policy, Poller, SharedQuota};
use crate::pulse::{Pulse, Pulses};
use crate::registrar::{self, Wanted};
use crate::shipstation::Client;
use crate::store::{Store, StoreError};

/// A trade that ended.
#[derive(Debug)]
pub struct Ended {
    pub trade: String,
    pub outcome: Result<(), StoreError>,
}

/// Who waits for a predecessor gives a sign of life every so often.
const SIGN: Duration = Duration::from_secs(5);

/// A trade at work.
struct Post {
    name: String,
    stop: watch::Sender<bool>,
    task: Id,
    gone: Gone,
}

/// Closes when a trade has ended.
type Gone = watch::Receiver<()>;

pub struct Trades {
    store: Store,
    client: Client,
    pulses: Pulses,
    tasks: JoinSet<Ended>,
    pollers: BTreeMap<AccountName, (Post, Account)>,
    couriers: BTreeMap<SubscriberName, (Post, Subscriber)>,
    quotas: BTreeMap<AccountName, SharedQuota>,
    others: Vec<Post>,
    wanted: watch::Sender<Wanted>,
    policy: watch::Sender<Arc<Policy>>,
    audience: watch::Sender<Arc<Vec<Subscriber>>>,
    /// Those that were told to stop, by name: who comes after them waits.
    leaving: BTreeMap<String, Gone>,
    told_to_stop: HashSet<Id>,
}

impl Trades {
    pub fn new(store: Store, client: Client, pulses: Pulses, config: &Config) -> Self {
        Self {
            store,
            client,
            pulses,
            tasks: JoinSet::new(),
            pollers: BTreeMap::new(),
            couriers: BTreeMap::new(),
            quotas: BTreeMap::new(),
            others: Vec::new(),
            wanted: watch::Sender::new(None),
            policy: watch::Sender::new(policy(config)),
            audience: watch::Sender::new(audience(config)),
            leaving: BTreeMap::new(),
            told_to_stop: HashSet::new(),
        }
    }

    /// The labels that the configuration asks for; applied in the background.
    pub fn register(&mut self, labels: Vec<Registration>) {
        self.wanted.send_replace(Some(Arc::new(labels)));
    }

    pub fn start_upkeep(&mut self, keep: &StoreConfig) {
        let (store, wanted) = (self.store.clone(), self.wanted.subscribe());
        let none = Pulse::default();
        let registrar = self.post("the registrar", &none, |stop| registrar::run(store, wanted, stop));
        let (store, keep, audience) = (self.store.clone(), keep.clone(), self.audience.subscribe());
        let janitor = self.post("the janitor", &none, |stop| janitor::run(store, keep, audience, stop));
        self.others.extend([registrar, janitor]);
    }

    pub fn serve(&mut self, listener: TcpListener, sources: Sources) {
        let post = self.post("the HTTP server", &Pulse::default(), |mut stop| async move {
            let shutdown = async move {
                let _ = stop.wait_for(|stop| *stop).await;
            };
            // It ends when it is told to; an error of one connection is that connection's.
            let _ = http::serve(listener, sources, shutdown).await;
            Ok(())
        });
        self.others.push(post);
    }

    /// Brings the pollers and couriers in step with `config`.
    pub async fn employ(&mut self, config: &Config) -> Result<(), DaemonError> {
        self.policy.send_replace(policy(config));
        self.dismiss(config);
        self.audience.send_replace(audience(config));
        for (name, account) in &config.accounts {
            if self.pollers.contains_key(name) {
                continue;
            }
            let quota = self.quota(account).await?;
            let trade = format!("the poller of {name}");
            let pulse = self.pulses.start(&trade, clock::now());
            let (store, client, beat) = (self.store.clone(), self.client.clone(), pulse.clone());
            let (policy, account_of) = (self.policy.subscribe(), account.clone());
            let post = self.post(&trade, &pulse, |stop| async move {
                // When the one before has ended: how the account stands is what that one left.
                let now = clock::now();
                Poller::new(account_of, policy, store, client, beat, quota, now).await?.run(stop).await
            });
            self.pollers.insert(name.clone(), (post, account.clone()));
        }
        for (name, subscriber) in config.subscribers.iter().filter(|(_, subscriber)| subscriber.enabled) {
            if self.couriers.contains_key(name) {
                continue;
            }
            let trade = format!("the courier of {name}");
            let pulse = self.pulses.start(&trade, clock::now());
            let audience: Audience = self.audience.subscribe();
            let courier = Courier::new(subscriber.clone(), audience, self.store.clone(), pulse.clone())?;
            let post = self.post(&trade, &pulse, |stop| courier.run(stop));
            self.couriers.insert(name.clone(), (post, subscriber.clone()));
        }
        Ok(())
    }

    /// Tells those to stop that are no longer wanted or are wanted otherwise.
    fn dismiss(&mut self, config: &Config) {
        let goes = |(name, (_, account)): &(&AccountName, &(Post, Account))| {
            config.accounts.get(*name) != Some(account)
        };
        let accounts: Vec<AccountName> =
            self.pollers.iter().filter(goes).map(|(name, _)| name.clone()).collect();
        let changed = |(name, (_, subscriber)): &(&SubscriberName, &(Post, Subscriber))| {
            config.subscribers.get(*name) != Some(subscriber)
        };
        let subscribers: Vec<SubscriberName> =
            self.couriers.iter().filter(changed).map(|(name, _)| name.clone()).collect();
        let mut going: Vec<Post> = Vec::new();
        going.extend(accounts.iter().filter_map(|name| self.pollers.remove(name)).map(|(post, _)| post));
        going.extend(subscribers.iter().filter_map(|name| self.couriers.remove(name)).map(|(post, _)| post));
        for post in going {
            post.stop.send_replace(true);
            self.pulses.stop(&post.name);
            self.told_to_stop.insert(post.task);
            self.leaving.insert(post.name, post.gone);
        }
    }

    async fn quota(&mut self, account: &Account) -> Result<SharedQuota, StoreError> {
        if let Some(quota) = self.quotas.get(&account.name) {
            let shared = Arc::clone(quota);
            shared
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .set_limit(account.requests_per_minute);
            return Ok(shared);
        }
        let quota = poller::quota_left(&self.store, account, clock::now()).await?;
        self.quotas.insert(account.name.clone(), Arc::clone(&quota));
        Ok(quota)
    }

    /// Starts a trade; when the one of its name before has ended, if that was told to stop.
    fn post<F>(&mut self, name: &str, pulse: &Pulse, work: impl FnOnce(watch::Receiver<bool>) -> F) -> Post
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let (here, gone) = watch::channel(());
        let before = self.leaving.remove(name);
        let (work, pulse, trade) = (work(stopped.clone()), pulse.clone(), name.to_owned());
        let task = self.tasks.spawn(async move {
            if let Some(before) = before {
                wait_for(before, &pulse).await;
            }
            let outcome = if *stopped.borrow() { Ok(()) } else { work.await };
            drop(here);
            Ended { trade, outcome }
        });
        Post { name: name.to_owned(), stop, task: task.id(), gone }
    }

    /// Waits until a trade ends that was not told to, which none does by itself.
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
        let pollers = self.pollers.values().map(|(post, ..)| post);
        let couriers = self.couriers.values().map(|(post, _)| post);
        for post in pollers.chain(couriers).chain(&self.others) {
            post.stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

fn policy(config: &Config) -> Arc<Policy> {
    Arc::new(Policy {
        cadence: config.cadence.clone(),
        patience: config.silence.clone(),
        first_poll: config.registration.first_poll,
        subscribers: config.subscribers.values().cloned().collect(),
    })
}

fn audience(config: &Config) -> Arc<Vec<Subscriber>> {
    Arc::new(config.subscribers.values().cloned().collect())
}

async fn wait_for(mut before: Gone, pulse: &Pulse) {
    loop {
        tokio::select! {
            // Nothing is ever sent: it closes.
            _ = before.changed() => return,
            () = clock::sleep(SIGN) => pulse.beat(clock::now()),
        }
    }
}

fn panicked(error: &JoinError) -> Ended {
    Ended { trade: format!("a trade ({error})"), outcome: Ok(()) }
}
