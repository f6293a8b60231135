//! Reads the outbox from the table: at start, after a change by another process, and if it does not fit into memory.
//!
//! It selects by stored columns: state, position in the lane, due time. [`crate::domain::delivery::outbox`] decides which
//! delivery is attempted next.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use sqlx::SqliteConnection;

use crate::domain::delivery::outbox::{
    AttemptKind, LoadedDeliveries, MemoryLimit, MessageContent, NotLoaded, PendingDelivery,
};
use crate::domain::delivery::outcome::DeliverySchedule;
use crate::domain::messages::subscriber::{Format, SubscriberName};
use crate::store::reschedule::{progress, stored_due};
use crate::store::{Store, StoreError, at, json, to_u32};

/// Deliveries read at once of a selected lane.
pub const PER_LANE: usize = 3;

/// Selects pending deliveries with their messages; takes the rest of the statement from `FROM` on.
macro_rules! select_pending {
    ($from:literal, $($argument:expr),*) => {
        sqlx::query!(
            r#"SELECT d.delivery_key AS "delivery_key!", d.lane, d.position, d.format AS "format!",
                d.attempts AS "attempts!", d.failures AS "failures!", d.failing_since, d.planned_at,
                d.retry_after_until, d.next_attempt_at AS "next_attempt_at!", d.reason AS "reason!",
                m.message_id AS "message_id!", m.label_id, m.seq, m.type AS "kind!", m.body AS "body!", m.resource_url
               "# + $from,
            $($argument),*
        )
    };
}

/// Converts the columns of a pending delivery and its message.
macro_rules! pending_delivery {
    ($row:ident) => {
        PendingDelivery {
            key: $row.delivery_key,
            message: Arc::new(MessageContent {
                message_id: $row.message_id,
                kind: $row.kind,
                label_id: $row.label_id,
                seq: $row.seq,
                body: $row.body,
                resource_url: $row.resource_url,
            }),
            // The table's CHECK allows no other values.
            format: Format::parse(&$row.format).unwrap_or(Format::Standard),
            lane: $row.lane,
            position: $row.position.unwrap_or_default(),
            attempts: to_u32($row.attempts),
            schedule: DeliverySchedule {
                next: stored_due($row.next_attempt_at, &$row.reason),
                progress: progress($row.failures, $row.failing_since, $row.planned_at),
                retry_after_until: $row.retry_after_until.map(at),
            },
        }
    };
}

impl Store {
    /// Reads a subscriber's outbox. Reads all of it if it is within `limit`, else the lanes whose heads are due first,
    /// of each kind, and if `newest` the lane with the newest head.
    pub async fn read_outbox(
        &self,
        subscriber: &SubscriberName,
        limit: MemoryLimit,
        heads: usize,
        newest: bool,
    ) -> Result<LoadedDeliveries, StoreError> {
        let mut connection = self.readers.acquire().await?;
        if let Some(deliveries) = read_whole(&mut connection, subscriber, limit).await? {
            return Ok(LoadedDeliveries { deliveries, not_loaded: None });
        }
        let mut deliveries = read_pings(&mut connection, subscriber).await?;
        let mut not_loaded = NotLoaded::default();
        let newest = match newest {
            true => newest_head(&mut connection, subscriber).await?,
            false => None,
        };
        let limit_of_heads = limit.deliveries.max(heads * PER_LANE);
        let mut chosen = oldest_heads(&mut connection, subscriber, limit_of_heads).await?;
        // Retries get a third of the memory at most, and first attempts the rest.
        for (kind, part) in [(AttemptKind::Retry, 3), (AttemptKind::First, 1)] {
            let bytes_used: usize = deliveries.iter().map(|delivery| delivery.message.body.len()).sum();
            let room = MemoryLimit {
                deliveries: (limit.deliveries.saturating_sub(deliveries.len()) / part).max(heads * PER_LANE),
                bytes: limit.bytes.saturating_sub(bytes_used) / part,
            };
            let chosen = std::mem::take(&mut chosen[kind as usize]);
            let mut lanes: Vec<i64> = chosen.iter().map(|(lane, _)| *lane).collect();
            if kind == AttemptKind::First
                && let Some(newest) = newest
            {
                lanes.retain(|lane| *lane != newest);
                lanes.insert(0, newest);
            }
            let (read, cut) = read_lanes(&mut connection, subscriber, &lanes, room).await?;
            let cut_at = cut.and_then(|lane| chosen.iter().find(|(id, _)| *id == lane)).map(|(_, due)| *due);
            let more = chosen.len() >= limit_of_heads;
            let after = cut_at.or(chosen.last().filter(|_| more).map(|(_, due)| *due));
            not_loaded.after[kind as usize] = after;
            deliveries.extend(read);
        }
        Ok(LoadedDeliveries { deliveries, not_loaded: Some(not_loaded) })
    }

    /// Reads the first deliveries of lanes, each with whether there may be more.
    pub async fn read_lanes(
        &self,
        subscriber: &SubscriberName,
        lanes: &[i64],
    ) -> Result<HashMap<i64, (Vec<PendingDelivery>, bool)>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let unlimited = MemoryLimit { deliveries: usize::MAX, bytes: usize::MAX };
        let (read, _) = read_lanes(&mut connection, subscriber, lanes, unlimited).await?;
        let mut by_lane: HashMap<i64, (Vec<PendingDelivery>, bool)> =
            lanes.iter().map(|lane| (*lane, (Vec::new(), false))).collect();
        for delivery in read {
            let Some(of_lane) = delivery.lane.and_then(|lane| by_lane.get_mut(&lane)) else { continue };
            of_lane.0.push(delivery);
            of_lane.1 = of_lane.0.len() >= PER_LANE;
        }
        Ok(by_lane)
    }
}

/// Reads all pending deliveries, if they are within the limit.
async fn read_whole(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
    limit: MemoryLimit,
) -> Result<Option<Vec<PendingDelivery>>, sqlx::Error> {
    let name = subscriber.as_str();
    let most = i64::try_from(limit.deliveries).unwrap_or(i64::MAX);
    let too_many = sqlx::query_scalar!(
        r#"SELECT count(*) > ?2 AS "too_many!: bool"
           FROM (SELECT 1 FROM deliveries WHERE subscriber = ?1 AND state = 'pending' LIMIT ?2 + 1)"#,
        name,
        most
    )
    .fetch_one(&mut *connection)
    .await?;
    if too_many {
        return Ok(None);
    }
    let mut rows = select_pending!(
        "FROM deliveries d JOIN messages m USING (message_key) WHERE d.subscriber = ? AND d.state = 'pending'",
        name
    )
    .fetch(connection);
    let (mut deliveries, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += row.body.len();
        if bytes > limit.bytes {
            return Ok(None);
        }
        deliveries.push(pending_delivery!(row));
    }
    Ok(Some(deliveries))
}

async fn read_pings(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
) -> Result<Vec<PendingDelivery>, sqlx::Error> {
    let name = subscriber.as_str();
    let rows = select_pending!(
        "FROM deliveries d JOIN messages m USING (message_key)
         WHERE d.subscriber = ? AND d.state = 'pending' AND d.lane IS NULL LIMIT 100",
        name
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| pending_delivery!(row)).collect())
}

/// Returns the lanes whose heads are due first, with the times, by kind of attempt: at most `limit` of each kind.
async fn oldest_heads(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
    limit: usize,
) -> Result<[Vec<(i64, Timestamp)>; 2], sqlx::Error> {
    let name = subscriber.as_str();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // With min(), SQLite takes the other columns from the row with the minimum. MATERIALIZED, because each pass goes
    // through all pending deliveries.
    let rows = sqlx::query!(
        r#"WITH heads (lane, position, due, retry) AS MATERIALIZED (
               SELECT lane, min(position), next_attempt_at, attempts > 0 FROM deliveries
               WHERE subscriber = ?1 AND state = 'pending' AND lane IS NOT NULL GROUP BY lane)
           SELECT lane AS "lane!: i64", due AS "due!: i64", retry AS "retry!: bool" FROM (
               SELECT * FROM (SELECT * FROM heads WHERE NOT retry ORDER BY due, lane LIMIT ?2)
               UNION ALL
               SELECT * FROM (SELECT * FROM heads WHERE retry ORDER BY due, lane LIMIT ?2))"#,
        name,
        limit
    )
    .fetch_all(connection)
    .await?;
    let mut heads = [Vec::new(), Vec::new()];
    for row in rows {
        heads[usize::from(row.retry)].push((row.lane, at(row.due)));
    }
    Ok(heads)
}

/// Returns the lane with the latest due head that was never attempted.
async fn newest_head(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
) -> Result<Option<i64>, sqlx::Error> {
    let name = subscriber.as_str();
    sqlx::query_scalar!(
        r#"SELECT lane AS "lane!: i64" FROM (
               SELECT lane, min(position), next_attempt_at AS due, attempts, delivery_key FROM deliveries
               WHERE subscriber = ? AND state = 'pending' AND lane IS NOT NULL GROUP BY lane)
           WHERE attempts = 0 ORDER BY due DESC, delivery_key DESC LIMIT 1"#,
        name
    )
    .fetch_optional(connection)
    .await
}

/// Reads the first deliveries of `lanes` in order, up to `limit`. Also returns the lane at which the limit was reached;
/// that lane is left out.
async fn read_lanes(
    connection: &mut SqliteConnection,
    subscriber: &SubscriberName,
    lanes: &[i64],
    limit: MemoryLimit,
) -> Result<(Vec<PendingDelivery>, Option<i64>), sqlx::Error> {
    let (name, lanes, per_lane) = (subscriber.as_str(), json(lanes), PER_LANE as i64);
    let mut rows = select_pending!(
        "FROM json_each(?2) chosen
           CROSS JOIN deliveries d ON d.delivery_key IN (
               SELECT delivery_key FROM deliveries
               WHERE subscriber = ?1 AND lane = chosen.value AND state = 'pending' ORDER BY position LIMIT ?3)
           CROSS JOIN messages m ON m.message_key = d.message_key",
        name,
        lanes,
        per_lane
    )
    .fetch(connection);
    let (mut read, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += row.body.len();
        let lane = row.lane;
        read.push(pending_delivery!(row));
        if read.len() > limit.deliveries || bytes > limit.bytes {
            // A part of a lane may lack its head.
            if read.iter().any(|delivery| delivery.lane != lane) {
                read.retain(|delivery| delivery.lane != lane);
            }
            return Ok((read, lane));
        }
    }
    Ok((read, None))
}
