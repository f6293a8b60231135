//! The writer: runs all writes on one connection, and commits waiting polls and ended attempts together.
//!
//! With group commit a durable write (`synchronous = FULL`) costs hardly more than a lazy one. Polls and ended attempts
//! are frequent and are written with many rows per statement. Each other job runs in its own transaction. New
//! deliveries are handed to their couriers after the commit.
//!
//! Crash point: between two commits, nothing of the later one has happened and no caller was answered. The next start
//! finds the work still due.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use tracing::warn;

use crate::clock::{self, Stopwatch};
use crate::crash::CrashPoint;
use crate::metrics::metrics;
use crate::store::changes::Watcher;
use crate::store::checkpoints::{self, WritesSinceCheckpoint};
use crate::store::file::OpenFiles;
use crate::store::health::SubscriberHealths;
use crate::store::label_reads::LabelReader;
use crate::store::outbox::handover::Handover;
use crate::store::outbox::{self, AttemptResult, EndedAttempt, NewDelivery};
use crate::store::polls::{self, PollBatch, PollRecord, RecordResult};
use crate::store::{StoreError, accounts, messages};

pub use queue::WriterWork;
use queue::{Job, Reply, in_own_transaction};
pub(super) use queue::{Jobs, WriteQueue, write_queue};

/// Maximum number of jobs per transaction.
const MAX_JOBS: usize = 256;
/// Maximum time that ended attempts wait for other jobs.
const GROUP_WAIT: Duration = Duration::from_millis(50);

/// The writer, with what runs beside it.
#[derive(Debug)]
pub struct Writer {
    writing: Writing,
    /// Makes checkpoints concurrently.
    checkpointer: SqliteConnection,
    /// Reads the labels of polls.
    label_reader: LabelReader,
}

/// Jobs of one kind that are written together, each with its caller.
struct Group<J, R> {
    jobs: Vec<J>,
    replies: Vec<Reply<R>>,
}

impl<J, R> Default for Group<J, R> {
    fn default() -> Self {
        Self { jobs: Vec::new(), replies: Vec::new() }
    }
}

impl<J, R> Group<J, R> {
    fn push(&mut self, job: J, reply: Reply<R>) {
        self.jobs.push(job);
        self.replies.push(reply);
    }

    // A caller may have been dropped; the write is committed regardless.
    fn answer(self, results: impl IntoIterator<Item = Result<R, StoreError>>) {
        self.replies.into_iter().zip(results).for_each(|(reply, result)| drop(reply.send(result)));
    }

    fn fail(self, error: &StoreError) {
        self.answer(std::iter::repeat_with(|| Err(error.clone())));
    }

    /// Splits it into groups of one job.
    fn split(self) -> impl Iterator<Item = Self> {
        let jobs = self.jobs.into_iter().zip(self.replies);
        jobs.map(|(job, reply)| Self { jobs: vec![job], replies: vec![reply] })
    }
}

#[derive(Default)]
struct JobBatch {
    flushes: Group<PollBatch, ()>,
    polls: Group<PollRecord, RecordResult>,
    ended: Group<EndedAttempt, AttemptResult>,
}

impl JobBatch {
    fn len(&self) -> usize {
        self.flushes.jobs.len() + self.polls.jobs.len() + self.ended.jobs.len()
    }

    /// Number of polls and ended attempts.
    fn rows(&self) -> usize {
        let unchanged = self.flushes.jobs.iter().map(|flush| flush.unchanged.len());
        unchanged.sum::<usize>() + self.polls.jobs.len() + self.ended.jobs.len()
    }

    fn fail(self, error: &StoreError) {
        self.flushes.fail(error);
        self.polls.fail(error);
        self.ended.fail(error);
    }

    /// Splits it into batches of one job, in the order in which jobs are written.
    fn split(self) -> impl Iterator<Item = Self> {
        let flushes = self.flushes.split().map(|flushes| Self { flushes, ..Self::default() });
        let polls = self.polls.split().map(|polls| Self { polls, ..Self::default() });
        let ended = self.ended.split().map(|ended| Self { ended, ..Self::default() });
        flushes.chain(polls).chain(ended)
    }
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        checkpointer: SqliteConnection,
        label_reader: LabelReader,
        jobs: Jobs,
        handover: Handover,
        watcher: Watcher,
        files: Arc<OpenFiles>,
    ) -> Self {
        let (healths, written) = (SubscriberHealths::default(), Arc::default());
        let writing =
            Writing { connection, jobs, handover, healths, watcher, written, files, file_is_lost: false };
        Self { writing, checkpointer, label_reader }
    }

    /// Runs until it is ended or every handle to the store is dropped.
    pub async fn run(self) {
        let Self { mut writing, mut checkpointer, mut label_reader } = self;
        let written = Arc::clone(&writing.written);
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

/// Writes all jobs.
#[derive(Debug)]
struct Writing {
    /// The only connection that writes.
    connection: SqliteConnection,
    jobs: Jobs,
    handover: Handover,
    healths: SubscriberHealths,
    watcher: Watcher,
    written: Arc<WritesSinceCheckpoint>,
    files: Arc<OpenFiles>,
    /// Whether the path stopped naming the open file.
    file_is_lost: bool,
}

impl Writing {
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
            self.file_is_lost = self.file_is_lost || !arrived.is_empty() && self.files.check().is_err();
            let mut batch = JobBatch::default();
            for job in arrived.drain(..) {
                match job {
                    Job::End => self.jobs.receiver.close(),
                    // The write would be lost, so the caller gets an error: the writer has ended.
                    _ if self.file_is_lost => {}
                    Job::Poll(record, reply) => batch.polls.push(*record, reply),
                    Job::Flush(flush, reply) => batch.flushes.push(*flush, reply),
                    Job::Attempt(attempt, reply) => batch.ended.push(*attempt, reply),
                    Job::OwnTransaction(work) => {
                        // The job answers its caller itself.
                        let _ = work(&mut self.connection).await;
                        self.written.add(1);
                    }
                    // Not counted as written: it must not delay the checkpoint of an idle daemon.
                    Job::EmptyTransaction(reply) => {
                        let done =
                            in_own_transaction(&mut self.connection, |_| Box::pin(async { Ok(()) })).await;
                        self.jobs.first_failure.note(&done);
                        let _ = reply.send(done);
                    }
                }
            }
            if batch.len() > 0 {
                self.write(batch).await;
            }
        }
    }

    /// Waits for other jobs while all jobs are ended attempts without a caller: a commit costs more than they do.
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
        if self.file_is_lost && self.files.are_emptied() {
            // Closing would checkpoint the WAL into the emptied file, which would then be neither the old database nor
            // an empty one. Without it the next start creates a new database.
            std::mem::forget(checkpointer);
            return std::mem::forget(self.connection);
        }
        let _ = checkpointer.close().await;
        let mut connection = self.connection;
        if self.file_is_lost {
            // The WAL belongs to the open file and would damage the file at the path. Write it to the open file.
            let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        }
        // Removes the WAL; after a failure the next start takes slightly longer.
        let _ = connection.close().await;
    }

    async fn write(&mut self, mut batch: JobBatch) {
        let (watch, rows) = (Stopwatch::start(), batch.rows());
        let together = self.commit(&mut batch).await;
        self.jobs.first_failure.note(&together);
        match together {
            Ok((recorded, results)) => {
                self.written.add(rows);
                metrics().batch(rows, watch.elapsed());
                batch.flushes.answer(std::iter::repeat_with(|| Ok(())));
                batch.polls.answer(recorded.into_iter().map(Ok));
                batch.ended.answer(results.into_iter().map(Ok));
            }
            // A rejected row must not fail other jobs: write each by itself.
            Err(error) if batch.len() > 1 && !error.is_database_failure() => {
                warn!(error = %error, jobs = batch.len(), "the database rejected a row: each job is written by itself");
                for single in batch.split() {
                    Box::pin(self.write(single)).await;
                }
            }
            Err(error) => batch.fail(&error),
        }
    }

    /// Runs one transaction. Deliveries are handed over before any caller is answered.
    ///
    /// Crash point: before the commit, nothing of it happened. After the commit, all of it happened, and the next start
    /// reads deliveries from the table that were not handed over.
    async fn commit(
        &mut self,
        batch: &mut JobBatch,
    ) -> Result<(Vec<RecordResult>, Vec<AttemptResult>), StoreError> {
        let (flushes, polls, ended) = (&batch.flushes.jobs, &mut batch.polls.jobs[..], &batch.ended.jobs[..]);
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
        let results = match ended {
            [] => Vec::new(),
            ended => outbox::record_attempts(&mut transaction, ended, &mut self.healths, &mut new).await?,
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
        if let Some(result) = results.last() {
            self.handover.record_transaction(result.transaction);
        }
        self.handover.hand_over(new);
        Ok((recorded, results))
    }
}
