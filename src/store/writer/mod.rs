//! The writer: runs all writes on one connection, and commits waiting polls and settlements together.
//!
//! With group commit a durable write (`synchronous = FULL`) costs hardly more than a lazy one. Polls and settlements
//! are frequent and are written with many rows per statement. Each other job runs in its own transaction. New
//! deliveries are handed to their couriers after the commit.
//!
//! Crash point: between two commits, nothing of the later one has happened and no caller was answered. The next start
//! finds the work still due.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tokio::sync::oneshot;

use crate::clock::{self, Stopwatch};
use crate::crash::CrashPoint;
use crate::metrics::metrics;
use crate::store::changes::Watcher;
use crate::store::checkpoints::{self, RowsWritten};
use crate::store::file::OpenFiles;
use crate::store::health::SubscriberHealths;
use crate::store::label_reads::LabelReader;
use crate::store::outbox::handover::Handover;
use crate::store::outbox::{self, EndedAttempt, NewDelivery, Settled};
use crate::store::polls::{self, PollBatch, PollRecord, RecordResult};
use crate::store::{StoreError, accounts, messages};

pub use queue::WriterWork;
use queue::{Job, in_own_transaction};
pub(super) use queue::{Jobs, WriteQueue, write_queue};

/// Maximum number of jobs per transaction.
const MAX_JOBS: usize = 256;
/// Maximum time that settlements wait for other jobs.
const GROUP_WAIT: Duration = Duration::from_millis(50);

/// Connections of the writer, each for one purpose.
#[derive(Debug)]
pub(super) struct WriterConnections {
    /// The only connection that writes.
    pub connection: SqliteConnection,
    /// Makes checkpoints concurrently.
    pub checkpointer: SqliteConnection,
    /// Reads the labels of polls.
    pub label_reader: LabelReader,
}

/// Owns the only writing connection.
#[derive(Debug)]
pub struct Writer {
    connections: WriterConnections,
    jobs: Jobs,
    handover: Handover,
    healths: SubscriberHealths,
    watcher: Watcher,
    written: RowsWritten,
    files: Arc<OpenFiles>,
}

#[derive(Default)]
struct JobBatch {
    flushes: Vec<PollBatch>,
    flush_replies: Vec<oneshot::Sender<Result<(), StoreError>>>,
    polls: Vec<PollRecord>,
    poll_replies: Vec<oneshot::Sender<Result<RecordResult, StoreError>>>,
    ended: Vec<EndedAttempt>,
    settle_replies: Vec<oneshot::Sender<Result<Settled, StoreError>>>,
}

impl Writer {
    pub(super) fn new(
        connections: WriterConnections,
        jobs: Jobs,
        handover: Handover,
        watcher: Watcher,
        files: Arc<OpenFiles>,
    ) -> Self {
        let (healths, written) = (SubscriberHealths::default(), RowsWritten::default());
        Self { connections, jobs, handover, healths, watcher, written, files }
    }

    /// Runs until it is ended or every handle to the store is dropped.
    pub async fn run(self) {
        let Self { connections, jobs, handover, healths, watcher, written, files } = self;
        let WriterConnections { connection, mut checkpointer, mut label_reader } = connections;
        let mut writing =
            Writing { connection, jobs, handover, healths, watcher, written: &written, files, lost: false };
        tokio::select! {
            () = writing.run() => {}
            () = checkpoints::run(&mut checkpointer, &written) => {}
            // The reader ends when every handle is dropped, and the writer with it.
            () = async { label_reader.run().await; std::future::pending().await } => {}
        }
        let _ = label_reader.connection.close().await;
        writing.close(checkpointer).await;
    }
}

/// State of the running writer.
struct Writing<'a> {
    connection: SqliteConnection,
    jobs: Jobs,
    handover: Handover,
    healths: SubscriberHealths,
    watcher: Watcher,
    written: &'a RowsWritten,
    files: Arc<OpenFiles>,
    /// Whether the path stopped naming the open file.
    lost: bool,
}

impl Writing<'_> {
    async fn run(&mut self) {
        let mut arrived = Vec::with_capacity(MAX_JOBS);
        loop {
            self.watcher.read_version(&mut self.connection).await;
            self.written.complete_checkpoint(&mut self.connection).await;
            tokio::select! {
                biased;
                jobs = self.jobs.receiver.recv_many(&mut arrived, MAX_JOBS) => if jobs == 0 { return },
                () = self.watcher.wait() => {}
            }
            self.wait_for_more_jobs(&mut arrived).await;
            self.lost = self.lost || !arrived.is_empty() && self.files.check().is_err();
            let mut batch = JobBatch::default();
            for job in arrived.drain(..) {
                match job {
                    Job::End => self.jobs.receiver.close(),
                    // The write would be lost, so the caller gets an error: the writer has ended.
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
                    Job::OwnTransaction(work) => {
                        // The job answers its caller itself.
                        let _ = work(&mut self.connection).await;
                        self.written.add(1);
                    }
                    // Not counted as written: it must not delay the checkpoint of an idle daemon.
                    Job::Ping(reply) => {
                        let done =
                            in_own_transaction(&mut self.connection, |_| Box::pin(async { Ok(()) })).await;
                        self.jobs.first_failure.note(&done);
                        let _ = reply.send(done);
                    }
                }
            }
            self.write(batch).await;
        }
    }

    /// Waits for other jobs while all jobs are settlements without a caller: a commit costs more than they do.
    ///
    /// Crash point: during this wait, the deliveries are sent again under the same id.
    async fn wait_for_more_jobs(&mut self, arrived: &mut Vec<Job>) {
        let deadline = clock::sleep(GROUP_WAIT);
        tokio::pin!(deadline);
        while !arrived.is_empty() && arrived.len() < MAX_JOBS && arrived.iter().all(Job::can_wait) {
            let room = MAX_JOBS - arrived.len();
            tokio::select! {
                biased;
                jobs = self.jobs.receiver.recv_many(arrived, room) => if jobs == 0 { return },
                () = &mut deadline => return,
            }
        }
    }

    async fn close(self, checkpointer: SqliteConnection) {
        if self.lost && self.files.are_emptied() {
            // Closing would checkpoint the WAL into the emptied file, which would then be neither the old database nor
            // an empty one. Without it the next start creates a new database.
            std::mem::forget(checkpointer);
            return std::mem::forget(self.connection);
        }
        let _ = checkpointer.close().await;
        let mut connection = self.connection;
        if self.lost {
            // The WAL belongs to the open file and would damage the file at the path. Write it to the open file.
            let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        }
        // Removes the WAL; after a failure the next start takes slightly longer.
        let _ = connection.close().await;
    }

    async fn write(&mut self, batch: JobBatch) {
        if batch.polls.is_empty() && batch.ended.is_empty() && batch.flushes.is_empty() {
            return;
        }
        let JobBatch { flushes, flush_replies, mut polls, poll_replies, ended, settle_replies } = batch;
        let watch = Stopwatch::start();
        let together = self.commit(&flushes, &mut polls, &ended).await;
        self.jobs.first_failure.note(&together);
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
            // A rejected row must not fail other jobs: write each by itself.
            Err(error) if several && !error.is_database_failure() => {
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

    /// Runs one transaction. Deliveries are handed over before any caller is answered.
    ///
    /// Crash point: before the commit, nothing of it happened. After the commit, all of it happened, and the next start
    /// reads deliveries from the table that were not handed over.
    async fn commit(
        &mut self,
        flushes: &[PollBatch],
        polls: &mut [PollRecord],
        ended: &[EndedAttempt],
    ) -> Result<(Vec<RecordResult>, Vec<Settled>), StoreError> {
        let mut new: Vec<NewDelivery> = Vec::new();
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        // First, because the batches in memory are older than later polls of the same labels.
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
                new.extend(accounts::write_status(&mut transaction, account).await?);
            }
        }
        CrashPoint::BeforeCommit.reached();
        transaction.commit().await?;
        CrashPoint::AfterCommit.reached();
        // If the file was lost meanwhile, nothing was recorded, and callers must not get a success.
        self.files.check()?;
        if let Some(settled) = settled.last() {
            self.handover.record_settled(settled.version);
        }
        self.handover.hand_over(new);
        Ok((recorded, settled))
    }
}
