//! Handover of new deliveries from the writer to the couriers, through memory.
//!
//! The writer inserts them after its commit and before it answers callers. So a courier that empties its inbox before
//! it applies the results of its attempts never treats a delivery as new that it has already attempted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::domain::delivery::outbox::PendingDelivery;
use crate::domain::messages::subscriber::SubscriberName;
use crate::store::records::NewDelivery;

/// Capacity of an inbox. A courier empties it at once; deliveries beyond it are read from the table.
const INBOX_CAPACITY: usize = 1_000;

/// The inboxes of all couriers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handover(Arc<Inboxes>);

#[derive(Debug, Default)]
struct Inboxes {
    inboxes: Mutex<HashMap<SubscriberName, Weak<Inbox>>>,
    transaction: AtomicU64,
}

/// New deliveries that one courier has not yet taken.
#[derive(Debug)]
pub struct Inbox {
    arrived: Mutex<Arrived>,
    notify: Notify,
}

/// Content of an inbox.
#[derive(Debug, Default)]
pub struct Arrived {
    pub deliveries: Vec<PendingDelivery>,
    /// Whether the table must be read: it was changed in another way, or the inbox overflowed.
    pub stale: bool,
}

impl Handover {
    /// Returns the inbox of a starting courier, which reads the table first.
    pub fn register(&self, subscriber: &SubscriberName) -> Arc<Inbox> {
        let arrived = Arrived { deliveries: Vec::new(), stale: true };
        let inbox = Arc::new(Inbox { arrived: Mutex::new(arrived), notify: Notify::new() });
        self.lock().insert(subscriber.clone(), Arc::downgrade(&inbox));
        inbox
    }

    /// Hands over committed deliveries, before any caller is answered. Only the writer calls this. Deliveries of a
    /// subscriber without a courier stay in the table.
    pub(in crate::store) fn hand_over(&self, new: Vec<NewDelivery>) {
        let inboxes = self.lock();
        for (subscriber, delivery) in new {
            let inbox = inboxes.get(&subscriber).and_then(Weak::upgrade);
            if let Some(inbox) = inbox {
                inbox.put(delivery);
            }
        }
    }

    /// Records that ended attempts up to this transaction are committed.
    pub(in crate::store) fn record_transaction(&self, transaction: u64) {
        self.0.transaction.store(transaction, Ordering::Release);
    }

    pub(in crate::store) fn last_transaction(&self) -> u64 {
        self.0.transaction.load(Ordering::Acquire)
    }

    /// Lets the courier of this subscriber read the table.
    pub(in crate::store) fn mark_stale(&self, subscriber: &SubscriberName) {
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

    /// Waits until something has arrived since the last call.
    pub async fn arrived(&self) {
        self.notify.notified().await;
    }

    /// Lets the courier read the table.
    pub fn mark_stale(&self) {
        *self.lock() = Arrived { deliveries: Vec::new(), stale: true };
        self.notify.notify_one();
    }

    fn put(&self, delivery: PendingDelivery) {
        let mut arrived = self.lock();
        if arrived.deliveries.len() >= INBOX_CAPACITY {
            *arrived = Arrived { deliveries: Vec::new(), stale: true };
        }
        // The courier reads these from the table.
        if !arrived.stale {
            arrived.deliveries.push(delivery);
        }
        drop(arrived);
        self.notify.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
