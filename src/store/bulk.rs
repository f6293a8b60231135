//! Statements over many rows.
//!
//! A `VALUES` list of bound values costs a third of `json_each`. The lists come in a few sizes, so each statement is
//! prepared once per connection. Rows of NULL fill a list up to its size: they cost less than one more statement, which
//! one thread hands to another. No key is NULL, so an `UPDATE` or `SELECT` finds nothing for them; an `INSERT` skips
//! them. These statements are not checked at compile time; a test runs each of them.

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Maximum number of rows per statement. The lists have sizes of powers of two.
const MAX_ROWS: usize = 64;

/// A statement around a `VALUES` list: `before`, the rows, `after`. `columns` is the number of values in a row. The first
/// value of a row is never NULL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bulk {
    pub before: &'static str,
    pub columns: usize,
    pub after: &'static str,
}

/// The values of a row, in the order of the columns.
pub(super) struct Values(SqliteArguments);

impl Values {
    /// Appends the value of the next column.
    pub fn push<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        // The types bound here (integers, texts and blobs) always encode.
        let added = self.0.add(value);
        debug_assert!(added.is_ok());
        self
    }
}

/// An `INSERT` into a table and its columns, and the text after the rows.
macro_rules! insert {
    ($into:literal, $columns:literal $(, $after:literal)?) => {
        Bulk {
            before: concat!("INSERT INTO ", $into, " SELECT * FROM ("),
            columns: $columns,
            after: concat!(") WHERE column1 IS NOT NULL" $(, $after)?),
        }
    };
}
pub(super) use insert;

impl Bulk {
    /// Executes the statement for all rows; `bind` pushes the values of one. Returns the number of rows affected.
    pub async fn execute<T>(
        &self,
        tx: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<u64, sqlx::Error> {
        let mut affected = 0;
        for chunk in rows.chunks(MAX_ROWS) {
            let query = self.query(chunk, &bind);
            affected += query.execute(&mut *tx).await?.rows_affected();
        }
        Ok(affected)
    }

    /// As [`Self::execute`], for a statement that returns rows.
    pub async fn rows<T>(
        &self,
        connection: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut read = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(MAX_ROWS) {
            let query = self.query(chunk, &bind);
            read.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(read)
    }

    /// The statement for at most [`MAX_ROWS`] rows.
    fn query<T>(
        &self,
        rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Query<'static, Sqlite, SqliteArguments> {
        let size = rows.len().next_power_of_two();
        let mut values = Values(SqliteArguments::default());
        values.0.reserve(size * self.columns, 0);
        rows.iter().for_each(|row| bind(row, &mut values));
        debug_assert_eq!(values.0.len(), rows.len() * self.columns);
        while values.0.len() < size * self.columns {
            values.push(None::<i64>);
        }
        sqlx::query_with(AssertSqlSafe(self.sql(size)), values.0)
    }

    /// The text of the statement for `rows` rows.
    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("{}VALUES {}{}", self.before, vec![row.as_str(); rows].join(","), self.after)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::store::{accounts, label_reads, label_row, open, registering};

    #[test]
    fn the_statement_has_the_rows_between_its_two_parts() {
        let insert = insert!("t (a, b)", 2, " ON CONFLICT DO NOTHING");
        let expected = "INSERT INTO t (a, b) SELECT * FROM (VALUES (?,?),(?,?)) WHERE column1 IS NOT NULL ON CONFLICT \
                        DO NOTHING";
        assert_eq!(insert.sql(2), expected);
    }

    #[tokio::test]
    async fn statements_of_labels_use_an_index_of_the_label() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _writer) = open(&directory.path().join("t.db")).await.unwrap();
        for statement in [
            accounts::CLEAR_FAILURES,
            label_reads::READ,
            label_row::CURRENT,
            label_row::WRITE,
            label_row::WRITE_SEARCHED,
            label_row::WRITE_UNCHANGED,
            registering::READ_BY_ID,
            registering::READ_BY_KEY,
            registering::RESTART,
            registering::UPDATE,
        ] {
            let explained = format!("EXPLAIN QUERY PLAN {}", statement.sql(2));
            let plan = sqlx::query(AssertSqlSafe(explained)).fetch_all(&store.readers).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            // `labels` or its alias `l`.
            let by_index = |step: &String| {
                step.starts_with("SEARCH l") && ["rowid=?", "label_id=?"].iter().any(|key| step.contains(key))
            };
            assert!(steps.iter().any(by_index), "{steps:?}: {statement:?}");
        }
    }
}
