//! Sending again: stored messages become pending once more, under the id and with the body that they always had.
//!
//! **Order.** A lane goes by `seq`, also for what is repeated: it becomes the head and goes before all newer messages of
//! its label that still wait, and these wait for it. One that is under way meanwhile ends first, is settled as ever, and
//! nothing else of its lane is sent before that: the courier knows what it has under way and takes nothing up beside it.
//! So what is sent at any one time rises by `seq`, but a receiver that has seen later messages gets earlier ones again.
//! They have their old `webhook-id` and `trackpost-seq`: it can tell that it knows them.
//!
//! Attempts are counted on, but `retry` begins anew: what had used it up, or was often tried before it was accepted, has
//! the whole of it before it is dead again.
//!
//! Written page by page, each label's messages by `seq`. If we die between two pages, what was queued is sent and the
//! rest is not; asked again, the same comes again under the same ids.

use jiff::Timestamp;
use serde::Serialize;

use super::outbox::{promote, step_back};
use super::views::PAGE;
use super::{Store, StoreError, at, json, ms};
use crate::domain::subscriber::{Format, SubscriberName};

/// How a message stands with the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Before {
    Pending,
    Delivered,
    Dead,
    /// It was never owed to it.
    Never,
}

/// Which stored messages are looked at.
#[derive(Clone, Debug)]
pub struct Span {
    pub since: Timestamp,
    /// What was made at this moment no longer belongs to it.
    pub until: Timestamp,
    /// The row of the only label.
    pub label: Option<i64>,
}

/// A stored message and how the subscriber stands with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub row: i64,
    pub message_id: String,
    pub label_row: Option<i64>,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    /// The lane in which it goes; a ping has none.
    pub lane: Option<i64>,
    pub kind: String,
    pub account: Option<String>,
    pub created_at: Timestamp,
    pub before: Before,
}

/// A message to be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// The message's row.
    pub message: i64,
    pub lane: Option<i64>,
    pub before: Before,
    /// Not before this.
    pub at: Timestamp,
}

struct Row {
    message_key: i64,
    message_id: String,
    label_key: Option<i64>,
    label_id: Option<String>,
    seq: Option<i64>,
    subject_key: Option<i64>,
    kind: String,
    account: Option<String>,
    created_at: i64,
    state: Option<String>,
}

impl From<Row> for Stored {
    fn from(row: Row) -> Self {
        Self {
            row: row.message_key,
            message_id: row.message_id,
            label_row: row.label_key,
            label_id: row.label_id,
            seq: row.seq,
            lane: row.label_key.or(row.subject_key.map(|subject| -subject)),
            kind: row.kind,
            account: row.account,
            created_at: at(row.created_at),
            before: match row.state.as_deref() {
                Some("pending") => Before::Pending,
                Some("delivered") => Before::Delivered,
                Some(_) => Before::Dead,
                None => Before::Never,
            },
        }
    }
}

#[derive(Serialize)]
struct AgainWrite<'a> {
    message: i64,
    before: Before,
    // What a lane is called by, and when its head is due.
    subscriber: &'a str,
    lane: Option<i64>,
    since: i64,
}

impl Store {
    /// One page of stored messages behind `after` (none begins): first those of no label, then label by label, by `seq`.
    pub async fn stored_messages(
        &self,
        subscriber: &SubscriberName,
        span: &Span,
        after: Option<&Stored>,
    ) -> Result<Vec<Stored>, StoreError> {
        if span.label.is_none() && after.is_none_or(|stored| stored.label_row.is_none()) {
            let page =
                self.stored_of_no_label(subscriber, span, after.map_or(0, |stored| stored.row)).await?;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        let behind = after.and_then(|stored| stored.label_row.zip(stored.seq));
        self.stored_of_labels(subscriber, span, behind).await
    }

    async fn stored_of_no_label(
        &self,
        subscriber: &SubscriberName,
        span: &Span,
        after: i64,
    ) -> Result<Vec<Stored>, StoreError> {
        let (name, since, until) = (subscriber.as_str(), ms(span.since), ms(span.until));
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT m.message_key, m.message_id, m.label_key, m.label_id, m.seq, m.subject_key, m.type AS kind,
                      m.account, m.created_at, d.state AS "state?"
               FROM messages m LEFT JOIN deliveries d ON d.message_key = m.message_key AND d.subscriber = ?1
               WHERE m.label_key IS NULL AND m.message_key > ?2 AND m.created_at >= ?3 AND m.created_at < ?4
               ORDER BY m.message_key LIMIT ?5"#,
            name,
            after,
            since,
            until,
            PAGE
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(Stored::from).collect())
    }

    async fn stored_of_labels(
        &self,
        subscriber: &SubscriberName,
        span: &Span,
        after: Option<(i64, i64)>,
    ) -> Result<Vec<Stored>, StoreError> {
        let (name, since, until) = (subscriber.as_str(), ms(span.since), ms(span.until));
        let (label, seq) = after.unwrap_or((span.label.unwrap_or(i64::MIN), 0));
        let last = span.label.unwrap_or(i64::MAX);
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT m.message_key, m.message_id, m.label_key, m.label_id, m.seq, m.subject_key, m.type AS kind,
                      m.account, m.created_at, d.state AS "state?"
               FROM messages m LEFT JOIN deliveries d ON d.message_key = m.message_key AND d.subscriber = ?1
               WHERE (m.label_key, m.seq) > (?2, ?3) AND m.label_key <= ?4
                 AND m.created_at >= ?5 AND m.created_at < ?6
               ORDER BY m.label_key, m.seq LIMIT ?7"#,
            name,
            label,
            seq,
            last,
            since,
            until,
            PAGE
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(Stored::from).collect())
    }

    /// Makes one delivery due at `now`, if it is its turn; one that is settled is queued again. Returns 0 if it has
    /// changed meanwhile.
    pub async fn retry(&self, delivery: i64, now: Timestamp) -> Result<u64, StoreError> {
        let found = sqlx::query_as!(
            Row,
            r#"SELECT m.message_key AS "message_key!", m.message_id, m.label_key, m.label_id, m.seq, m.subject_key,
                      m.type AS kind, m.account, m.created_at, d.state AS "state?"
               FROM deliveries d JOIN messages m USING (message_key) WHERE d.delivery_key = ?"#,
            delivery
        )
        .fetch_optional(&self.readers)
        .await?;
        let to = sqlx::query!("SELECT subscriber, format FROM deliveries WHERE delivery_key = ?", delivery)
            .fetch_optional(&self.readers)
            .await?;
        let (Some(stored), Some(to)) = (found.map(Stored::from), to) else { return Ok(0) };
        let again = Again { message: stored.row, lane: stored.lane, before: stored.before, at: now };
        let format = Format::parse(&to.format).unwrap_or(Format::Standard);
        self.queue_again(&SubscriberName::new(&to.subscriber), format, &[again], now).await
    }

    /// Queues messages again, each lane's in order; new deliveries get `format`. Those that are pending are made due, if
    /// it is their turn. What has changed since it was looked at stays as it is. Returns how many were queued.
    pub async fn queue_again(
        &self,
        subscriber: &SubscriberName,
        format: Format,
        messages: &[Again],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut lane = None;
        let mut since = 0;
        let writes: Vec<AgainWrite<'_>> = messages
            .iter()
            .map(|again| {
                // A lane is due when its first one is.
                if again.lane.is_none() || lane != again.lane {
                    (lane, since) = (again.lane, ms(again.at));
                }
                AgainWrite {
                    message: again.message,
                    before: again.before,
                    subscriber: subscriber.as_str(),
                    lane: again.lane,
                    since,
                }
            })
            .collect();
        let rows = json(&writes);
        let (format, now) = (format.as_str(), ms(now));
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let added = sqlx::query!(
                        "INSERT INTO deliveries (message_key, subscriber, format, lane, place, state, created_at,
                                                 queued_again_at, next_attempt_at)
                         SELECT m.message_key, value ->> 'subscriber', ?2, value ->> 'lane',
                                CASE WHEN value ->> 'lane' IS NOT NULL THEN coalesce(m.seq, m.message_key) END,
                                'pending', ?3, ?3, CASE WHEN value ->> 'lane' IS NULL THEN value ->> 'since' END
                         FROM json_each(?1) JOIN messages m ON m.message_key = value ->> 'message'
                         WHERE value ->> 'before' = 'never'
                         ON CONFLICT (message_key, subscriber) DO NOTHING",
                        rows,
                        format,
                        now
                    )
                    .execute(&mut *tx)
                    .await?;
                    let again = sqlx::query!(
                        "UPDATE deliveries SET state = 'pending', delivered_at = NULL, queued_again_at = ?2,
                            tried = 0, tried_since = NULL, planned_at = NULL, asked_until = NULL,
                            next_attempt_at = CASE WHEN lane IS NULL THEN new.v ->> 'since' END
                         FROM (SELECT value AS v FROM json_each(?1)
                               WHERE value ->> 'before' IN ('delivered', 'dead')) AS new
                         WHERE deliveries.message_key = new.v ->> 'message'
                           AND deliveries.subscriber = new.v ->> 'subscriber'
                           AND deliveries.state = new.v ->> 'before'",
                        rows,
                        now
                    )
                    .execute(&mut *tx)
                    .await?;
                    step_back(&mut *tx, &rows).await?;
                    promote(&mut *tx, &rows).await?;
                    let due = sqlx::query!(
                        "UPDATE deliveries SET tried = 0, tried_since = NULL, planned_at = NULL, asked_until = NULL,
                            next_attempt_at = CASE WHEN next_attempt_at IS NOT NULL THEN new.v ->> 'since' END
                         FROM (SELECT value AS v FROM json_each(?1) WHERE value ->> 'before' = 'pending') AS new
                         WHERE deliveries.message_key = new.v ->> 'message'
                           AND deliveries.subscriber = new.v ->> 'subscriber' AND deliveries.state = 'pending'",
                        rows
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(added.rows_affected() + again.rows_affected() + due.rows_affected())
                })
            })
            .await
    }
}
