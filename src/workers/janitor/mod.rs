//! The worker that tidies up: what has been kept long enough goes; what was learnt is written down.
//!
//! In small bites, so that nobody waits for it. It never touches what is still owed; only what is owed to a subscriber
//! that is gone for two weeks goes with the finished label, or the message, that it hangs on, and that is said.

mod freshness;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::clock;
use crate::config::StoreConfig;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::time::{earlier, later, signed};
use crate::store::upkeep::Keep;
use crate::store::{Store, StoreError};
use crate::workers::learned_rates::SharedRates;

pub use freshness::Report;

/// Between two times of tidying up.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Between two looks at whether there is something to do.
const ROUND: Duration = Duration::from_secs(60);
/// Between two bites of a round.
const BREATH: Duration = Duration::from_millis(50);
/// Rows per bite, of each kind.
pub const BITE: u32 = 500;
/// What was not delivered is kept so long at least, whatever else is asked for (contract 7.6).
const UNDELIVERED: Duration = Duration::from_secs(14 * 24 * 3600);

/// Tidies up until `shutdown`. `subscribers` are those of the configuration; they change with a reload.
pub async fn run(
    store: Store,
    keep: StoreConfig,
    subscribers: watch::Receiver<Arc<Vec<Subscriber>>>,
    learned_rates: SharedRates,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let mut report = Report::new(clock::now());
    let mut tidy_at = Timestamp::MIN;
    loop {
        let now = clock::now();
        learned_rates.write(&store, now, false).await?;
        report.step(&store, now).await?;
        let all = Arc::clone(&subscribers.borrow());
        let more = now >= tidy_at && step(&store, &keep, &all, now).await?;
        if !more && now >= tidy_at {
            tidy_at = later(now, PAUSE);
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            () = clock::sleep(if more { BREATH } else { ROUND }) => {}
        }
    }
    learned_rates.write(&store, clock::now(), true).await
}

/// One bite; says whether there is more.
pub async fn step(
    store: &Store,
    keep: &StoreConfig,
    subscribers: &[Subscriber],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let served = subscribers.iter().filter(|subscriber| subscriber.enabled);
    let served: Vec<SubscriberName> = served.map(|subscriber| subscriber.name.clone()).collect();
    store.note_absent(&served, now).await?;
    let keep = Keep {
        attempts_since: earlier(now, signed(keep.keep_attempts)),
        finished_since: earlier(now, signed(keep.keep_finished)),
        undelivered_since: earlier(now, signed(UNDELIVERED)),
    };
    let pruned = store.prune(keep, BITE).await?;
    for (subscriber, deliveries) in &pruned.undelivered {
        warn!(
            subscriber,
            deliveries, "pruned undelivered: the subscriber has not been in the configuration for 14 days"
        );
    }
    if !pruned.is_empty() {
        let (attempts, labels, messages) = (pruned.attempts, pruned.labels, pruned.messages);
        info!(attempts, labels, messages, "pruned what was kept long enough");
    }
    Ok([pruned.attempts, pruned.labels, pruned.messages].contains(&u64::from(BITE)))
}
