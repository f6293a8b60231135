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

/// Selects messages; takes the rest of the statement.
macro_rules! select_messages {
    ($rest:literal, $($argument:expr),*) => {
        sqlx::query!(
            r#"SELECT message_id, type AS kind, account, label_id, seq, created_at, length(body) AS "bytes!: i64"
               FROM messages "# + $rest,
            $($argument),*
        )
        .map(|row| MessageView {
            message_id: row.message_id,
            r#type: row.kind,
            account: row.account,
            label_id: row.label_id,
            seq: row.seq,
            created_at: at(row.created_at),
            bytes: row.bytes,
        })
    };
}

impl Store {
    /// Returns the message with this id.
    pub async fn message_view(&self, message_id: &str) -> Result<Option<MessageView>, StoreError> {
        let message = select_messages!("WHERE message_id = ?", message_id);
        Ok(message.fetch_optional(&self.readers).await?)
    }

    /// Returns the last messages of a label, newest first.
    pub async fn messages_of_label(&self, row: i64, limit: u32) -> Result<Vec<MessageView>, StoreError> {
        let messages = select_messages!("WHERE label_key = ? ORDER BY seq DESC LIMIT ?", row, limit);
        Ok(messages.fetch_all(&self.readers).await?)
    }
}
