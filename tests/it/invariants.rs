//! The checker of all invariants detects each violation and names its row.

use tempfile::TempDir;
use trackpost::sandbox::Answer;
use trackpost::store;

use crate::harness::parcel::{event, event_in, in_transit, tracking};
use crate::harness::{Harness, connect};

/// Damage to a copy of a valid database, with the expected report.
const BREAKAGES: [(&str, &str); 15] = [
    ("UPDATE labels SET last_seq = last_seq + 1 WHERE label_id = 'se-1'", "the last message of se-1 has seq"),
    (
        "DELETE FROM messages WHERE label_id = 'se-1' AND type = 'tracking.updated'",
        "the last message of se-1 has seq",
    ),
    ("UPDATE labels SET missing_events = 3 WHERE label_id = 'se-1'", "se-1 counts 3 missing events"),
    ("UPDATE labels SET status_code = 'IT' WHERE state = 'finished'", "se-1 is finished"),
    ("DELETE FROM event_changes", "of se-1 has revision 2"),
    (
        "UPDATE tracking_events SET raw = json_set(raw, '$.signer', 'x')",
        "has two different contents in revision",
    ),
    ("UPDATE tracking_events SET late = 1 - late", "has two different contents in revision"),
    ("UPDATE tracking_events SET position = position + 1 WHERE position = 2", "se-1 has 2 events"),
    (
        "UPDATE deliveries SET reason = '\"whim\"' WHERE state = 'pending'",
        "has an unknown reason for its due time",
    ),
    ("UPDATE messages SET body = '[]' WHERE message_key = 1", "is not a JSON object"),
    ("UPDATE message_hours SET message_key = 2", "is not found by the hour"),
    (
        "UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, reason = NULL WHERE delivery_key = (SELECT max(delivery_key) FROM deliveries WHERE state = 'pending')",
        "ended before an earlier one",
    ),
    (
        "UPDATE deliveries SET attempts = attempts + 1 WHERE state = 'pending' AND attempts > 0",
        "counts 2 attempts",
    ),
    (
        "UPDATE attempts SET outcome = 'reset' WHERE outcome = 'accepted'",
        "is delivered, but its last attempt (1) ended as Some(\"reset\")",
    ),
    (
        "DELETE FROM freshness WHERE kind = 'since_scan'",
        "counts 1 events of ups in main since the last poll, but 0 since",
    ),
];

/// One delivered label with a revision, and one label whose first message fails.
async fn valid_harness() -> Harness {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &tracking("IT", &[&event_in(0, "AC", "PU", "")]));
    harness.says("se-2", &in_transit());
    harness
        .receiver
        .answer_by(|callback| (callback.label_id.as_deref() == Some("se-2")).then(|| Answer::status(500)));
    harness.poll_and_deliver().await;
    harness.says("se-1", &tracking("DE", &[&event(90, "DE", "DL"), &event(0, "AC", "PU")]));
    harness.poll_again("se-1").await;
    harness.deliver().await;
    harness
}

#[tokio::test]
async fn each_violation_is_detected_and_named() {
    let harness = valid_harness().await;
    assert_eq!(harness.store().violations().await.unwrap(), [""; 0]);
    let attic = TempDir::new().unwrap();
    for (number, (breakage, expected)) in BREAKAGES.into_iter().enumerate() {
        let copy = attic.path().join(format!("{number}.db"));
        sqlx::query("VACUUM INTO ?")
            .bind(copy.to_str().unwrap())
            .execute(&mut connect(harness.path()).await)
            .await
            .unwrap();
        let broken = sqlx::query(breakage).execute(&mut connect(&copy).await).await.unwrap();
        assert!(broken.rows_affected() > 0, "{breakage} changes no row");
        let (store, _writer) = store::open(&copy).await.unwrap();
        let report = store.violations().await.unwrap().join("\n");
        assert!(report.contains(expected), "{breakage}:\n{report}");
    }
}
