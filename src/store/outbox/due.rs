//! What is due in the outbox: the heads of lanes whose time has come.

use jiff::Timestamp;

use crate::domain::delivery::Course;
use crate::domain::subscriber::{Format, SubscriberName};
use crate::store::{Store, StoreError, at, json, ms};

/// A delivery taken up to be attempted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueDelivery {
    pub row: i64,
    pub message_id: String,
    /// The label's row, or that of who is spoken of, below zero.
    pub lane: Option<i64>,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub kind: String,
    pub format: Format,
    pub body: String,
    pub resource_url: Option<String>,
    /// Attempts made so far, whatever they were.
    pub attempts: u32,
    pub course: Course,
    pub due_at: Timestamp,
}

/// Two kinds of due deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Never attempted before.
    First,
    Retry,
}

impl Store {
    /// Up to `limit` deliveries of the subscriber and this kind that are due at `now` and whose lane has none among
    /// `busy`, the longest due first.
    pub async fn due_deliveries(
        &self,
        subscriber: &SubscriberName,
        kind: Kind,
        now: Timestamp,
        busy: &[i64],
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.due_from((i64::MIN, i64::MIN), subscriber, kind, now, busy, limit).await
    }

    /// The delivery of the subscriber that was never attempted and fell due last, at `now` at the latest.
    pub async fn newest_due_delivery(
        &self,
        subscriber: &SubscriberName,
        now: Timestamp,
    ) -> Result<Option<DueDelivery>, StoreError> {
        let (name, until) = (subscriber.as_str(), ms(now));
        let newest = sqlx::query!(
            r#"SELECT next_attempt_at AS "due_at!", delivery_key FROM deliveries
               WHERE subscriber = ? AND (attempts > 0) = 0 AND next_attempt_at <= ?
               ORDER BY next_attempt_at DESC, delivery_key DESC LIMIT 1"#,
            name,
            until
        )
        .fetch_optional(&self.readers)
        .await?;
        let Some(newest) = newest else { return Ok(None) };
        let from = (newest.due_at, newest.delivery_key);
        Ok(self.due_from(from, subscriber, Kind::First, now, &[], 1).await?.pop())
    }

    /// As [`Self::due_deliveries`], from a due time in ms and a row on.
    async fn due_from(
        &self,
        (from, from_row): (i64, i64),
        subscriber: &SubscriberName,
        kind: Kind,
        now: Timestamp,
        busy: &[i64],
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let (name, retry, now, busy) = (subscriber.as_str(), kind == Kind::Retry, ms(now), json(busy));
        let rows = sqlx::query_as!(
            DueRow,
            r#"SELECT d.delivery_key, d.lane, d.format, d.attempts, d.tried, d.tried_since, d.planned_at,
                d.next_attempt_at AS "next_attempt_at!",
                m.message_id, m.label_id, m.seq, m.type AS kind, m.body, m.resource_url
             FROM deliveries d JOIN messages m USING (message_key)
             WHERE d.subscriber = ?1 AND (d.attempts > 0) = ?2 AND d.next_attempt_at <= ?3
               AND (d.next_attempt_at, d.delivery_key) >= (?6, ?7)
               AND d.delivery_key NOT IN (SELECT value FROM json_each(?4))
               AND (d.lane IS NULL OR d.lane NOT IN (
                    SELECT busy.lane FROM json_each(?4) CROSS JOIN deliveries busy ON busy.delivery_key = value
                    WHERE busy.lane IS NOT NULL))
             ORDER BY d.next_attempt_at, d.delivery_key LIMIT ?5"#,
            name,
            retry,
            now,
            busy,
            limit,
            from,
            from_row
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().filter_map(DueRow::read).collect())
    }

    /// When the subscriber's next delivery after `after` is due, if that is before `until`.
    pub async fn next_attempt(
        &self,
        subscriber: &SubscriberName,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (name, after, until) = (subscriber.as_str(), ms(after), ms(until));
        // Both kinds are named, or the index would be of no use for the time.
        let next = sqlx::query_scalar!(
            r#"SELECT min(next_attempt_at) AS "next: i64" FROM deliveries
               WHERE subscriber = ? AND (attempts > 0) IN (0, 1) AND next_attempt_at > ? AND next_attempt_at <= ?"#,
            name,
            after,
            until
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(next.map(at))
    }
}

struct DueRow {
    delivery_key: i64,
    lane: Option<i64>,
    format: String,
    attempts: i64,
    tried: i64,
    tried_since: Option<i64>,
    planned_at: Option<i64>,
    next_attempt_at: i64,
    message_id: String,
    label_id: Option<String>,
    seq: Option<i64>,
    kind: String,
    body: String,
    resource_url: Option<String>,
}

impl DueRow {
    fn read(self) -> Option<DueDelivery> {
        let whole = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Some(DueDelivery {
            row: self.delivery_key,
            message_id: self.message_id,
            lane: self.lane,
            label_id: self.label_id,
            seq: self.seq,
            kind: self.kind,
            // The table's CHECK knows no others.
            format: Format::parse(&self.format)?,
            body: self.body,
            resource_url: self.resource_url,
            attempts: whole(self.attempts),
            course: Course {
                failures: whole(self.tried),
                since: self.tried_since.map(at),
                planned_at: self.planned_at.map(at),
            },
            due_at: at(self.next_attempt_at),
        })
    }
}
