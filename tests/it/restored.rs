//! A database restored from a copy of the day before (contract 5.1, 5.3).

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::parcel::{event, event_in, in_transit, tracking};
use crate::harness::{Harness, connect, hours};

/// Returns the ids of messages and of their events, as received.
fn ids(harness: &Harness) -> BTreeSet<(String, Vec<String>)> {
    let callbacks = harness.callbacks("orders");
    let of = |body: &[u8]| -> Vec<String> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let changes = body["data"]["changes"].as_array().cloned().unwrap_or_default();
        let events = body["data"]["events"].as_array().cloned().unwrap_or_default();
        let sent = changes.iter().chain(&events).chain([&body["data"]["event"]]);
        sent.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
    };
    callbacks.into_iter().map(|callback| (callback.message_id.unwrap(), of(&callback.body))).collect()
}

/// A series of answers with one change of each kind: added, revised, retracted, returned, an estimate, a status,
/// delivered.
async fn play_journey(harness: &mut Harness) {
    let (a, b) = (event(0, "AC", "PU"), event_in(60, "IT", "AR", ""));
    let full = tracking("IT", &[&b, &a]);
    let enriched = tracking("IT", &[&event_in(60, "IT", "AR", "OMAHA"), &a]);
    let short = tracking("IT", &[&a]);
    let estimated = enriched.replace(r#"_date":null"#, r#"_date":"2030-03-09""#);
    let delivered = tracking("DE", &[&event(120, "DE", "DL"), &event_in(60, "IT", "AR", "OMAHA"), &a]);
    for answer in [&full, &enriched, &short, &short, &estimated, &delivered] {
        harness.says("se-1", answer);
        harness.pass(hours(5));
        harness.poll_again("se-1").await;
        harness.deliver().await;
    }
}

async fn back_up(harness: &Harness, copy: &Path) {
    let into = copy.to_str().unwrap();
    sqlx::query("VACUUM INTO ?").bind(into).execute(&mut connect(harness.path()).await).await.unwrap();
}

/// Replaces the database by the copy.
async fn restore(harness: &mut Harness, copy: &Path) {
    harness.shut().await;
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", harness.path().display()));
    }
    std::fs::copy(copy, harness.path()).unwrap();
    harness.allow_changed_bodies();
    harness.restart().await;
}

#[tokio::test]
async fn a_restored_database_sends_the_same_messages_under_the_same_ids() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;

    let attic = TempDir::new().unwrap();
    let copy = attic.path().join("copy.db");
    back_up(&harness, &copy).await;
    play_journey(&mut harness).await;
    let first = ids(&harness);
    assert!(first.len() > 12, "{first:?}");

    restore(&mut harness, &copy).await;
    play_journey(&mut harness).await;
    assert_eq!(ids(&harness), first);
    let received = harness.callbacks("orders").len();
    assert!(received > first.len(), "the messages were sent again");
    assert!(
        harness.callbacks("orders").is_sorted_by(|one, next| one.seq < next.seq),
        "no seq is below the highest"
    );
}

#[tokio::test]
async fn events_found_together_have_the_ids_of_events_found_one_by_one() {
    let scans = [
        event(0, "AC", "PU"),
        event(60, "EX", "X1"),
        event(120, "IT", "OD").replace(r#"detail_code":null"#, r#"detail_code":"OUT_FOR_DELIVERY""#),
        event(180, "DE", "DL"),
    ];
    let answer = |count: usize| {
        let status = ["AC", "EX", "IT", "DE"][count - 1];
        tracking(status, &scans[..count].iter().rev().map(String::as_str).collect::<Vec<_>>())
    };
    // Restores a backup of each moment, and an empty database.
    for backup in 0..=3 {
        let mut harness = Harness::new().await;
        harness.register(&["se-1"]).await;
        let attic = TempDir::new().unwrap();
        let copy = attic.path().join("copy.db");
        for count in 1..=4 {
            if count - 1 == backup {
                back_up(&harness, &copy).await;
            }
            harness.says("se-1", &answer(count));
            harness.pass(hours(5));
            harness.poll_again("se-1").await;
            harness.deliver().await;
        }
        let first = ids(&harness);
        restore(&mut harness, &copy).await;
        harness.pass(hours(5));
        harness.poll_again("se-1").await;
        harness.deliver().await;
        let new: Vec<_> = harness
            .callbacks("orders")
            .into_iter()
            .filter(|callback| !first.iter().any(|(id, _)| Some(id) == callback.message_id.as_ref()))
            .map(|callback| callback.kind.unwrap())
            .collect();
        // The last status change spans all steps since the backup, so its message is new unless one step was left.
        let expected: &[&str] = if backup == 3 { &[] } else { &["tracking.status.changed"] };
        assert_eq!(new, expected, "backup after {backup} answers");
        let sent = harness.callbacks("orders");
        for kind in ["tracking.delivered", "tracking.out_for_delivery", "tracking.exception"] {
            let ids: BTreeSet<_> = sent
                .iter()
                .filter(|one| one.kind.as_deref() == Some(kind))
                .map(|one| &one.message_id)
                .collect();
            assert_eq!(ids.len(), 1, "{kind}");
        }
        assert!(
            sent.is_sorted_by(|one, next| one.seq < next.seq),
            "a receiver that keeps the highest seq misses nothing"
        );
    }
}

#[tokio::test]
async fn a_repeated_change_is_a_new_message() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1"]).await;
    let scan = event(0, "IT", "AR");
    for turn in 0..24 {
        harness.says("se-1", &tracking(["IT", "UN"][turn % 2], &[&scan]));
        harness.pass(hours(1));
        harness.poll_again("se-1").await;
    }
    harness.deliver().await;
    let sent: Vec<_> =
        harness.callbacks("orders").into_iter().filter_map(|callback| callback.message_id).collect();
    assert_eq!(sent.len(), 3 + 23 * 2);
    assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "every message has its own id");
}
