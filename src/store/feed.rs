//! The feed: stored messages in commit order, for clients that fetch them.
//!
//! The only writer assigns ascending keys that are never used twice, and its transactions do not overlap. So keys become
//! visible in ascending order. A reader that continues after the last key it saw misses nothing, except messages that
//! retention removed, and messages that a replay added to the feed of a subscriber after the reader had passed them. The
//! latter are sent as callbacks.

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::messages::LastKeys;
use super::{Store, StoreError, at};
use crate::domain::time::serialize_instant;

/// Limit of a page in bytes, so that pages do not fill the memory. A page has at least one message.
const PAGE_BYTES: usize = 1 << 20;
/// Maximum size of a message without its body.
const MAX_OVERHEAD: usize = 512;

/// A position in the feed: after a message.
///
/// It holds a part of the message id besides the key, so that a cursor from before a restore is detected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// 0: the start of the feed.
    key: i64,
    mark: String,
}

impl Cursor {
    fn after(key: i64, message_id: &str) -> Self {
        Self { key, mark: mark(message_id).to_owned() }
    }

    /// Parses a cursor; `None` if `text` is not a valid cursor.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        let (key, mark) = text.split_once('-')?;
        let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        let key = key.parse().ok().filter(|key| digits && *key > 0)?;
        let fits = !mark.is_empty()
            && mark.len() <= CURSOR_ID_CHARS
            && mark.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self { key, mark: mark.to_owned() })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key == 0 { f.write_str("0") } else { write!(f, "{}-{}", self.key, self.mark) }
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Number of characters of the message id in a cursor.
const CURSOR_ID_CHARS: usize = 8;

fn mark(message_id: &str) -> &str {
    message_id.len().checked_sub(CURSOR_ID_CHARS).and_then(|start| message_id.get(start..)).unwrap_or("none")
}

/// A message of the feed.
#[derive(Clone, Debug, Serialize)]
pub struct FeedMessage {
    /// The cursor after this message.
    pub cursor: Cursor,
    pub message_id: String,
    pub label_id: Option<String>,
    pub account: Option<String>,
    pub seq: Option<i64>,
    pub r#type: String,
    #[serde(serialize_with = "serialize_instant")]
    pub created_at: Timestamp,
    /// The standard body, unchanged.
    pub body: Box<RawValue>,
}

impl Store {
    /// Whether a subscriber of this name was ever configured.
    pub async fn knows_subscriber(&self, name: &str) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar!("SELECT 1 FROM subscribers WHERE subscriber = ?", name);
        Ok(found.fetch_optional(&self.readers).await?.is_some())
    }

    /// Whether this database issued the cursor: its message exists, or did.
    pub async fn issued(&self, cursor: &Cursor) -> Result<bool, StoreError> {
        let key = cursor.key;
        let there = sqlx::query_scalar!("SELECT message_id FROM messages WHERE message_key = ?", key)
            .fetch_optional(&self.readers)
            .await?;
        if let Some(message_id) = there {
            return Ok(mark(&message_id) == cursor.mark);
        }
        let mut connection = self.readers.acquire().await?;
        Ok(key <= LastKeys::read(&mut connection).await?.message)
    }

    /// Returns up to `limit` messages after `after`. With a subscriber, only messages that have a delivery to it.
    pub async fn feed(
        &self,
        after: &Cursor,
        limit: u32,
        subscriber: Option<&str>,
    ) -> Result<Vec<FeedMessage>, StoreError> {
        let key = after.key;
        let mut rows = sqlx::query!(
            "SELECT m.message_key, m.message_id, m.label_id, m.account, m.seq, m.type AS kind, m.created_at, m.body
             FROM messages m
             WHERE m.message_key > ?1 AND (?2 IS NULL OR EXISTS (
                SELECT 1 FROM deliveries d WHERE d.message_key = m.message_key AND d.subscriber = ?2))
             ORDER BY m.message_key LIMIT ?3",
            key,
            subscriber,
            limit
        )
        .fetch(&self.readers);
        let (mut fed, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            bytes += row.body.len() + MAX_OVERHEAD;
            if bytes > PAGE_BYTES && !fed.is_empty() {
                break;
            }
            fed.push(FeedMessage {
                cursor: Cursor::after(row.message_key, &row.message_id),
                message_id: row.message_id,
                label_id: row.label_id,
                account: row.account,
                seq: row.seq,
                r#type: row.kind,
                created_at: at(row.created_at),
                // The writer stores JSON objects only; another text is shown as null.
                body: RawValue::from_string(row.body).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            });
        }
        Ok(fed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_as_it_is_written() {
        let cursor = Cursor::after(7, "msg_0123456789abcdef");
        assert_eq!(cursor.to_string(), "7-89abcdef");
        assert_eq!(Cursor::parse("7-89abcdef"), Some(cursor));
        assert_eq!(Cursor::parse(&Cursor::default().to_string()), Some(Cursor::default()));
        for text in ["", "7", "-7", "00", "0-89abcdef", "+7-89abcdef", "7-", "7-89abcdef0", "7-89 b", "x-1"] {
            assert_eq!(Cursor::parse(text), None, "{text:?}");
        }
    }
}
