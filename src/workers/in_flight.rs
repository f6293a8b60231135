//! The tasks of a worker in flight, at most one per key.
//!
//! They are tasks of their own, so that a task that waits for the database does not wait for the worker's loop. They
//! end with the worker. A key is in flight until its task has ended, so nothing is started twice.

use std::collections::HashMap;

use tokio::task::{JoinError, JoinSet};

use crate::store::StoreError;

/// Tasks by key. `N` describes the task; each task returns a `D`.
#[derive(Debug)]
pub struct InFlight<N, D> {
    notes: HashMap<i64, N>,
    tasks: JoinSet<(i64, Result<D, StoreError>)>,
}

impl<N, D> Default for InFlight<N, D> {
    fn default() -> Self {
        Self { notes: HashMap::new(), tasks: JoinSet::new() }
    }
}

impl<N, D: Send + 'static> InFlight<N, D> {
    pub fn start(
        &mut self,
        key: i64,
        note: N,
        work: impl Future<Output = Result<D, StoreError>> + Send + 'static,
    ) {
        self.notes.insert(key, note);
        self.tasks.spawn(async move { (key, work.await) });
    }

    /// Waits until a task has ended; `None` at once if none is in flight. Cancel safe.
    pub async fn ended(&mut self) -> Option<Result<D, StoreError>> {
        let ended = self.tasks.join_next().await?;
        Some(self.finish(ended))
    }

    /// Returns a task that has ended already.
    pub fn ended_by_now(&mut self) -> Option<Result<D, StoreError>> {
        let ended = self.tasks.try_join_next()?;
        Some(self.finish(ended))
    }

    fn finish(&mut self, ended: Result<(i64, Result<D, StoreError>), JoinError>) -> Result<D, StoreError> {
        let (key, done) = ended.map_err(|error| StoreError::Panicked(error.to_string()))?;
        self.notes.remove(&key);
        done
    }

    /// Waits until all tasks have ended.
    pub async fn drain(&mut self) -> Result<(), StoreError> {
        while let Some(ended) = self.ended().await {
            ended?;
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn has(&self, key: i64) -> bool {
        self.notes.contains_key(&key)
    }

    pub fn notes(&self) -> impl Iterator<Item = &N> {
        self.notes.values()
    }
}
