//! A database restored from yesterday's copy (contract 5.1, 5.3).

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::TempDir;

use crate::house::parcel::{event, event_in, in_transit, tracking};
use crate::house::{House, bystander, hours};

/// Ids of messages and of the events in them, as the receiver has them.
fn ids(house: &House) -> BTreeSet<(u64, String, Vec<String>)> {
    let callbacks = house.callbacks("orders");
    let of = |body: &[u8]| -> Vec<String> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let changes = body["data"]["changes"].as_array().cloned().unwrap_or_default();
        let events = body["data"]["events"].as_array().cloned().unwrap_or_default();
        let told = changes.iter().chain(&events).chain([&body["data"]["event"]]);
        told.filter_map(|event| event["event_id"].as_str().map(str::to_owned)).collect()
    };
    callbacks
        .into_iter()
        .map(|callback| (callback.seq.unwrap(), callback.message_id.unwrap(), of(&callback.body)))
        .collect()
}

/// One more of everything: added, revised, retracted, returned, an estimate, a status, delivered.
async fn live_on(house: &mut House) {
    let (a, b) = (event(0, "AC", "PU"), event_in(60, "IT", "AR", ""));
    let full = tracking("IT", &[&b, &a]);
    let enriched = tracking("IT", &[&event_in(60, "IT", "AR", "OMAHA"), &a]);
    let short = tracking("IT", &[&a]);
    let estimated = enriched.replace(r#"_date":null"#, r#"_date":"2030-03-09""#);
    let delivered = tracking("DE", &[&event(120, "DE", "DL"), &event_in(60, "IT", "AR", "OMAHA"), &a]);
    for answer in [&full, &enriched, &short, &short, &estimated, &delivered] {
        house.says("se-1", answer);
        house.pass(hours(5));
        house.look_again("se-1").await;
        house.deliver().await;
    }
}

#[tokio::test]
async fn a_restored_database_says_the_same_under_the_same_ids() {
    let mut house = House::new().await;
    house.register(&["se-1"]).await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;

    let attic = TempDir::new().unwrap();
    let copy = attic.path().join("copy.db");
    sqlx::query("VACUUM INTO ?")
        .bind(copy.to_str().unwrap())
        .execute(&mut bystander(house.path()).await)
        .await
        .unwrap();
    live_on(&mut house).await;
    let first = ids(&house);
    assert!(first.len() > 12, "{first:?}");

    house.shut().await;
    for beside in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{beside}", house.path().display()));
    }
    std::fs::copy(&copy, house.path()).unwrap();
    house.expect_bodies_anew();
    house.restart().await;
    live_on(&mut house).await;
    assert_eq!(ids(&house), first);
    let received = house.callbacks("orders").len();
    assert!(received > first.len(), "they were really sent again");
}
