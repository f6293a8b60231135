//! The trade that keeps the registry in step with the configuration.
//!
//! A million labels are written in chunks, between which polls and deliveries go on. Only the latest configuration
//! counts: one that arrives meanwhile is applied next.

use std::sync::Arc;

use tokio::sync::watch;
use tracing::info;

use crate::clock;
use crate::domain::label::Registration;
use crate::store::{Store, StoreError};

/// The labels that the configuration asks for; `None` until it was read.
pub type Wanted = Option<Arc<Vec<Registration>>>;

/// Applies whatever `wanted` holds, until `shutdown`.
pub async fn run(
    store: Store,
    mut wanted: watch::Receiver<Wanted>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), StoreError> {
    loop {
        let labels = wanted.borrow_and_update().clone();
        if let Some(labels) = labels {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
                done = step(&store, &labels) => done?,
            }
        }
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return Ok(()),
            changed = wanted.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Makes `labels` the ones the configuration asks for.
pub async fn step(store: &Store, labels: &[Registration]) -> Result<(), StoreError> {
    let applied = store.apply_configured(labels, clock::now()).await?;
    if applied.added + applied.changed + applied.retired > 0 {
        info!(
            labels = labels.len(),
            added = applied.added,
            changed = applied.changed,
            retired = applied.retired,
            "labels registered"
        );
    }
    Ok(())
}
