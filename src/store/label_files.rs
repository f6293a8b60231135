//! Label files and the labels registered from them.

use jiff::Timestamp;

use super::{Store, StoreError, json, ms};

/// Rows per page of [`Store::configured_labels`].
const PAGE_SIZE: i64 = 2_000;

/// A label file that was read at least once, or is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFile {
    pub file_key: i64,
    /// Absolute path, symbolic links not resolved.
    pub path: String,
    /// Reason for skipping it.
    pub problem: Option<String>,
    pub hint: Option<String>,
    /// Since when it is left out, in milliseconds since 1970.
    pub since: Option<i64>,
}

/// Labels registered by the configuration, ordered by key, as one text: a hundred times cheaper than rows.
#[derive(Clone, Debug)]
pub struct ConfiguredPage {
    /// The key after which the next page begins.
    pub last: i64,
    text: String,
}

/// A label of a [`ConfiguredPage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfiguredLabel<'a> {
    pub label_key: i64,
    pub account: &'a str,
    pub label_id: &'a str,
    /// The label file; `None`: the label is in the configuration itself.
    pub file_key: Option<i64>,
    /// JSON.
    pub metadata: &'a str,
}

impl ConfiguredPage {
    /// No value contains a control character: names may not, and JSON escapes them.
    pub fn labels(&self) -> impl Iterator<Item = ConfiguredLabel<'_>> {
        self.text.split('\n').filter_map(|line| {
            let mut parts = line.splitn(5, '\t');
            Some(ConfiguredLabel {
                label_key: parts.next()?.parse().ok()?,
                account: parts.next()?,
                label_id: parts.next()?,
                file_key: parts.next()?.parse().ok(),
                metadata: parts.next()?,
            })
        })
    }
}

impl Store {
    /// Returns the next labels registered by the configuration, after the key `after`; `None` at the end.
    pub async fn configured_labels(&self, after: i64) -> Result<Option<ConfiguredPage>, StoreError> {
        let row = sqlx::query!(
            r#"SELECT max(label_key) AS "last: i64",
                      group_concat(label_key || char(9) || account || char(9) || label_id || char(9)
                                   || coalesce(file_key, '') || char(9) || metadata, char(10)) AS "text: String"
               FROM (SELECT label_key, account, label_id, file_key, metadata FROM labels
                     WHERE by_config = 1 AND label_key > ? ORDER BY label_key LIMIT ?)"#,
            after,
            PAGE_SIZE
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(row.last.zip(row.text).map(|(last, text)| ConfiguredPage { last, text }))
    }

    /// Returns all label files that were ever read or are left out.
    pub async fn label_files(&self) -> Result<Vec<LabelFile>, StoreError> {
        let files =
            sqlx::query_as!(LabelFile, "SELECT file_key, path, problem, hint, since FROM label_files")
                .fetch_all(&self.readers)
                .await?;
        Ok(files)
    }

    /// Returns the left-out label files, ordered by path.
    pub async fn label_files_left_out(&self) -> Result<Vec<LabelFile>, StoreError> {
        let mut files = self.label_files().await?;
        files.retain(|file| file.problem.is_some());
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Inserts the files, so that labels can refer to them.
    pub async fn insert_label_files(&self, paths: &[&str]) -> Result<(), StoreError> {
        let paths = json(paths);
        let insert = sqlx::query!(
            "INSERT INTO label_files (path) SELECT value FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
            paths
        );
        self.execute(insert).await.map(drop)
    }

    /// Replaces the set of left-out files by `left_out` (path, problem, hint).
    pub async fn set_left_out_label_files(
        &self,
        left_out: &[(String, String, Option<String>)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (left_out, now) = (json(left_out), ms(now));
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query!(
                        "UPDATE label_files SET problem = NULL, hint = NULL, since = NULL
                         WHERE problem IS NOT NULL AND path NOT IN (SELECT value ->> 0 FROM json_each(?))",
                        left_out
                    )
                    .execute(&mut *tx)
                    .await?;
                    sqlx::query!(
                        "INSERT INTO label_files (path, problem, hint, since)
                         SELECT value ->> 0, value ->> 1, value ->> 2, ?2 FROM json_each(?1) WHERE true
                         ON CONFLICT (path) DO UPDATE SET problem = excluded.problem, hint = excluded.hint,
                            since = coalesce(since, excluded.since)",
                        left_out,
                        now
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(())
                })
            })
            .await
    }
}
