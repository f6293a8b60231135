//! Reads the database of a test through a separate connection.

use std::path::Path;

use super::Harness;

/// Row of one label.
#[derive(Debug)]
pub struct Row {
    pub state: String,
    pub failures: i64,
    pub refusals: i64,
    pub last_seq: i64,
    pub next_poll_at: Option<i64>,
}

impl Harness {
    /// Outcome and detail of every attempt, in order.
    pub async fn attempts(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT outcome, coalesce(detail, '') FROM attempts ORDER BY started_at")
            .fetch_all(&mut connect(self.path()).await)
            .await
            .unwrap()
    }

    /// Reads a label's row.
    pub async fn row(&self, label: &str) -> Row {
        let mut connection = connect(&self.path).await;
        let (state, failures, refusals, last_seq, next_poll_at) = sqlx::query_as(
            "SELECT state, failures, refusals, last_seq, next_poll_at FROM labels WHERE label_id = ?",
        )
        .bind(label)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        Row { state, failures, refusals, last_seq, next_poll_at }
    }

    /// Returns the seconds until the label's next poll.
    pub async fn wait_of(&self, label: &str) -> f64 {
        let next = self.row(label).await.next_poll_at.expect("the label has a next poll");
        (next - self.now().as_millisecond()) as f64 / 1000.0
    }

    /// Returns one number from the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&mut connect(&self.path).await).await.unwrap()
    }

    /// Advances the time to the next poll of a label.
    pub async fn pass_until_due(&self) {
        let next = self.count("SELECT min(next_poll_at) FROM labels WHERE next_poll_at IS NOT NULL").await;
        let wait = next - self.now().as_millisecond();
        self.pass(jiff::SignedDuration::from_millis(wait.max(0)));
    }
}

/// Opens a separate connection to a database that may be in use.
pub async fn connect(path: &Path) -> sqlx::SqliteConnection {
    super::rows::connect(path).await.unwrap()
}

/// Returns whether `actual` equals `planned` within this `share`.
pub fn about(actual: f64, planned: f64, share: f64) -> bool {
    (actual - planned).abs() <= planned * share + 0.002
}
