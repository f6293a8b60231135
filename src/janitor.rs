//! The trade that tidies up: what has been kept long enough goes; what was learnt is written down, and how
//! fresh news was is said.
//!
//! In small bites, so that nobody waits for it. It never touches what is still owed.

mod freshness;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::info;

use crate::clock;
use crate::config::StoreConfig;
use crate::experience::Experience;
use crate::store::{Store, StoreError};

pub use freshness::Report;

/// Between two times of tidying up.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Between two looks at whether there is something to do.
const ROUND: Duration = Duration::from_secs(60);
/// Between two bites of a round.
const BREATH: Duration = Duration::from_millis(50);
/// Rows per bite.
pub const BITE: u32 = 500;

/// Tidies up until `shutdown`.
pub async fn run(
    store: Store,
    keep: StoreConfig,
    experience: Experience,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    let mut tidy_at = Timestamp::MIN;
    let mut report = Report::new(clock::now());
    loop {
        let now = clock::now();
        report.step(&store, now).await?;
        experience.keep(&store, now, false).await?;
        let more = now >= tidy_at && step(&store, &keep, now).await?;
        if !more && now >= tidy_at {
            tidy_at = now.saturating_add(PAUSE).unwrap_or(Timestamp::MAX);
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            () = clock::sleep(if more { BREATH } else { ROUND }) => {}
        }
    }
    experience.keep(&store, clock::now(), true).await
}

/// One bite; says whether there is more.
pub async fn step(store: &Store, keep: &StoreConfig, now: Timestamp) -> Result<bool, StoreError> {
    let attempts = store.prune_attempts(before(now, keep.keep_attempts), BITE).await?;
    let labels = store.prune_finished(before(now, keep.keep_finished), BITE).await?;
    if attempts + labels > 0 {
        info!(attempts, labels, "pruned what was kept long enough");
    }
    Ok(attempts >= u64::from(BITE) || labels >= u64::from(BITE))
}

fn before(now: Timestamp, kept: Duration) -> Timestamp {
    let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
    now.saturating_sub(kept).unwrap_or(Timestamp::MIN)
}
