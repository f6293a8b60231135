//! The one writer: it takes whatever has arrived into one transaction, and nobody waits for a timer.
//!
//! With group commit a durable write (`synchronous = FULL`) costs hardly more than a lazy one. Polls and settlements
//! come often and are written many rows a statement; everything else is a job of its own, in a transaction of its own.
//! New deliveries are handed to their couriers after the commit.
//!
//! If we die between two commits, nothing of the later one has happened: nobody was told, the next start finds the work
//! still due.

use std::future::Future;
use std::pin::Pin;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::changes::Watcher;
use super::checkpoints::{self, Written};
use super::health::Healths;
use super::outbox::handover::Handover;
use super::outbox::{self, EndedAttempt, NewDelivery, Settled};
use super::polls::{self, PollRecord, Recorded};
use super::{StoreError, accounts};

/// The most jobs one transaction takes.
const BATCH: usize = 256;
/// Jobs waiting before callers do.
const QUEUE: usize = 1024;

/// A future that borrows the writer's connection.
pub type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

type Alone = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, ()> + Send>;

enum Job {
    Poll(Box<PollRecord>, oneshot::Sender<Result<Recorded, StoreError>>),
    Settle(Box<EndedAttempt>, oneshot::Sender<Result<Settled, StoreError>>),
    Alone(Alone),
}

/// Where jobs are put. Cheap to clone; when the last one is dropped, the writer ends.
#[derive(Clone, Debug)]
pub(super) struct WriteQueue(mpsc::Sender<Job>);

/// A queue and its other end.
pub(super) fn write_queue() -> (WriteQueue, Jobs) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (WriteQueue(sender), Jobs(receiver))
}

/// The writer's end of the queue.
pub(super) struct Jobs(mpsc::Receiver<Job>);

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

impl WriteQueue {
    pub(super) async fn poll(&self, record: PollRecord) -> Result<Recorded, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(Job::Poll(Box::new(record), reply)).await?;
        answer.await.map_err(|_| StoreError::WriterGone)?
    }

    pub(super) async fn settle(&self, attempt: EndedAttempt) -> Result<Settled, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(Job::Settle(Box::new(attempt), reply)).await?;
        answer.await.map_err(|_| StoreError::WriterGone)?
    }

    /// Does `work` in a transaction of its own.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let alone: Alone = Box::new(move |connection| {
            Box::pin(async move {
                let done = alone(connection, work).await;
                // Whoever asked may have gone; what was done stays done.
                let _ = reply.send(done);
                Ok(())
            })
        });
        self.put(Job::Alone(alone)).await?;
        answer.await.map_err(|_| StoreError::WriterGone)?
    }

    async fn put(&self, job: Job) -> Result<(), StoreError> {
        self.0.send(job).await.map_err(|_| StoreError::WriterGone)
    }
}

async fn alone<T, F>(connection: &mut SqliteConnection, work: F) -> Result<T, StoreError>
where
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T>,
{
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let done = work(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Owns the only connection that writes.
#[derive(Debug)]
pub struct Writer {
    connection: SqliteConnection,
    /// Makes checkpoints beside it.
    checkpointer: SqliteConnection,
    jobs: Jobs,
    handover: Handover,
    healths: Healths,
    watcher: Watcher,
    written: Written,
}

#[derive(Default)]
struct Batch {
    polls: Vec<PollRecord>,
    poll_replies: Vec<oneshot::Sender<Result<Recorded, StoreError>>>,
    ended: Vec<EndedAttempt>,
    settle_replies: Vec<oneshot::Sender<Result<Settled, StoreError>>>,
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        checkpointer: SqliteConnection,
        jobs: Jobs,
        handover: Handover,
        watcher: Watcher,
    ) -> Self {
        let (healths, written) = (Healths::default(), Written::default());
        Self { connection, checkpointer, jobs, handover, healths, watcher, written }
    }

    /// Writes until every handle to the store is gone.
    pub async fn run(self) {
        let Self { connection, mut checkpointer, jobs, handover, healths, watcher, written } = self;
        let mut writing = Writing { connection, jobs, handover, healths, watcher, written: &written };
        tokio::select! {
            () = writing.run() => {}
            () = checkpoints::run(&mut checkpointer, &written) => {}
        }
        checkpoints::close(checkpointer).await;
        // Leaves no WAL behind; a failure costs the next start a moment.
        let _ = writing.connection.close().await;
    }
}

/// The writer at work.
struct Writing<'a> {
    connection: SqliteConnection,
    jobs: Jobs,
    handover: Handover,
    healths: Healths,
    watcher: Watcher,
    written: &'a Written,
}

impl Writing<'_> {
    async fn run(&mut self) {
        let mut arrived = Vec::with_capacity(BATCH);
        loop {
            self.watcher.look(&mut self.connection).await;
            tokio::select! {
                biased;
                jobs = self.jobs.0.recv_many(&mut arrived, BATCH) => if jobs == 0 { return },
                () = self.watcher.wait() => {}
            }
            let mut batch = Batch::default();
            for job in arrived.drain(..) {
                match job {
                    Job::Poll(record, reply) => {
                        batch.polls.push(*record);
                        batch.poll_replies.push(reply);
                    }
                    Job::Settle(attempt, reply) => {
                        batch.ended.push(*attempt);
                        batch.settle_replies.push(reply);
                    }
                    Job::Alone(work) => {
                        // It answers its caller itself.
                        let _ = work(&mut self.connection).await;
                        self.written.add(1);
                    }
                }
            }
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Batch) {
        if batch.polls.is_empty() && batch.ended.is_empty() {
            return;
        }
        let Batch { polls, poll_replies, ended, settle_replies } = batch;
        let together = self.commit(&polls, &ended).await;
        let rows = polls.len() + ended.len();
        self.written.add(rows);
        match together {
            Ok((recorded, settled)) => {
                for (reply, recorded) in poll_replies.into_iter().zip(recorded) {
                    let _ = reply.send(Ok(recorded));
                }
                for (reply, settled) in settle_replies.into_iter().zip(settled) {
                    let _ = reply.send(Ok(settled));
                }
            }
            // One bad row must not take the others with it: each for itself, so that only its own caller is told.
            Err(_) if rows > 1 => {
                for (record, reply) in polls.into_iter().zip(poll_replies) {
                    let done = self.commit(std::slice::from_ref(&record), &[]).await;
                    let _ = reply.send(done.map(|(mut recorded, _)| recorded.remove(0)));
                }
                for (attempt, reply) in ended.into_iter().zip(settle_replies) {
                    let done = self.commit(&[], std::slice::from_ref(&attempt)).await;
                    let _ = reply.send(done.map(|(_, mut settled)| settled.remove(0)));
                }
            }
            Err(error) => {
                for reply in poll_replies {
                    let _ = reply.send(Err(error.clone()));
                }
                for reply in settle_replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction. If we die before its commit, nothing in it happened; after, all of it did: what was not handed
    /// over yet is read from the table by the next start. Deliveries are handed over before anybody is answered.
    async fn commit(
        &mut self,
        polls: &[PollRecord],
        ended: &[EndedAttempt],
    ) -> Result<(Vec<Recorded>, Vec<Settled>), StoreError> {
        let mut new: Vec<NewDelivery> = Vec::new();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        let recorded = match polls {
            [] => Vec::new(),
            polls => polls::record(&mut transaction, polls, &mut new).await?,
        };
        let settled = match ended {
            [] => Vec::new(),
            ended => outbox::settle(&mut transaction, ended, &mut self.healths, &mut new).await?,
        };
        for record in polls {
            if let Some(account) = &record.account {
                new.extend(accounts::keep(&mut transaction, account).await?);
            }
        }
        transaction.commit().await?;
        if let Some(settled) = settled.last() {
            self.handover.settled(settled.version);
        }
        self.handover.give(new);
        Ok((recorded, settled))
    }
}
