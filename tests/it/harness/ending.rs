//! Start and end of the daemon's parts: by a clean stop or a crash.

use std::sync::Arc;

use tokio::sync::watch;
use trackpost::domain::messages::signature::SigningSecret;
use trackpost::domain::messages::subscriber::Subscriber;
use trackpost::sandbox::{Receiver, ReceiverOptions};
use trackpost::shipstation::{self, Client};
use trackpost::store;
use trackpost::workers::account_access::AccountAccess;
use trackpost::workers::courier::Courier;
use trackpost::workers::discoverer::Discoverer;
use trackpost::workers::heartbeat::Heartbeat;
use trackpost::workers::learned_rates::SharedRates;
use trackpost::workers::poller::Poller;

use super::{Harness, SECRET, Work};

impl Harness {
    /// Opens the database and starts the parts.
    pub(super) async fn open(&mut self) {
        let (store, writer) = store::open(&self.path).await.unwrap();
        let writer = Some(tokio::spawn(writer.run()));
        let client = Client::new(&shipstation::tls().unwrap(), &self.account).unwrap();
        let access =
            AccountAccess::open(self.account.clone(), store.clone(), client, self.now()).await.unwrap();
        let access = Arc::new(access);
        let policy = watch::channel(self.policy.clone().into()).1;
        let learned_rates = SharedRates::load(&store, self.now()).await.unwrap();
        let poller = Poller::new(Arc::clone(&access), policy, learned_rates.clone(), Heartbeat::default());
        let (_, subscribers) = watch::channel(Arc::new(self.policy.subscribers.clone()));
        let discoverer =
            Discoverer::new(Arc::clone(&access), subscribers.clone(), Heartbeat::default()).await.unwrap();
        let courier = |subscriber: &Subscriber| {
            let courier =
                Courier::new(subscriber.clone(), subscribers.clone(), store.clone(), Heartbeat::default())
                    .unwrap();
            (subscriber.name.clone(), courier)
        };
        let couriers = self.policy.subscribers.iter().map(courier).collect();
        self.work =
            Some(Work { store, writer, access, learned_rates, poller: Some(poller), discoverer, couriers });
    }

    /// Stops everything cleanly and starts again on the same file.
    pub async fn restart(&mut self) {
        self.shut().await;
        self.open().await;
    }

    /// Stops everything cleanly. [`Self::restart`] starts again.
    pub async fn shut(&mut self) {
        let Some(Work { store, writer, access, learned_rates, poller, discoverer, couriers }) =
            self.work.take()
        else {
            return;
        };
        if writer.is_some() {
            access.close(self.now()).await.unwrap();
            learned_rates.write(&store, self.now(), true).await.unwrap();
        }
        drop((access, poller, discoverer, couriers));
        store.close().await;
        drop(store);
        if let Some(writer) = writer {
            writer.await.unwrap();
        }
    }

    /// Aborts the writer of the database. All other parts see it as a kill.
    pub async fn abort_writer(&mut self) {
        let writer = self.work().writer.take().expect("the writer is lost once");
        writer.abort();
        assert!(writer.await.unwrap_err().is_cancelled());
    }

    /// Allows different bodies under the same id from now on.
    pub fn allow_changed_bodies(&mut self) {
        self.one_body_per_id = false;
    }

    /// Starts a receiver at this address; it becomes [`Self::receiver`].
    pub async fn start_receiver_at(&mut self, address: std::net::SocketAddr) {
        let options = ReceiverOptions {
            secrets: vec![SigningSecret::parse(SECRET).unwrap()],
            clock: self.server_clock(),
            ..Default::default()
        };
        let receiver = Receiver::bind(address, options).await.unwrap();
        self.receiver = receiver.handle();
        self.servers.push(tokio::spawn(async move { receiver.serve(std::future::pending()).await.unwrap() }));
    }

    /// Stops the fake ShipStation.
    pub async fn stop_api(&mut self) {
        self.servers[0].abort();
        assert!((&mut self.servers[0]).await.unwrap_err().is_cancelled());
    }

    /// Aborts everything at once and starts again on the same file.
    pub async fn crash(&mut self) {
        if let Some(writer) = self.work.take().and_then(|work| work.writer) {
            writer.abort();
            let _ = writer.await;
        }
        self.open().await;
    }
}
