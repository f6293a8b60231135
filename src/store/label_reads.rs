//! Reads of the labels of polls: one statement on a held connection for all waiting reads.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::bulk::Bulk;
use super::history::{history_of, read_history};
use super::label_row::label_record;
use super::{Store, StoreError};
use crate::domain::polling::label_record::LabelRecord;
use crate::domain::tracking::matching::KnownEvent;
use crate::domain::tracking::reading::Reading;

/// Maximum number of labels per statement.
const BATCH: usize = 64;
/// Capacity of the queue; callers wait when it is full.
const QUEUE_CAPACITY: usize = 1024;

type Reply = oneshot::Sender<Result<Option<SqliteRow>, StoreError>>;

struct LabelRead {
    row: i64,
    history: bool,
    reply: Reply,
}

pub(super) const READ: Bulk = Bulk {
    before: "WITH reads (number, label_key, history) AS (",
    columns: 3,
    after: concat!(
        ") SELECT reads.number, l.*, CASE WHEN reads.history THEN ",
        history_of!("l.label_key"),
        " END AS events FROM reads CROSS JOIN labels l ON l.label_key = reads.label_key"
    ),
};

/// Sends reads to the [`LabelReader`]. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LabelReads(mpsc::Sender<LabelRead>);

/// Executes the reads.
#[derive(Debug)]
pub(super) struct LabelReader {
    pub connection: SqliteConnection,
    reads: mpsc::Receiver<LabelRead>,
}

pub(super) fn label_reads(connection: SqliteConnection) -> (LabelReads, LabelReader) {
    let (sender, reads) = mpsc::channel(QUEUE_CAPACITY);
    (LabelReads(sender), LabelReader { connection, reads })
}

impl LabelReader {
    /// Runs until every handle to the store is dropped.
    pub async fn run(&mut self) {
        let mut reads = Vec::with_capacity(BATCH);
        while self.reads.recv_many(&mut reads, BATCH).await > 0 {
            let (labels, mut replies): (Vec<_>, Vec<_>) =
                reads.drain(..).map(|read| ((read.row, read.history), Some(read.reply))).unzip();
            let labels: Vec<_> = (0_i64..).zip(labels).collect();
            let rows = READ.rows(&mut self.connection, &labels, |(index, (row, history)), values| {
                values.push(*index).push(*row).push(*history);
            });
            match rows.await {
                Ok(rows) => {
                    for row in rows {
                        let index = usize::try_from(row.get::<i64, _>(0)).unwrap_or(usize::MAX);
                        if let Some(reply) = replies.get_mut(index).and_then(Option::take) {
                            // The caller may have been dropped.
                            let _ = reply.send(Ok(Some(row)));
                        }
                    }
                    replies.into_iter().flatten().for_each(|reply| drop(reply.send(Ok(None))));
                }
                Err(error) => {
                    let error = StoreError::from(error);
                    replies.into_iter().flatten().for_each(|reply| drop(reply.send(Err(error.clone()))));
                }
            }
        }
    }
}

impl Store {
    /// Returns a label, with its history if planning `reading` may need it; `None` if the label was deleted.
    pub async fn label_with_history(
        &self,
        row: i64,
        reading: &Reading,
    ) -> Result<(Option<LabelRecord>, Vec<KnownEvent>), StoreError> {
        let (reply, answer) = oneshot::channel();
        let history = matches!(reading, Reading::Answer { .. });
        let read = LabelRead { row, history, reply };
        self.label_reads.0.send(read).await.map_err(|_| StoreError::WriterGone)?;
        let Some(row) = answer.await.map_err(|_| StoreError::WriterGone)?? else {
            return Ok((None, Vec::new()));
        };
        let known = match row.try_get::<Option<&str>, _>("events")? {
            Some(events) => read_history(events)?,
            None => Vec::new(),
        };
        Ok((label_record(&row)?, known))
    }
}
