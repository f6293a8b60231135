//! The outbox and its attempts, for `deliveries` and `history`.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{PAGE, count};
use crate::domain::delivery::next_attempt::DeliveryState;
use crate::domain::delivery::outcome::Due;
use crate::domain::time::{serialize_instant, serialize_instant_or_null};
use crate::store::reschedule::stored_due;
use crate::store::{Store, StoreError, at, ms};

/// Prefix of a delivery's id, before its key.
pub const ID_PREFIX: &str = "dlv_";

/// A delivery: a message to one subscriber.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryView {
    /// Key of the row.
    #[serde(skip)]
    pub row: i64,
    pub delivery_id: String,
    pub message_id: String,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub r#type: String,
    pub subscriber: String,
    pub state: DeliveryState,
    pub attempts: u64,
    #[serde(serialize_with = "serialize_instant")]
    pub created_at: Timestamp,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub delivered_at: Option<Timestamp>,
    #[serde(serialize_with = "serialize_instant_or_null")]
    pub next_attempt_at: Option<Timestamp>,
    pub last_outcome: Option<String>,
    /// Due time and its reason; only of a pending delivery.
    #[serde(skip)]
    pub due: Option<Due>,
    /// Whether it is pending and waits for an earlier delivery of its lane.
    #[serde(skip)]
    pub behind: bool,
}

/// An attempt and its result.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    pub attempt: u64,
    #[serde(serialize_with = "serialize_instant")]
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub outcome: String,
    pub status: Option<i64>,
    pub detail: Option<String>,
    #[serde(rename = "retry_after_seconds", serialize_with = "seconds")]
    pub retry_after: Option<Duration>,
    /// As decided after the attempt: the end of `Retry-After`, and the time of the next attempt.
    #[serde(skip)]
    pub retry_after_until: Option<Timestamp>,
    #[serde(skip)]
    pub retry_at: Option<Timestamp>,
    /// The first KiB of the receiver's answer.
    pub answer: Option<String>,
}

impl AttemptView {
    pub fn is_accepted(&self) -> bool {
        self.outcome == "accepted"
    }
}

fn seconds<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

/// Maximum length of a message type.
const LONGEST_TYPE: i64 = 1_000;

/// Filter for deliveries.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub subscriber: Option<String>,
    pub state: Option<String>,
    /// Inclusive start of the time of creation.
    pub since: Option<Timestamp>,
    /// A message type, or a prefix followed by `*`.
    pub r#type: Option<String>,
}

impl DeliveryFilter {
    pub fn fits(&self, delivery: &DeliveryView) -> bool {
        self.subscriber.as_ref().is_none_or(|name| *name == delivery.subscriber)
            && self.state.as_ref().is_none_or(|state| *state == delivery.state.as_str())
            && self.since.is_none_or(|since| delivery.created_at >= since)
            && self.r#type.as_ref().is_none_or(|kind| match kind.strip_suffix('*') {
                Some(beginning) => delivery.r#type.starts_with(beginning),
                None => *kind == delivery.r#type,
            })
    }

    /// Returns the type, and the length of the prefix to compare.
    fn kind(&self) -> (Option<&str>, i64) {
        let Some(kind) = self.r#type.as_deref() else { return (None, 0) };
        let length = |text: &str| i64::try_from(text.chars().count()).unwrap_or(LONGEST_TYPE);
        kind.strip_suffix('*').map_or((Some(kind), LONGEST_TYPE), |start| (Some(start), length(start)))
    }
}

/// Converts the columns of a delivery.
macro_rules! delivery_view {
    ($row:ident) => {
        DeliveryView {
            row: $row.delivery_key,
            delivery_id: format!("{ID_PREFIX}{}", $row.delivery_key),
            message_id: $row.message_id,
            label_id: $row.label_id,
            seq: $row.seq,
            r#type: $row.kind,
            subscriber: $row.subscriber,
            // The table's CHECK allows no other values.
            state: DeliveryState::parse(&$row.state).unwrap_or(DeliveryState::Pending),
            attempts: count($row.attempts),
            created_at: at($row.created_at),
            delivered_at: $row.delivered_at.map(at),
            // A delivery behind an earlier delivery of its lane has no due time, because it waits for the earlier one.
            next_attempt_at: $row.next_attempt_at.filter(|_| !$row.behind).map(at),
            last_outcome: $row.last_outcome,
            due: $row.next_attempt_at.zip($row.reason).map(|(at, reason)| stored_due(at, &reason)),
            behind: $row.behind,
        }
    };
}

/// Reads deliveries; takes the rest of the statement.
macro_rules! read_deliveries {
    ($store:expr, $rest:literal, $($argument:expr),*) => {
        sqlx::query!(
            r#"SELECT d.delivery_key AS "delivery_key!", m.message_id, m.label_id, m.seq, m.type AS kind,
                d.subscriber, d.state, d.attempts, d.created_at, d.delivered_at, d.next_attempt_at, d.last_outcome,
                d.reason, d.state = 'pending' AND EXISTS (
                    SELECT 1 FROM deliveries e WHERE e.subscriber = d.subscriber AND e.lane = d.lane
                      AND e.state = 'pending' AND e.position < d.position) AS "behind!: bool"
               FROM deliveries d JOIN messages m USING (message_key) "# + $rest,
            $($argument),*
        )
        .fetch_all(&$store.readers)
        .await
        .map(|rows| rows.into_iter().map(|row| delivery_view!(row)).collect())
        .map_err(StoreError::from)
    };
}

/// Converts the columns of an attempt.
macro_rules! attempt_view {
    ($row:ident) => {
        $crate::store::views::deliveries::AttemptView {
            attempt: count($row.attempt),
            started_at: at($row.started_at),
            duration_ms: count($row.duration_ms),
            outcome: $row.outcome,
            status: $row.status,
            detail: $row.detail,
            retry_after: $row.retry_after_ms.map(|ms| Duration::from_millis(count(ms))),
            retry_after_until: $row.retry_after_until.map(at),
            retry_at: $row.retry_at.map(at),
            answer: $row.answer,
        }
    };
}
pub(super) use attempt_view;

impl Store {
    /// Returns a page of deliveries after the row `after` (0: from the start), newest last.
    pub async fn delivery_page(
        &self,
        wanted: &DeliveryFilter,
        after: i64,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        let (subscriber, state) = (wanted.subscriber.as_deref(), wanted.state.as_deref());
        let since = wanted.since.map_or(i64::MIN, ms);
        let (kind, length) = wanted.kind();
        read_deliveries!(
            self,
            "WHERE d.delivery_key > ?1 AND (?2 IS NULL OR d.subscriber = ?2) AND (?3 IS NULL OR d.state = ?3)
               AND d.created_at >= ?4 AND (?6 IS NULL OR substr(m.type, 1, ?7) = ?6)
             ORDER BY d.delivery_key LIMIT ?5",
            after,
            subscriber,
            state,
            since,
            PAGE,
            kind,
            length
        )
    }

    /// Returns the key before the last `limit` matching deliveries; 0 if there are fewer.
    pub async fn delivery_before_last(&self, wanted: &DeliveryFilter, limit: u32) -> Result<i64, StoreError> {
        let (subscriber, state) = (wanted.subscriber.as_deref(), wanted.state.as_deref());
        let since = wanted.since.map_or(i64::MIN, ms);
        let (kind, length) = wanted.kind();
        let row = sqlx::query_scalar!(
            "SELECT d.delivery_key FROM deliveries d JOIN messages m USING (message_key)
             WHERE (?1 IS NULL OR d.subscriber = ?1) AND (?2 IS NULL OR d.state = ?2) AND d.created_at >= ?3
               AND (?4 IS NULL OR substr(m.type, 1, ?5) = ?4)
             ORDER BY d.delivery_key DESC LIMIT 1 OFFSET ?6",
            subscriber,
            state,
            since,
            kind,
            length,
            limit
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.unwrap_or(0))
    }

    /// Returns all deliveries of a label's messages from `from_seq` on, ordered by `seq`.
    pub async fn deliveries_of_label(
        &self,
        row: i64,
        from_seq: i64,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        read_deliveries!(
            self,
            "WHERE m.label_key = ? AND m.seq >= ? ORDER BY m.seq, d.delivery_key",
            row,
            from_seq
        )
    }

    /// Returns the first `limit` pending deliveries of a subscriber, by lane, ordered by key.
    pub async fn first_pending(&self, subscriber: &str, limit: u32) -> Result<Vec<DeliveryView>, StoreError> {
        read_deliveries!(
            self,
            "WHERE d.delivery_key IN (SELECT delivery_key FROM deliveries WHERE subscriber = ?1 AND state = 'pending'
                                      ORDER BY lane, position LIMIT ?2)
             ORDER BY d.delivery_key",
            subscriber,
            limit
        )
    }

    /// Returns the delivery with this key, or all deliveries of the message with this id.
    pub async fn deliveries_named(
        &self,
        rows: &[i64],
        message_id: Option<&str>,
    ) -> Result<Vec<DeliveryView>, StoreError> {
        let rows = crate::store::json(rows);
        read_deliveries!(
            self,
            "WHERE d.delivery_key IN (SELECT value FROM json_each(?1))
                OR d.message_key = (SELECT message_key FROM messages WHERE message_id = ?2)
             ORDER BY d.delivery_key",
            rows,
            message_id
        )
    }

    /// Returns all recorded attempts of a delivery, in order. Old ones are pruned.
    pub async fn attempts_of(&self, row: i64) -> Result<Vec<AttemptView>, StoreError> {
        let rows = sqlx::query!(
            "SELECT attempt, started_at, duration_ms, outcome, status, detail, answer, retry_after_ms, retry_after_until,
                 retry_at
             FROM attempts WHERE delivery_key = ? ORDER BY attempt",
            row
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(|row| attempt_view!(row)).collect())
    }
}
