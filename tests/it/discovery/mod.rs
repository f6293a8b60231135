//! Labels found in the list: each is registered once, none is missed, voided ones are removed, and personal data is not
//! stored.

mod account;
mod running;
mod walking;

use jiff::Timestamp;
use serde_json::{Value, json};
use trackpost::domain::label::{LabelId, LabelKey, Registration, Source};
use trackpost::sandbox::Answer;
use trackpost::store::labels::Removal;
use trackpost::workers::registrar::Registrar;

use crate::harness::parcel::in_transit;
use crate::harness::{Harness, ORDERS, hours, seconds};

const DISCOVER: &str = "[accounts.main.discover]\nenabled = true\n";

async fn harness() -> Harness {
    Harness::with(&format!("{DISCOVER}{ORDERS}")).await
}

fn id(label: &str) -> LabelId {
    label.parse().unwrap()
}

impl Harness {
    fn make(&self, labels: impl IntoIterator<Item = u32>) {
        labels.into_iter().for_each(|number| self.sandbox.create(&id(&format!("se-{number}"))));
    }

    fn key(&self, label: &str) -> LabelKey {
        LabelKey { account: self.account.name.clone(), id: id(label) }
    }

    async fn states(&self) -> Vec<(String, String, String)> {
        let page = self.labels().await;
        page.into_iter().map(|label| (label.label_id, label.state, label.source)).collect()
    }

    async fn registered_labels(&self) -> usize {
        self.states().await.iter().filter(|(_, state, _)| state != "removed").count()
    }

    /// The requests for the list, in order.
    fn listings(&self) -> Vec<String> {
        let requests = self.sandbox.requests().into_iter().map(|request| request.target);
        requests.filter(|target| target.contains("/labels?")).collect()
    }
}

/// A page with exactly these labels.
fn page(labels: &[Value]) -> Answer {
    Answer::json(200, json!({"labels": labels, "pages": 1, "page": 1, "links": {"next": {}}}).to_string())
}

fn label(label: &str, created_at: Timestamp, status: &str, trackable: bool) -> Value {
    json!({"label_id": label, "created_at": created_at.to_string(), "status": status, "trackable": trackable,
        "voided": status == "voided", "tracking_status": "in_transit", "ship_to": {"name": "Sam Sample"}})
}

#[tokio::test]
async fn new_labels_are_registered_and_their_messages_have_the_order() {
    let mut harness = harness().await;
    harness.make([1, 2]);
    harness.discover().await;
    harness.says("se-1", &in_transit());
    harness.poll_and_deliver().await;
    assert_eq!(harness.states().await[0], ("se-1".into(), "active".into(), "discovered".into()));
    let callback =
        harness.callbacks("orders").into_iter().find(|c| c.label_id.as_deref() == Some("se-1")).unwrap();
    let body: Value = serde_json::from_slice(&callback.body).unwrap();
    let metadata = &body["data"]["metadata"];
    assert_eq!((&metadata["order"], &metadata["shipment"]), (&json!("A-1"), &json!("se-71")));
    assert!(metadata["carrier"].is_string() && metadata["service"].is_string(), "{metadata}");

    harness.make([3]);
    harness.pass(seconds(295));
    assert_eq!(harness.discover().await, 0, "no walk before the interval has passed");
    harness.pass(seconds(5));
    assert_eq!(harness.discover().await, 1, "one request is enough");
    assert_eq!(harness.registered_labels().await, 3);
}

#[tokio::test]
async fn only_trackable_labels_are_registered() {
    let mut harness = harness().await;
    let now = harness.now();
    harness.sandbox.script_list(page(&[
        label("se-1", now, "completed", true),
        label("se-2", now, "completed", false),
        label("se-3", now, "voided", false),
        label("se-4", now, "error", true),
        label("se-5", now, "processing", true),
        json!({"label_id": "SE-6"}),
    ]));
    harness.discover_once().await;
    assert_eq!(harness.states().await, [("se-1".into(), "active".into(), "discovered".into())]);

    // The label is completed hours later. The walk has waited for it.
    harness.pass(hours(5));
    let later = harness.now();
    harness.sandbox.unscript_list();
    harness
        .sandbox
        .script_list(page(&[label("se-5", now, "completed", true), label("se-7", later, "completed", true)]));
    harness.discover().await;
    let from = now.as_second() - 15 * 60;
    let from = format!("created_at_start={}&", Timestamp::from_second(from).unwrap());
    assert!(harness.listings().last().unwrap().contains(&from), "{:?}", harness.listings());
    assert_eq!(harness.registered_labels().await, 3);
}

#[tokio::test]
async fn a_voided_label_is_removed_within_the_hour() {
    let mut harness = harness().await;
    harness.make([1, 2, 3]);
    harness.discover().await;
    harness.sandbox.void(&id("se-1"));
    harness.pass(seconds(300));
    harness.discover().await;
    assert_eq!(harness.row("se-1").await.state, "removed");

    // Beyond the overlap only the walk for voids finds it. Other sources of a label keep it.
    harness.store().add_by_hand(&[by_hand(&harness, "se-3")], harness.now()).await.unwrap();
    harness.make([4]);
    harness.pass(hours(48));
    harness.discover().await;
    harness.sandbox.void(&id("se-2"));
    harness.sandbox.void(&id("se-3"));
    harness.pass(hours(1));
    harness.discover().await;
    assert_eq!(harness.row("se-2").await.state, "removed");
    assert_eq!(harness.states().await[2], ("se-3".into(), "active".into(), "cli".into()));
    assert_eq!(harness.row("se-4").await.state, "active");
    let polls = harness.sandbox.requests_of("se-2");
    harness.poll().await;
    assert_eq!(harness.sandbox.requests_of("se-2"), polls, "its polls have ended");
}

fn by_hand(harness: &Harness, label: &str) -> Registration {
    Registration { key: harness.key(label), metadata: Default::default(), source: Source::Cli }
}

#[tokio::test]
async fn a_label_removed_by_hand_stays_removed() {
    let mut harness = harness().await;
    harness.make([1, 2]);
    harness.discover().await;
    assert_eq!(
        harness.store().remove_by_hand(&harness.key("se-1"), harness.now()).await.unwrap(),
        Removal::Removed
    );
    for _ in 0..3 {
        harness.pass(seconds(300));
        harness.discover().await;
        harness.restart().await;
    }
    assert!(harness.listings().len() >= 4);
    assert_eq!(harness.row("se-1").await.state, "removed");
    harness.store().add_by_hand(&[by_hand(&harness, "se-1")], harness.now()).await.unwrap();
    assert_eq!(harness.row("se-1").await.state, "active");
    harness.pass(seconds(300));
    harness.discover().await;
    let found = harness.store().labels_named("se-1").await.unwrap();
    let (_, detail) = harness.store().label_detail(found[0].row).await.unwrap().unwrap();
    assert_eq!(detail.registered_by, ["hand", "discovery"], "it is found again like any other label");

    harness.store().add_by_hand(&[by_hand(&harness, "se-2")], harness.now()).await.unwrap();
    let labels = harness.labels().await;
    let order = |metadata: &str| serde_json::from_str::<Value>(metadata).unwrap()["order"].clone();
    assert_eq!(order(labels[1].metadata.get()), "A-2", "its metadata from the list stay");
}

#[tokio::test]
async fn a_label_found_after_it_left_the_configuration_was_not_polled_in_between() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.says("se-1", &in_transit());
    harness.configure("['se-1']").await;
    harness.poll().await;
    let answered = "SELECT count(last_answer_at) FROM labels";
    assert_eq!(harness.count(answered).await, 1);
    harness.configure("[]").await;
    assert_eq!(harness.row("se-1").await.state, "removed");
    harness.pass(hours(6));
    harness.discover().await;
    assert_eq!((harness.row("se-1").await.state.as_str(), harness.count(answered).await), ("active", 0));
}

#[tokio::test]
async fn a_label_in_the_configuration_and_in_the_list_is_one_label() {
    let mut harness = harness().await;
    harness.configure("['se-1']").await;
    harness.make([1]);
    harness.discover().await;
    assert_eq!(harness.states().await, [("se-1".into(), "active".into(), "config".into())]);
    harness.configure("[]").await;
    assert_eq!(harness.states().await, [("se-1".into(), "active".into(), "discovered".into())]);
}

/// A watched label file.
struct LabelFile {
    directory: tempfile::TempDir,
    registrar: Registrar,
}

impl LabelFile {
    /// Writes and registers a file with the labels se-1 and se-900.
    async fn with_first_label(harness: &mut Harness) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("labels.txt");
        std::fs::write(&file, "se-1\nse-900\n").unwrap();
        let mut registrar = harness.registrar("FILES", &format!("[{file:?}]"));
        // The file is read once it has not changed for a second.
        harness.pass(seconds(5));
        registrar.step(harness.now()).await.unwrap();
        Self { directory, registrar }
    }

    /// Removes se-1 from the file and waits until its polls end: a label may be missing for a minute.
    async fn remove_first_label(&mut self, harness: &mut Harness) {
        std::fs::write(self.directory.path().join("labels.txt"), "se-900\n").unwrap();
        for _ in 0..4 {
            harness.pass(seconds(61));
            self.registrar.step(harness.now()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_label_in_a_file_and_in_the_list_is_one_label() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.says("se-1", &in_transit());
    let mut file = LabelFile::with_first_label(&mut harness).await;
    harness.discover().await;
    assert_eq!(harness.states().await[0], ("se-1".into(), "active".into(), "file".into()));
    harness.poll().await;
    let answered = "SELECT count(last_answer_at) FROM labels WHERE label_id = 'se-1'";
    assert_eq!(harness.count(answered).await, 1);

    file.remove_first_label(&mut harness).await;
    assert_eq!(harness.states().await[0], ("se-1".into(), "active".into(), "discovered".into()));
    assert_eq!(harness.count(answered).await, 1, "it was polled all the time");
}

#[tokio::test]
async fn a_label_found_after_it_left_its_file_was_not_polled_in_between() {
    let mut harness = harness().await;
    harness.make([1]);
    harness.says("se-1", &in_transit());
    let mut file = LabelFile::with_first_label(&mut harness).await;
    harness.poll().await;
    let answered = "SELECT count(last_answer_at) FROM labels WHERE label_id = 'se-1'";
    assert_eq!(harness.count(answered).await, 1);
    file.remove_first_label(&mut harness).await;
    assert_eq!(harness.row("se-1").await.state, "removed");
    harness.pass(hours(6));
    harness.discover().await;
    assert_eq!((harness.row("se-1").await.state.as_str(), harness.count(answered).await), ("active", 0));
}

#[tokio::test]
async fn the_first_poll_is_a_baseline_if_configured() {
    let mut harness =
        Harness::with(&format!("{DISCOVER}{ORDERS}[registration]\nfirst_poll = \"baseline\"\n")).await;
    harness.make([1]);
    harness.says("se-1", &in_transit());
    harness.discover().await;
    harness.poll_and_deliver().await;
    assert_eq!(harness.row("se-1").await.state, "active");
    assert!(harness.callbacks("orders").is_empty());
}
