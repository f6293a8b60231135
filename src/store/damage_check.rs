//! The check of the whole database for damage, in small steps.
//!
//! `PRAGMA quick_check` reads a table at once, which takes too long for a large one. So the large tables are read row by
//! row, each step in a read transaction of its own, which delays no write and no checkpoint. SQLite refuses a damaged
//! page when it reads it. The small tables get a `quick_check` each. SQLite has no checksums of pages: damage within a
//! text is not found. Only the quick check at start ([`super::open()`]), which is made in a small database, reads the
//! indexes of the large tables.

use futures_util::TryStreamExt as _;
use sqlx::AssertSqlSafe;

use super::{Store, StoreError};

/// Large tables and their keys.
const LARGE: [(&str, &str); 6] = [
    ("labels", "label_key"),
    ("tracking_events", "event_key"),
    ("event_changes", "change_key"),
    ("messages", "message_key"),
    ("deliveries", "delivery_key"),
    ("attempts", "delivery_key"),
];

/// A position in the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DamageCheckPosition {
    table: usize,
    /// The last key that was read of a large table.
    key: i64,
}

impl Store {
    /// Does one step of the check: reads about `rows` rows after `position`. Returns the next position; `None` at the end.
    pub async fn check_for_damage(
        &self,
        position: DamageCheckPosition,
        rows: u32,
    ) -> Result<Option<DamageCheckPosition>, StoreError> {
        self.check_next(position, rows).await.map_err(|error| error.of(self.path()))
    }

    async fn check_next(
        &self,
        position: DamageCheckPosition,
        rows: u32,
    ) -> Result<Option<DamageCheckPosition>, StoreError> {
        let next = Some(DamageCheckPosition { table: position.table + 1, key: 0 });
        let Some((table, key)) = LARGE.get(position.table) else {
            return self.check_small(position.table - LARGE.len()).await.map(|more| next.filter(|_| more));
        };
        let mut connection = self.readers.acquire().await?;
        let last = format!(
            "SELECT max(k) FROM (SELECT {key} AS k FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?)"
        );
        let last: Option<i64> = sqlx::query_scalar(AssertSqlSafe(last))
            .bind(position.key)
            .bind(rows)
            .fetch_one(&mut *connection)
            .await?;
        let Some(last) = last else { return Ok(next) };
        let all = format!("SELECT * FROM {table} WHERE {key} > ? AND {key} <= ?");
        let all = sqlx::query(AssertSqlSafe(all)).bind(position.key).bind(last);
        let mut all = all.persistent(false).fetch(&mut *connection);
        while all.try_next().await?.is_some() {}
        Ok(Some(DamageCheckPosition { key: last, ..position }))
    }

    /// Checks the small table of this number. Returns whether there is one.
    async fn check_small(&self, number: usize) -> Result<bool, StoreError> {
        let large = LARGE.map(|(table, _)| table);
        let tables: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
                .fetch_all(&self.readers)
                .await?;
        let Some(table) = tables.iter().filter(|table| !large.contains(&table.as_str())).nth(number) else {
            return Ok(false);
        };
        let check = format!("PRAGMA quick_check('{table}')");
        let found: String = sqlx::query_scalar(AssertSqlSafe(check)).fetch_one(&self.readers).await?;
        if found == "ok" {
            return Ok(true);
        }
        Err(StoreError::Damaged { path: self.path().to_owned(), problem: found.replace('\n', "; ") })
    }
}
