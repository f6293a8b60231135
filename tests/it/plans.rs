//! Query plans of the writer's statements: none reads all labels of an account.
//!
//! The plans of statements over many rows are tested in `store/bulk.rs`.

use serde_json::Value;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use crate::harness::{Harness, connect};

/// Returns every statement with these words, as checked when the code was built.
fn statements(words: &str) -> Vec<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/.sqlx");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let checked = files.map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap());
    let queries = checked.map(|checked: Value| checked["query"].as_str().unwrap().to_owned());
    queries.filter(|query| query.contains(words)).collect()
}

/// Returns the steps by which SQLite executes the statement.
async fn plan(connection: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
    let plan = explained.fetch_all(connection).await.unwrap();
    plan.iter().map(|step| step.get("detail")).collect()
}

#[tokio::test]
async fn statements_on_labels_use_an_index_of_the_label() {
    let harness = Harness::new().await;
    let mut connection = connect(harness.path()).await;
    let mut checked = [statements("UPDATE labels"), statements("DELETE FROM labels")].concat();
    // With a plus it reads all labels on purpose, in the order of the table.
    checked.retain(|statement| !statement.contains("+account"));
    assert_eq!(checked.len(), 2, "{checked:?}");
    for statement in checked {
        for step in plan(&mut connection, &statement).await {
            let all = step.starts_with("SCAN labels") || step.contains("(account=?)");
            assert!(!all, "it reads all labels of an account ({step}): {statement}");
        }
    }
}

#[tokio::test]
async fn selects_of_labels_in_transactions_use_a_partial_index() {
    let harness = Harness::new().await;
    let mut connection = connect(harness.path()).await;
    for (index, step) in [
        ("INDEXED BY labels_failing", "SEARCH labels USING INDEX labels_failing (account=?)"),
        ("INDEXED BY labels_idle", "SEARCH l USING INDEX labels_idle (<expr><?)"),
    ] {
        let selects = statements(index);
        assert_eq!(selects.len(), 1, "{selects:?}");
        let steps = plan(&mut connection, &selects[0]).await;
        assert!(steps.contains(&step.to_owned()), "{steps:?}: {}", selects[0]);
    }
}

#[tokio::test]
async fn lane_heads_are_found_by_a_covering_index() {
    let harness = Harness::new().await;
    let mut connection = connect(harness.path()).await;
    let choices = statements("GROUP BY lane");
    assert_eq!(choices.len(), 2, "{choices:?}");
    for choice in choices {
        let steps = plan(&mut connection, &choice).await;
        let covered =
            |step: &String| step.contains("deliveries USING COVERING INDEX deliveries_pending (subscriber=?");
        assert!(steps.iter().any(covered), "{steps:?}");
    }
}
