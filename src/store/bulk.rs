//! Statements over many rows.
//!
//! A `VALUES` list of bound values costs a third of `json_each`. The lists come in a few sizes, so each statement is
//! prepared once per connection. These statements are not checked at compile time; a test runs each of them.

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Rows per statement, largest first. One more statement costs as much as ten rows.
const SIZES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// A statement around a `VALUES` list: `before`, the rows, `after`. `columns` is the number of values in a row.
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

impl Bulk {
    /// Executes the statement for all rows; `bind` pushes the values of one. Returns the number of rows affected.
    pub async fn execute<T>(
        &self,
        tx: &mut SqliteConnection,
        rows: &[T],
        bind: impl Fn(&T, &mut Values),
    ) -> Result<u64, sqlx::Error> {
        let mut affected = 0;
        for chunk in chunks(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.sql(chunk.len())), self.values(chunk, &bind));
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
        for chunk in chunks(rows) {
            let query = sqlx::query_with(AssertSqlSafe(self.sql(chunk.len())), self.values(chunk, &bind));
            read.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(read)
    }

    fn values<T>(&self, rows: &[T], bind: &impl Fn(&T, &mut Values)) -> SqliteArguments {
        let mut values = Values(SqliteArguments::default());
        values.0.reserve(rows.len() * self.columns, 0);
        rows.iter().for_each(|row| bind(row, &mut values));
        debug_assert_eq!(values.0.len(), rows.len() * self.columns);
        values.0
    }

    /// The text of the statement for `rows` rows.
    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("{}VALUES {}{}", self.before, vec![row.as_str(); rows].join(","), self.after)
    }
}

/// Splits the rows into chunks of [`SIZES`].
fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rows.len())?;
        let (chunk, rest) = rows.split_at(size);
        rows = rest;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::store::{accounts, label_reads, label_row, open, registering};

    #[test]
    fn the_statement_has_the_rows_between_its_two_parts() {
        let insert = Bulk { before: "INSERT INTO t (a, b) ", columns: 2, after: " ON CONFLICT DO NOTHING" };
        assert_eq!(insert.sql(2), "INSERT INTO t (a, b) VALUES (?,?),(?,?) ON CONFLICT DO NOTHING");
    }

    #[tokio::test]
    async fn statements_of_labels_use_an_index_of_the_label() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _writer) = open(&folder.path().join("t.db")).await.unwrap();
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
