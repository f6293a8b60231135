//! Messages without their bodies, for the status page.

use jiff::Timestamp;

use crate::store::{Store, StoreError, at};

/// A message without its body.
#[derive(Clone, Debug)]
pub struct MessageView {
    pub message_id: String,
    pub r#type: String,
    pub account: Option<String>,
    pub label_id: Option<String>,
    pub seq: Option<i64>,
    pub created_at: Timestamp,
    /// Size of the body in bytes.
    pub bytes: i64,
}

struct Row {
    message_id: String,
    kind: String,
    account: Option<String>,
    label_id: Option<String>,
    seq: Option<i64>,
    created_at: i64,
    bytes: i64,
}

impl From<Row> for MessageView {
    fn from(row: Row) -> Self {
        Self {
            message_id: row.message_id,
            r#type: row.kind,
            account: row.account,
            label_id: row.label_id,
            seq: row.seq,
            created_at: at(row.created_at),
            bytes: row.bytes,
        }
    }
}

impl Store {
    /// Returns the message with this id.
    pub async fn message_view(&self, message_id: &str) -> Result<Option<MessageView>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            r#"SELECT message_id, type AS kind, account, label_id, seq, created_at, length(body) AS "bytes!: i64"
               FROM messages WHERE message_id = ?"#,
            message_id
        )
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.map(MessageView::from))
    }

    /// Returns the last messages of a label, newest first.
    pub async fn messages_of_label(&self, row: i64, limit: u32) -> Result<Vec<MessageView>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            r#"SELECT message_id, type AS kind, account, label_id, seq, created_at, length(body) AS "bytes!: i64"
               FROM messages WHERE label_key = ? ORDER BY seq DESC LIMIT ?"#,
            row,
            limit
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(MessageView::from).collect())
    }
}
