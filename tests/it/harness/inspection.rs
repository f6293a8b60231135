//! Checks at the end of every test: the database's invariants, each callback's signature and schema, and the ledger.

use std::collections::HashMap;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use standardwebhooks::Webhook;
use trackpost::domain::tracking::replace_lone_surrogates;
use trackpost::sandbox::ledger::{Accepted, Follows, Served, Violation, ViolationKind, audit};
use trackpost::sandbox::{ReceivedCallback, ReceiverHandle};
use trackpost::store;

use super::SECRET;
use super::rows::rows;

/// Panics if a check fails. Runs without the caller's runtime, because it is called from `drop`.
pub fn inspect(database: &Path, served: &Served, receiver: &ReceiverHandle, same_bodies: bool) {
    let path = database.to_owned();
    let checked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, _writer) = store::open(&path).await.unwrap();
            let violations = store.violations().await.unwrap();
            store.close().await;
            violations
        })
    });
    let violations = checked.join().expect("the database can be inspected");
    assert!(violations.is_empty(), "broken invariants:\n{}", violations.join("\n"));
    let callbacks = receiver.callbacks();
    callbacks.iter().for_each(signed);
    valid(&callbacks);
    let found = audit(served, &receiver.accepted(), &[], None, None);
    // These hold in every test. Other checks do not: some tests refuse signatures, replay older messages, or write
    // messages without an answer of the API.
    let never = |kind| kind == ViolationKind::Duplicated || (kind == ViolationKind::Rewritten && same_bodies);
    let found: Vec<&Violation> = found.iter().filter(|violation| never(violation.kind)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Panics unless each of these subscribers received all served changes, every message is recorded, and no other message
/// was received.
pub async fn check_received(
    database: &Path,
    served: &Served,
    accepted: &Accepted,
    subscribers: &[(&str, Follows)],
) {
    let rows = rows(database).await;
    assert_eq!(audit(served, accepted, subscribers, Some(&rows), None), []);
}

/// Verifies with the official library. Its clock differs from the test's, so the timestamp is not checked.
fn signed(callback: &ReceivedCallback) {
    let header = |name| callback.header(name).unwrap_or_else(|| panic!("{name} is missing"));
    let timestamp = header("webhook-timestamp").parse().expect("whole seconds");
    let token = Webhook::new(SECRET).unwrap().sign(header("webhook-id"), timestamp, &callback.body).unwrap();
    assert!(
        header("webhook-signature").split(' ').any(|theirs| theirs == token),
        "the signature of {} to {} is invalid",
        header("webhook-id"),
        callback.path
    );
}

/// Validates against the shipped schemas, selected by `type`, else by `resource_type`.
fn valid(callbacks: &[ReceivedCallback]) {
    let mut validators: HashMap<String, Validator> = HashMap::new();
    for callback in callbacks {
        // A lone surrogate is valid JSON, but serde rejects it.
        let body = replace_lone_surrogates(std::str::from_utf8(&callback.body).expect("a body is UTF-8"));
        let body: Value = serde_json::from_str(&body).expect("a body is JSON");
        let file = match (body["type"].as_str(), body["resource_type"].as_str()) {
            (Some(kind), _) => kind,
            (None, Some("TRACK_EVENT_V2")) => "shipstation",
            (None, _) => "shipengine",
        };
        let validator = validators.entry(file.to_owned()).or_insert_with(|| {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
            let text = std::fs::read_to_string(directory.join(format!("{file}.json")));
            let schema = text.unwrap_or_else(|error| panic!("no schema of {file}: {error}"));
            jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap()
        });
        let faults: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{file}: {faults:?}\n{body}");
    }
}
