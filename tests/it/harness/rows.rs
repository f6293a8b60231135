//! Rows of a database that are compared with the ledger. The torture test uses them too.

use std::path::Path;

use sqlx::ConnectOptions as _;
use trackpost::sandbox::ledger::{DeliveryRow, EventRow, Rows};

/// Rows of the database.
pub async fn rows(database: &Path) -> Rows {
    let mut connection = connect(database).await.unwrap();
    let deliveries: Vec<(String, String)> =
        sqlx::query_as("SELECT subscriber, message_id FROM deliveries JOIN messages USING (message_key)")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let events: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT label_id, event_id, raw FROM tracking_events JOIN labels USING (label_key)
         WHERE retracted_at IS NULL AND fell_off = 0",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let delivery = |(subscriber, message_id)| DeliveryRow { subscriber, message_id };
    let event = |(label_id, event_id, raw)| EventRow { label_id, event_id, raw };
    Rows {
        deliveries: deliveries.into_iter().map(delivery).collect(),
        events: Some(events.into_iter().map(event).collect()),
    }
}

/// Opens a separate connection to a database that may be in use.
pub async fn connect(path: &Path) -> sqlx::Result<sqlx::SqliteConnection> {
    sqlx::sqlite::SqliteConnectOptions::new().filename(path).connect().await
}
