//! Counts of how fresh news was, by the day: written with the polls that brought it.
//!
//! What is counted is decided in [`crate::domain::polling::freshness`]; what is shown is in [`super::views::freshness`].

use jiff::Timestamp;
use serde::Serialize;
use sqlx::SqliteConnection;

use super::{Store, StoreError, json, ms};
use crate::domain::label::AccountName;
use crate::domain::polling::freshness::Notice;

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// When the day of `at` began, UTC.
pub(super) fn day_of(at: Timestamp) -> i64 {
    ms(at).div_euclid(DAY) * DAY
}

#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    carrier: &'a str,
    kind: &'static str,
    delivered: i64,
    day: i64,
    bucket: usize,
}

/// A notice, and what it is counted under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noticed<'a> {
    pub account: &'a AccountName,
    pub carrier: Option<&'a str>,
    pub notice: Notice,
    pub at: Timestamp,
}

/// Counts notices in an open transaction. Mostly there are none, and it takes no statement.
pub(super) async fn count(tx: &mut SqliteConnection, notices: &[Noticed<'_>]) -> Result<(), sqlx::Error> {
    let rows = notices.iter().map(|noticed| Row {
        account: noticed.account.as_str(),
        carrier: noticed.carrier.unwrap_or_default(),
        kind: noticed.notice.kind.as_str(),
        delivered: i64::from(noticed.notice.delivered),
        day: day_of(noticed.at),
        bucket: noticed.notice.bucket.index(),
    });
    let rows: Vec<Row<'_>> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let rows = json(&rows);
    sqlx::query!(
        "INSERT INTO freshness (account, carrier, kind, delivered, day, bucket, events)
         SELECT value ->> 'account', value ->> 'carrier', value ->> 'kind', value ->> 'delivered',
                value ->> 'day', value ->> 'bucket', count(*)
         FROM json_each(?) WHERE true GROUP BY 1, 2, 3, 4, 5, 6
         ON CONFLICT DO UPDATE SET events = events + excluded.events",
        rows
    )
    .execute(&mut *tx)
    .await?;
    Ok(())
}

impl Store {
    /// Days before that of `before` become one: their sums stay, the days go.
    pub async fn fold_freshness(&self, before: Timestamp) -> Result<(), StoreError> {
        let before = day_of(before);
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!(
                        "INSERT INTO freshness (account, carrier, kind, delivered, day, bucket, events)
                         SELECT account, carrier, kind, delivered, 0, bucket, sum(events) FROM freshness
                         WHERE day > 0 AND day < ? GROUP BY account, carrier, kind, delivered, bucket
                         ON CONFLICT DO UPDATE SET events = events + excluded.events",
                        before
                    )
                    .execute(&mut *tx)
                    .await?;
                    sqlx::query!("DELETE FROM freshness WHERE day > 0 AND day < ?", before)
                        .execute(&mut *tx)
                        .await?;
                    Ok(())
                })
            })
            .await
    }
}
