//! What goes when it was kept long enough. What is still owed never does.

use jiff::Timestamp;

use super::{Store, StoreError, ms};

impl Store {
    /// Removes up to `limit` attempts that began before `before` and whose delivery is settled.
    pub async fn prune_attempts(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let before = ms(before);
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let done = sqlx::query!(
                        "DELETE FROM attempts WHERE (delivery_key, attempt) IN (
                            SELECT a.delivery_key, a.attempt FROM attempts a JOIN deliveries d USING (delivery_key)
                            WHERE a.started_at < ? AND d.state <> 'pending' LIMIT ?)",
                        before,
                        limit
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(done.rows_affected())
                })
            })
            .await
    }

    /// Removes up to `limit` labels that are done since before `before`, with all that hangs on them, unless something
    /// of theirs is still to be delivered or the configuration still asks for them.
    pub async fn prune_finished(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let before = ms(before);
        self.writer
            .write(move |tx| {
                Box::pin(async move {
                    let done = sqlx::query!(
                        "DELETE FROM labels WHERE label_key IN (
                            SELECT label_key FROM labels l INDEXED BY labels_idle
                            WHERE l.state <> 'active' AND l.next_poll_at IS NULL AND l.by_config = 0
                              AND coalesce(l.finished_at, l.last_polled_at, l.registered_at) < ?
                              AND NOT EXISTS (SELECT 1 FROM deliveries d JOIN messages m USING (message_key)
                                              WHERE m.label_key = l.label_key AND d.state = 'pending')
                            LIMIT ?)",
                        before,
                        limit
                    )
                    .execute(&mut *tx)
                    .await?;
                    Ok(done.rows_affected())
                })
            })
            .await
    }
}
