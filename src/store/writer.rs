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
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::changes::Watcher;
use super::checkpoints::{self, Written};
use super::file::OpenFiles;
use super::health::SubscriberHealths;
use super::label_reads::LabelReader;
use super::outbox::handover::Handover;
use super::outbox::{self, EndedAttempt, NewDelivery, Settled};
use super::polls::{self, Flush, PollRecord, Recorded};
use super::{StoreError, accounts, messages};
use crate::clock::{self, Stopwatch};
use crate::crash::CrashPoint;
use crate::metrics::metrics;

/// The most jobs one transaction takes.
const BATCH: usize = 256;
/// How long settlements wait for company at most.
const COMPANY: Duration = Duration::from_millis(50);
/// Jobs waiting before callers do.
const QUEUE: usize = 1024;

/// A future that borrows the writer's connection.
pub type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

type Alone = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, ()> + Send>;

enum Job {
    Poll(Box<PollRecord>, oneshot::Sender<Result<Recorded, StoreError>>),
    Flush(Box<Flush>, oneshot::Sender<Result<(), StoreError>>),
    Settle(Box<EndedAttempt>, oneshot::Sender<Result<Settled, StoreError>>),
    Alone(Alone),
    /// Takes no further jobs.
    End,
}

impl Job {
    fn can_wait(&self) -> bool {
        matches!(self, Self::Settle(attempt, _) if attempt.can_wait)
    }
}

/// Where jobs are put. Cheap to clone; when the last one is dropped, the writer ends.
#[derive(Clone, Debug)]
pub(super) struct WriteQueue {
    jobs: mpsc::Sender<Job>,
    disaster: Disaster,
}

/// How the database failed first. SQLite ends the transaction then, and what the connection says afterwards is about
/// that, not about the reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Disaster(Arc<OnceLock<StoreError>>);

impl Disaster {
    fn note<T>(&self, done: &Result<T, StoreError>) {
        if let Some(error) = done.as_ref().err().filter(|error| error.is_disaster()) {
            // Only the first one counts.
            let _ = self.0.set(error.clone());
        }
    }
}

/// A queue and its other end.
pub(super) fn write_queue() -> (WriteQueue, Jobs) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let disaster = Disaster::default();
    (WriteQueue { jobs: sender, disaster: disaster.clone() }, Jobs { receiver, disaster })
}

/// The writer's end of the queue.
pub(super) struct Jobs {
    receiver: mpsc::Receiver<Job>,
    disaster: Disaster,
}

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

    pub(super) async fn flush(&self, flush: Flush) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.put(Job::Flush(Box::new(flush), reply)).await?;
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
        let disaster = self.disaster.clone();
        let alone: Alone = Box::new(move |connection| {
            Box::pin(async move {
                let done = alone(connection, work).await;
                disaster.note(&done);
                // Whoever asked may have gone; what was done stays done.
                let _ = reply.send(done);
                Ok(())
            })
        });
        self.put(Job::Alone(alone)).await?;
        answer.await.map_err(|_| StoreError::WriterGone)?
    }

    /// How the database failed first, if it did.
    pub(super) fn disaster(&self) -> Option<StoreError> {
        self.disaster.0.get().cloned()
    }

    /// Ends the writer when what was put here before is written.
    pub(super) async fn end(&self) {
        // It may have ended already.
        let _ = self.put(Job::End).await;
    }

    async fn put(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| StoreError::WriterGone)
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

/// The connections that are used one job at a time.
#[derive(Debug)]
pub(super) struct Connections {
    /// The only one that writes.
    pub connection: SqliteConnection,
    /// Makes checkpoints beside it.
    pub checkpointer: SqliteConnection,
    /// Reads the labels of polls.
    pub label_reader: LabelReader,
}

/// Owns the only connection that writes.
#[derive(Debug)]
pub struct Writer {
    connections: Connections,
    jobs: Jobs,
    handover: Handover,
    healths: SubscriberHealths,
    watcher: Watcher,
    written: Written,
    files: Arc<OpenFiles>,
}

#[derive(Default)]
struct Batch {
    flushes: Vec<Flush>,
    flush_replies: Vec<oneshot::Sender<Result<(), StoreError>>>,
    polls: Vec<PollRecord>,
    poll_replies: Vec<oneshot::Sender<Result<Recorded, StoreError>>>,
    ended: Vec<EndedAttempt>,
    settle_replies: Vec<oneshot::Sender<Result<Settled, StoreError>>>,
}

impl Writer {
    pub(super) fn new(
        connections: Connections,
        jobs: Jobs,
        handover: Handover,
        watcher: Watcher,
        files: Arc<OpenFiles>,
    ) -> Self {
        let (healths, written) = (SubscriberHealths::default(), Written::default());
        Self { connections, jobs, handover, healths, watcher, written, files }
    }

    /// Writes until it is told to end or every handle to the store is gone.
    pub async fn run(self) {
        let Self { connections, jobs, handover, healths, watcher, written, files } = self;
        let Connections { connection, mut checkpointer, mut label_reader } = connections;
        let mut writing =
            Writing { connection, jobs, handover, healths, watcher, written: &written, files, lost: false };
        tokio::select! {
            () = writing.run() => {}
            () = checkpoints::run(&mut checkpointer, &written) => {}
            // It ends when every handle is gone, and so does the writer.
            () = async { label_reader.run().await; std::future::pending().await } => {}
        }
        checkpoints::close(label_reader.connection).await;
        writing.close(checkpointer).await;
    }
}

/// The writer at work.
struct Writing<'a> {
    connection: SqliteConnection,
    jobs: Jobs,
    handover: Handover,
    healths: SubscriberHealths,
    watcher: Watcher,
    written: &'a Written,
    files: Arc<OpenFiles>,
    /// The path no longer names the open file.
    lost: bool,
}

impl Writing<'_> {
    async fn run(&mut self) {
        let mut arrived = Vec::with_capacity(BATCH);
        loop {
            self.watcher.look(&mut self.connection).await;
            tokio::select! {
                biased;
                jobs = self.jobs.receiver.recv_many(&mut arrived, BATCH) => if jobs == 0 { return },
                () = self.watcher.wait() => {}
            }
            self.wait_for_company(&mut arrived).await;
            self.lost = self.lost || !arrived.is_empty() && self.files.check().is_err();
            let mut batch = Batch::default();
            for job in arrived.drain(..) {
                match job {
                    Job::End => self.jobs.receiver.close(),
                    // Nobody would find it again: whoever asked hears that the writer is gone.
                    _ if self.lost => {}
                    Job::Poll(record, reply) => {
                        batch.polls.push(*record);
                        batch.poll_replies.push(reply);
                    }
                    Job::Flush(flush, reply) => {
                        batch.flushes.push(*flush);
                        batch.flush_replies.push(reply);
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

    /// Settlements that nobody waits for go with what comes next, for a while: a commit costs more than they do.
    ///
    /// If we die meanwhile, they are sent again under the same id, as if we had died a moment earlier.
    async fn wait_for_company(&mut self, arrived: &mut Vec<Job>) {
        let company = clock::sleep(COMPANY);
        tokio::pin!(company);
        while !arrived.is_empty() && arrived.len() < BATCH && arrived.iter().all(Job::can_wait) {
            let room = BATCH - arrived.len();
            tokio::select! {
                biased;
                jobs = self.jobs.receiver.recv_many(arrived, room) => if jobs == 0 { return },
                () = &mut company => return,
            }
        }
    }

    async fn close(self, checkpointer: SqliteConnection) {
        if self.lost && self.files.are_emptied() {
            // A close would fill the file up with the pages that happen to be in the WAL: neither the old database nor
            // an empty one. As it is, the next start begins a new one.
            std::mem::forget(checkpointer);
            return std::mem::forget(self.connection);
        }
        checkpoints::close(checkpointer).await;
        let mut connection = self.connection;
        if self.lost {
            // The WAL belongs to the file that was open, and would damage the one that is at the path now. Afterwards the
            // file that was open, wherever it was moved, has all that was written.
            let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        }
        // Leaves no WAL behind; a failure costs the next start a moment.
        let _ = connection.close().await;
    }

    async fn write(&mut self, batch: Batch) {
        if batch.polls.is_empty() && batch.ended.is_empty() && batch.flushes.is_empty() {
            return;
        }
        let Batch { flushes, flush_replies, mut polls, poll_replies, ended, settle_replies } = batch;
        let watch = Stopwatch::start();
        let together = self.commit(&flushes, &mut polls, &ended).await;
        self.jobs.disaster.note(&together);
        let rows =
            flushes.iter().map(|flush| flush.unchanged.len()).sum::<usize>() + polls.len() + ended.len();
        self.written.add(rows);
        let several = flushes.len() + polls.len() + ended.len() > 1;
        match together {
            Ok((recorded, settled)) => {
                metrics().batch(rows, watch.elapsed());
                for reply in flush_replies {
                    let _ = reply.send(Ok(()));
                }
                for (reply, recorded) in poll_replies.into_iter().zip(recorded) {
                    let _ = reply.send(Ok(recorded));
                }
                for (reply, settled) in settle_replies.into_iter().zip(settled) {
                    let _ = reply.send(Ok(settled));
                }
            }
            // One bad row must not take the others with it: each for itself, so that only its own caller is told.
            Err(error) if several && !error.is_disaster() => {
                for (flush, reply) in flushes.into_iter().zip(flush_replies) {
                    let done = self.commit(std::slice::from_ref(&flush), &mut [], &[]).await;
                    let _ = reply.send(done.map(|_| ()));
                }
                for (mut record, reply) in polls.into_iter().zip(poll_replies) {
                    let done = self.commit(&[], std::slice::from_mut(&mut record), &[]).await;
                    let _ = reply.send(done.map(|(mut recorded, _)| recorded.remove(0)));
                }
                for (attempt, reply) in ended.into_iter().zip(settle_replies) {
                    let done = self.commit(&[], &mut [], std::slice::from_ref(&attempt)).await;
                    let _ = reply.send(done.map(|(_, mut settled)| settled.remove(0)));
                }
            }
            Err(error) => {
                for reply in flush_replies {
                    let _ = reply.send(Err(error.clone()));
                }
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
        flushes: &[Flush],
        polls: &mut [PollRecord],
        ended: &[EndedAttempt],
    ) -> Result<(Vec<Recorded>, Vec<Settled>), StoreError> {
        let mut new: Vec<NewDelivery> = Vec::new();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        // First: what was in memory is older than what polls of the same labels found since.
        for flush in flushes {
            polls::flush(&mut transaction, flush).await?;
        }
        messages::number_repetitions(&mut transaction, polls).await?;
        let recorded = match &*polls {
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
        CrashPoint::BeforeCommit.reached();
        transaction.commit().await?;
        CrashPoint::AfterCommit.reached();
        // If the file was lost meanwhile, nothing of this was recorded, and nobody must be told of it.
        self.files.check()?;
        if let Some(settled) = settled.last() {
            self.handover.settled(settled.version);
        }
        self.handover.give(new);
        Ok((recorded, settled))
    }
}
