//! The janitor: the worker that deletes old rows, checks the database for damage once a day, and writes learned rates and
//! jumps of the clock.
//!
//! It works in small chunks, so that other writers do not wait. Pending deliveries are deleted only if their
//! subscriber has been removed or disabled for two weeks, and this is logged. Dead deliveries are kept for two weeks.
//! Both are deleted with their label or message.

mod freshness;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::clock;
use crate::config::StoreConfig;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::time::{after, earlier, later, signed};
use crate::store::damage_check::DamageCheckPosition;
use crate::store::upkeep::RetentionLimits;
use crate::store::{Store, StoreError};
use crate::workers::learned_rates::SharedRates;

pub use freshness::FreshnessReport;

/// The time between two rounds.
const ROUND_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// The time between two steps.
const STEP_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two chunks of a round.
const CHUNK_INTERVAL: Duration = Duration::from_millis(50);
/// Rows of one step of the check of the database.
const DAMAGE_CHECK_ROWS: u32 = 500;
/// Rows of each kind in a chunk.
pub const PRUNE_CHUNK: u32 = 500;
/// The time between two checks of the database.
const INSPECTION_INTERVAL: SignedDuration = SignedDuration::from_hours(24);
/// Minimum time for which undelivered messages are kept, for any configuration (contract 7.6).
const UNDELIVERED_KEPT_FOR: Duration = Duration::from_secs(14 * 24 * 3600);

/// Works until `shutdown`. `subscribers`: the configured subscribers, which change with a reload.
pub async fn run(
    store: Store,
    keep: StoreConfig,
    subscribers: watch::Receiver<Arc<Vec<Subscriber>>>,
    learned_rates: SharedRates,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let mut report = FreshnessReport::new(clock::now());
    let mut next_round_at = Timestamp::MIN;
    let mut damage_check = DamageCheck::new(clock::now());
    loop {
        let now = clock::now();
        learned_rates.write(&store, now, false).await?;
        report.step(&store, now).await?;
        let all = Arc::clone(&subscribers.borrow());
        let more = now >= next_round_at && step(&store, &keep, &all, now).await?;
        if !more && now >= next_round_at {
            next_round_at = later(now, ROUND_INTERVAL);
        }
        let more = damage_check.step(&store, now).await? || more;
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            // Ends soon after a jump of the clock.
            () = clock::sleep_until(after(clock::now(), if more { CHUNK_INTERVAL } else { STEP_INTERVAL })) => {}
        }
    }
    learned_rates.write(&store, clock::now(), true).await
}

/// The daily check of the database ([`crate::store::damage_check`]).
struct DamageCheck {
    due_at: Timestamp,
    position: Option<DamageCheckPosition>,
}

impl DamageCheck {
    fn new(now: Timestamp) -> Self {
        Self { due_at: later(now, signed(STEP_INTERVAL)), position: None }
    }

    /// Does one step if the check is due or has begun. Returns whether there is more.
    async fn step(&mut self, store: &Store, now: Timestamp) -> Result<bool, StoreError> {
        self.due_at = self.due_at.min(later(now, INSPECTION_INTERVAL));
        if self.position.is_none() && now < self.due_at {
            return Ok(false);
        }
        self.position = store.check_for_damage(self.position.unwrap_or_default(), DAMAGE_CHECK_ROWS).await?;
        if self.position.is_none() {
            self.due_at = later(now, INSPECTION_INTERVAL);
            debug!("the database was checked: no damage");
        }
        Ok(self.position.is_some())
    }
}

/// Deletes one chunk. Returns whether there is more.
pub async fn step(
    store: &Store,
    keep: &StoreConfig,
    subscribers: &[Subscriber],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let served = subscribers.iter().filter(|subscriber| subscriber.enabled);
    let served: Vec<SubscriberName> = served.map(|subscriber| subscriber.name.clone()).collect();
    store.note_absent(&served, now).await?;
    let keep = RetentionLimits {
        attempts_since: earlier(now, signed(keep.keep_attempts)),
        finished_since: earlier(now, signed(keep.keep_finished)),
        undelivered_since: earlier(now, signed(UNDELIVERED_KEPT_FOR)),
    };
    let pruned = store.prune(keep, PRUNE_CHUNK).await?;
    for (subscriber, deliveries) in &pruned.undelivered {
        warn!(
            subscriber,
            deliveries,
            "undelivered messages deleted: the subscriber has been removed or disabled for 14 days"
        );
    }
    if !pruned.is_empty() {
        let (attempts, labels, messages) = (pruned.attempts, pruned.labels, pruned.messages);
        info!(attempts, labels, messages, "old rows deleted");
    }
    Ok([pruned.attempts, pruned.labels, pruned.messages].contains(&u64::from(PRUNE_CHUNK)))
}
