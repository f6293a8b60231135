//! Queue of the writer's jobs.

use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;
use crate::store::outbox::{AttemptResult, EndedAttempt};
use crate::store::polls::{PollBatch, PollRecord, RecordResult};

/// Capacity of the queue; callers wait when it is full.
const QUEUE_CAPACITY: usize = 1024;

/// A future that borrows the writer's connection.
pub type WriterWork<'c, T> = BoxFuture<'c, Result<T, sqlx::Error>>;

/// Answer to a caller.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) type OwnTransaction =
    Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> WriterWork<'c, ()> + Send>;

/// A job of the writer.
pub(super) enum Job {
    Poll(Box<PollRecord>, Reply<RecordResult>),
    Flush(Box<PollBatch>, Reply<()>),
    Attempt(Box<EndedAttempt>, Reply<AttemptResult>),
    OwnTransaction(OwnTransaction),
    /// An empty transaction.
    EmptyTransaction(Reply<()>),
    End,
}

impl Job {
    pub(super) fn can_wait(&self) -> bool {
        matches!(self, Self::Attempt(attempt, _) if attempt.can_wait)
    }
}

/// Queue of jobs. Cheap to clone; the writer ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub(in crate::store) struct WriteQueue {
    jobs: mpsc::Sender<Job>,
    first_failure: FirstFailure,
}

/// The first error of the database itself; later errors of the connection only follow from it.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct FirstFailure(Arc<OnceLock<StoreError>>);

impl FirstFailure {
    pub(super) fn note<T>(&self, done: &Result<T, StoreError>) {
        if let Some(error) = done.as_ref().err().filter(|error| error.is_database_failure()) {
            let _ = self.0.set(error.clone());
        }
    }
}

/// Returns a queue and its receiver.
pub(in crate::store) fn write_queue() -> (WriteQueue, Jobs) {
    let (sender, receiver) = mpsc::channel(QUEUE_CAPACITY);
    let first_failure = FirstFailure::default();
    (WriteQueue { jobs: sender, first_failure: first_failure.clone() }, Jobs { receiver, first_failure })
}

/// Receiver of the queue.
#[derive(Debug)]
pub(in crate::store) struct Jobs {
    pub(super) receiver: mpsc::Receiver<Job>,
    pub(super) first_failure: FirstFailure,
}

impl WriteQueue {
    pub(in crate::store) async fn poll(&self, record: PollRecord) -> Result<RecordResult, StoreError> {
        self.submit(|reply| Job::Poll(Box::new(record), reply)).await?
    }

    pub(in crate::store) async fn flush(&self, flush: PollBatch) -> Result<(), StoreError> {
        self.submit(|reply| Job::Flush(Box::new(flush), reply)).await?
    }

    pub(in crate::store) async fn attempt(&self, attempt: EndedAttempt) -> Result<AttemptResult, StoreError> {
        self.submit(|reply| Job::Attempt(Box::new(attempt), reply)).await?
    }

    /// Fails if the writer cannot begin and commit a transaction.
    pub(in crate::store) async fn check_alive(&self) -> Result<(), StoreError> {
        self.submit(Job::EmptyTransaction).await?
    }

    /// Runs `work` in its own transaction.
    pub(in crate::store) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> WriterWork<'c, T> + Send + 'static,
    {
        let first_failure = self.first_failure.clone();
        let job = |reply: Reply<T>| {
            let job: OwnTransaction = Box::new(move |connection| {
                Box::pin(async move {
                    let done = in_own_transaction(connection, work).await;
                    first_failure.note(&done);
                    // The caller may have been dropped; the write is committed regardless.
                    let _ = reply.send(done);
                    Ok(())
                })
            });
            Job::OwnTransaction(job)
        };
        self.submit(job).await?
    }

    /// Returns the first error of the database itself, if any.
    pub(in crate::store) fn first_failure(&self) -> Option<StoreError> {
        self.first_failure.0.get().cloned()
    }

    /// Ends the writer after all earlier jobs are written.
    pub(in crate::store) async fn end(&self) {
        // The writer may have ended already.
        let _ = self.put(Job::End).await;
    }

    /// Puts a job into the queue and waits for the writer's answer.
    async fn submit<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(job(reply)).await?;
        answer.await.map_err(|_| StoreError::WriterGone)
    }

    async fn put(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| StoreError::WriterGone)
    }
}

/// Runs `work` in a transaction of its own.
pub(super) async fn in_own_transaction<T, F>(
    connection: &mut SqliteConnection,
    work: F,
) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> WriterWork<'c, T>,
{
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = work(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done)
}
