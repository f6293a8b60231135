//! What is asked of every house in the end: the database's invariants, each callback's signature, and its schema.

use std::collections::HashMap;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;
use standardwebhooks::Webhook;
use trackpost::domain::tracking::replace_lone_surrogates;
use trackpost::sandbox::Delivery;
use trackpost::store;

use super::SECRET;

/// Panics if anything is wrong. Needs no runtime of the caller's: it is called when things are dropped.
pub fn inspect(database: &Path, callbacks: &[Delivery], same_bodies: bool) {
    let database = database.to_owned();
    let checked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (store, _writer) = store::open(&database).await.unwrap();
            let broken = store.broken().await.unwrap();
            store.close().await;
            broken
        })
    });
    let broken = checked.join().expect("the database can be inspected");
    assert!(broken.is_empty(), "broken invariants:\n{}", broken.join("\n"));
    callbacks.iter().for_each(signed);
    in_form(callbacks);
    if same_bodies {
        one_body_per_id(callbacks);
    }
}

/// By the verifier that receivers use. Its clock is not ours, so the timestamp is not held against it.
fn signed(callback: &Delivery) {
    let header = |name| callback.header(name).unwrap_or_else(|| panic!("{name} is missing"));
    let timestamp = header("webhook-timestamp").parse().expect("whole seconds");
    let token = Webhook::new(SECRET).unwrap().sign(header("webhook-id"), timestamp, &callback.body).unwrap();
    assert!(
        header("webhook-signature").split(' ').any(|theirs| theirs == token),
        "the signature of {} to {} does not hold",
        header("webhook-id"),
        callback.path
    );
}

/// The same bytes go out at every attempt.
fn one_body_per_id(callbacks: &[Delivery]) {
    let mut bodies = HashMap::new();
    for callback in callbacks {
        let key = (&callback.path, &callback.message_id);
        let before = bodies.entry(key).or_insert(&callback.body);
        assert_eq!(*before, &callback.body, "two bodies under {key:?}");
    }
}

/// By the schemas that ship, as a receiver would find the right one: by `type`, else by `resource_type`.
fn in_form(callbacks: &[Delivery]) {
    let mut validators: HashMap<String, Validator> = HashMap::new();
    for callback in callbacks {
        // A text cut in the middle of an emoji is JSON, but none that serde reads.
        let body = replace_lone_surrogates(std::str::from_utf8(&callback.body).expect("a body is UTF-8"));
        let body: Value = serde_json::from_str(&body).expect("a body is JSON");
        let file = match (body["type"].as_str(), body["resource_type"].as_str()) {
            (Some(kind), _) => kind,
            (None, Some("TRACK_EVENT_V2")) => "shipstation",
            (None, _) => "shipengine",
        };
        let validator = validators.entry(file.to_owned()).or_insert_with(|| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
            let text = std::fs::read_to_string(folder.join(format!("{file}.json")));
            let schema = text.unwrap_or_else(|error| panic!("no schema of {file}: {error}"));
            jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap()
        });
        let faults: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{file}: {faults:?}\n{body}");
    }
}
