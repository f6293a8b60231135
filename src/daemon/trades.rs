//! Who is at work: the trades, each with the configuration it was started with.
//!
//! A reload stops only those whose part changed, and starts the new one when the old one has ended: never two couriers
//! of one subscriber at a time.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tracing::warn;

use super::{DRAIN, DaemonError};
use crate::clock;
use crate::config::{Account, Config, StoreConfig};
use crate::courier::{Audience, Courier};
use crate::desk::Desk;
use crate::domain::label::{AccountName, Registration};
use crate::domain::signature::jwks;
use crate::domain::subscriber::{Subscriber, SubscriberName};
use crate::experience::Experience;
use crate::http::{self, Sources};
use crate::janitor;
use crate::poller::{Policy, Poller};
use crate::pulse::Pulses;
use crate::registrar::{self, Wanted};
use crate::scout::Scout;
use crate::shipstation::Client;
use crate::store::{Store, StoreError};

/// A trade that ended.
#[derive(Debug)]
pub struct Ended {
    pub trade: String,
    pub outcome: Result<(), StoreError>,
}

/// A trade at work.
struct Post {
    name: String,
    stop: watch::Sender<bool>,
    task: AbortHandle,
}

pub struct Trades {
    store: Store,
    client: Client,
    pulses: Pulses,
    tasks: JoinSet<Ended>,
    /// The trades of each account.
    accounts: BTreeMap<AccountName, (Vec<Post>, Account)>,
    couriers: BTreeMap<SubscriberName, (Post, Subscriber)>,
    desks: BTreeMap<AccountName, Arc<Desk>>,
    others: Vec<Post>,
    wanted: watch::Sender<Wanted>,
    policy: watch::Sender<Arc<Policy>>,
    audience: watch::Sender<Arc<Vec<Subscriber>>>,
    experience: Experience,
    jwks: watch::Sender<Arc<str>>,
    /// Trades that ended while we waited for others to; the daemon hears of them next.
    unexpected: Vec<Ended>,
}

impl Trades {
    pub fn new(
        store: Store,
        client: Client,
        pulses: Pulses,
        experience: Experience,
        config: &Config,
    ) -> Self {
        Self {
            store,
            client,
            pulses,
            experience,
            tasks: JoinSet::new(),
            accounts: BTreeMap::new(),
            couriers: BTreeMap::new(),
            desks: BTreeMap::new(),
            others: Vec::new(),
            wanted: watch::Sender::new(None),
            policy: watch::Sender::new(policy(config)),
            audience: watch::Sender::default(),
            jwks: watch::Sender::new(published(config)),
            unexpected: Vec::new(),
        }
    }

    /// The labels that the configuration asks for; applied in the background.
    pub fn register(&mut self, labels: Vec<Registration>) {
        self.wanted.send_replace(Some(Arc::new(labels)));
    }

    /// The key set to be published, as it changes.
    pub fn jwks(&self) -> watch::Receiver<Arc<str>> {
        self.jwks.subscribe()
    }

    pub fn start_upkeep(&mut self, keep: &StoreConfig) {
        let (store, wanted) = (self.store.clone(), self.wanted.subscribe());
        let registrar = self.post("the registrar", |stop| registrar::run(store, wanted, stop));
        let (store, keep, experience) = (self.store.clone(), keep.clone(), self.experience.clone());
        let janitor = self.post("the janitor", |stop| janitor::run(store, keep, experience, stop));
        self.others.extend([registrar, janitor]);
    }

    pub fn serve(&mut self, listener: TcpListener, sources: Sources) {
        let post = self.post("the HTTP server", |mut stop| async move {
            let shutdown = async move {
                let _ = stop.wait_for(|stop| *stop).await;
            };
            // It ends when it is told to; an error of one connection is that connection's.
            let _ = http::serve(listener, sources, shutdown).await;
            Ok(())
        });
        self.others.push(post);
    }

    /// Brings the trades of accounts and subscribers in step with `config`.
    pub async fn employ(&mut self, config: &Config) -> Result<(), DaemonError> {
        self.policy.send_replace(policy(config));
        // Before anybody signs with a new key.
        self.jwks.send_replace(published(config));
        self.dismiss(config).await;
        self.audience.send_replace(Arc::new(config.subscribers.values().cloned().collect()));
        for (name, account) in &config.accounts {
            if self.accounts.contains_key(name) {
                continue;
            }
            let desk = self.desk(account).await?;
            let trade = format!("the poller of {name}");
            let pulse = self.pulses.start(&trade, clock::now());
            let poller =
                Poller::new(Arc::clone(&desk), self.policy.subscribe(), self.experience.clone(), pulse);
            let mut posts = vec![self.post(&trade, |stop| poller.run(stop))];
            let trade = format!("the scout of {name}");
            let pulse = self.pulses.start(&trade, clock::now());
            match Scout::new(desk, self.audience.subscribe(), pulse).await? {
                Some(scout) => posts.push(self.post(&trade, |stop| scout.run(stop))),
                None => self.pulses.stop(&trade),
            }
            self.accounts.insert(name.clone(), (posts, account.clone()));
        }
        for (name, subscriber) in config.subscribers.iter().filter(|(_, subscriber)| subscriber.enabled) {
            if self.couriers.contains_key(name) {
                continue;
            }
            let trade = format!("the courier of {name}");
            let pulse = self.pulses.start(&trade, clock::now());
            let audience: Audience = self.audience.subscribe();
            let courier = Courier::new(subscriber.clone(), audience, self.store.clone(), pulse)?;
            let post = self.post(&trade, |stop| courier.run(stop));
            self.couriers.insert(name.clone(), (post, subscriber.clone()));
        }
        Ok(())
    }

    /// Ends what is no longer wanted or is wanted otherwise, and waits until it has ended.
    async fn dismiss(&mut self, config: &Config) {
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
        for post in &going {
            post.stop.send_replace(true);
        }
        let mut left: HashSet<Id> = going.iter().map(|post| post.task.id()).collect();
        if tokio::time::timeout(DRAIN, self.wait_for(&mut left)).await.is_err() {
            warn!("a reload ended calls in flight: they are made again");
            going.iter().filter(|post| left.contains(&post.task.id())).for_each(|post| post.task.abort());
            self.wait_for(&mut left).await;
        }
        for post in going {
            self.pulses.stop(&post.name);
        }
    }

    /// They end in any order. What else ends meanwhile is not lost: the daemon hears of it next.
    async fn wait_for(&mut self, going: &mut HashSet<Id>) {
        while !going.is_empty() {
            match self.tasks.join_next_with_id().await {
                // One that was told to stop may still say that the store is lost.
                Some(Ok((id, ended))) if going.remove(&id) => {
                    self.unexpected.extend(Some(ended).filter(|ended| ended.outcome.is_err()));
                }
                Some(Ok((_, ended))) => self.unexpected.push(ended),
                Some(Err(error)) if going.remove(&error.id()) && error.is_cancelled() => {}
                Some(Err(error)) => self.unexpected.push(panicked(&error)),
                None => return,
            }
        }
    }

    /// The account's desk; one that was there before a reload goes on with its ledger.
    async fn desk(&mut self, account: &Account) -> Result<Arc<Desk>, DaemonError> {
        let (now, client) = (clock::now(), self.client.for_account(account)?);
        let desk = match self.desks.get(&account.name) {
            Some(desk) => desk.reopened(account.clone(), client, now).await?,
            None => Desk::open(account.clone(), self.store.clone(), client, now).await?,
        };
        let desk = Arc::new(desk);
        self.desks.insert(account.name.clone(), Arc::clone(&desk));
        Ok(desk)
    }

    fn post<F>(&mut self, name: &str, work: impl FnOnce(watch::Receiver<bool>) -> F) -> Post
    where
        F: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let work = work(stopped);
        let trade = name.to_owned();
        let task = self.tasks.spawn(async move { Ended { trade, outcome: work.await } });
        Post { name: name.to_owned(), stop, task }
    }

    /// Waits until a trade ends, which none does by itself.
    pub async fn ended(&mut self) -> Ended {
        if let Some(ended) = self.unexpected.pop() {
            return ended;
        }
        match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => panicked(&error),
            None => std::future::pending().await,
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
        for desk in self.desks.values() {
            // If it can't be written, what was not under way counts as sent at the next start: no harm.
            let _ = desk.close().await;
        }
    }
}

fn published(config: &Config) -> Arc<str> {
    jwks::publish(&config.rsa_keys).into()
}

fn policy(config: &Config) -> Arc<Policy> {
    Arc::new(Policy {
        cadence: config.cadence.clone(),
        patience: config.silence.clone(),
        first_poll: config.registration.first_poll,
        subscribers: config.subscribers.values().cloned().collect(),
    })
}

fn panicked(error: &JoinError) -> Ended {
    Ended { trade: format!("a trade ({error})"), outcome: Ok(()) }
}
