//! Query plans of the writer's statements: none reads all labels of an account.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use crate::harness::{Harness, connect};

/// Returns every statement with these words, as checked when the code was built.
fn statements(words: &str) -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let checked = files.map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap());
    let queries = checked.map(|checked: Value| checked["query"].as_str().unwrap().to_owned());
    queries.filter(|query| query.contains(words)).collect()
}

#[tokio::test]
async fn updates_of_labels_use_an_index_of_the_label() {
    let harness = Harness::new().await;
    let mut connection = connect(harness.path()).await;
    let updates = statements("UPDATE labels");
    assert!(!updates.is_empty());
    // With a plus it reads all labels on purpose, in the order of the table.
    for update in updates.into_iter().filter(|update| !update.contains("+account")) {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {update}")));
        let plan = explained.fetch_all(&mut connection).await.unwrap();
        for step in plan.iter().map(|step| step.get::<String, _>("detail")) {
            let all = step.starts_with("SCAN labels") || step.contains("(account=?)");
            assert!(!all, "it reads all labels of an account ({step}): {update}");
        }
    }
}

#[tokio::test]
async fn lane_heads_are_found_by_a_covering_index() {
    let harness = Harness::new().await;
    let mut connection = connect(harness.path()).await;
    let choices = statements("GROUP BY lane");
    assert_eq!(choices.len(), 2, "{choices:?}");
    for choice in choices {
        let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {choice}")));
        let plan = explained.fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        let covered =
            |step: &String| step.contains("deliveries USING COVERING INDEX deliveries_pending (subscriber=?");
        assert!(steps.iter().any(covered), "{steps:?}");
    }
}
