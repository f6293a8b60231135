//! New deliveries on their way from the writer's commit to the courier of their subscriber, through memory.
//!
//! The writer puts them in after its commit and before it answers anybody. So whoever has seen the answer to a later
//! write of a delivery finds that delivery here: a courier that empties its inbox before it takes in what became of its
//! attempts never takes a delivery for new that it has made already.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::domain::delivery::outbox::PendingDelivery;
use crate::domain::messages::subscriber::SubscriberName;

/// What an inbox holds at most. A courier empties it at once; what does not fit is read from the table.
const INBOX: usize = 1_000;

/// A delivery that was written, and whose it is.
pub type NewDelivery = (SubscriberName, PendingDelivery);

/// The inboxes of all couriers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    inboxes: Mutex<HashMap<SubscriberName, Weak<Inbox>>>,
    version: AtomicU64,
}

/// What one courier has not looked at yet.
#[derive(Debug)]
pub struct Inbox {
    arrived: Mutex<Arrived>,
    bell: Notify,
}

/// What an inbox held.
#[derive(Debug, Default)]
pub struct Arrived {
    pub deliveries: Vec<PendingDelivery>,
    /// The table was changed otherwise, or holds more than this: it is to be read.
    pub stale: bool,
}

impl Handover {
    /// The inbox of a courier that starts: it has yet to read the table.
    pub fn register(&self, subscriber: &SubscriberName) -> Arc<Inbox> {
        let arrived = Arrived { deliveries: Vec::new(), stale: true };
        let inbox = Arc::new(Inbox { arrived: Mutex::new(arrived), bell: Notify::new() });
        self.lock().insert(subscriber.clone(), Arc::downgrade(&inbox));
        inbox
    }

    /// Hands deliveries over that have been committed, before any caller is answered: only the writer may. Those of a
    /// subscriber without a courier stay in the table.
    pub(in crate::store) fn give(&self, new: Vec<NewDelivery>) {
        let inboxes = self.lock();
        for (subscriber, delivery) in new {
            let inbox = inboxes.get(&subscriber).and_then(Weak::upgrade);
            if let Some(inbox) = inbox {
                inbox.put(delivery);
            }
        }
    }

    /// Settlements up to this transaction are committed.
    pub(in crate::store) fn settled(&self, version: u64) {
        self.0.version.store(version, Ordering::Release);
    }

    pub(in crate::store) fn settled_version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Has the courier of this subscriber read the table.
    pub(in crate::store) fn stale(&self, subscriber: &SubscriberName) {
        if let Some(inbox) = self.lock().get(subscriber).and_then(Weak::upgrade) {
            inbox.mark_stale();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SubscriberName, Weak<Inbox>>> {
        self.0.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Empties the inbox.
    pub fn take(&self) -> Arrived {
        std::mem::take(&mut *self.lock())
    }

    /// Returns when something has arrived since the last call.
    pub async fn arrived(&self) {
        self.bell.notified().await;
    }

    /// Has the courier read the table.
    pub fn mark_stale(&self) {
        *self.lock() = Arrived { deliveries: Vec::new(), stale: true };
        self.bell.notify_one();
    }

    fn put(&self, delivery: PendingDelivery) {
        let mut arrived = self.lock();
        if arrived.deliveries.len() >= INBOX {
            *arrived = Arrived { deliveries: Vec::new(), stale: true };
        }
        // What is in the table is read from there.
        if !arrived.stale {
            arrived.deliveries.push(delivery);
        }
        drop(arrived);
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
