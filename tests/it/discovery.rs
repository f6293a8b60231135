//! Labels that are found in the list: each once, none missed, none kept that was voided, and nobody's address.

use jiff::Timestamp;
use serde_json::{Value, json};
use trackpost::domain::label::{LabelId, LabelKey, Registration, Source};
use trackpost::sandbox::{Answer, SandboxOptions};
use trackpost::store::labels::Removal;

use crate::house::child::{Site, until};
use crate::house::parcel::in_transit;
use crate::house::{API_KEY, House, ORDERS, hours, seconds};

const DISCOVER: &str = "[accounts.main.discover]\nenabled = true\n";

/// What the sandbox says of the people who get its parcels, and a part of the links that open their labels.
const PEOPLE: [&str; 6] =
    ["Sam Sample", "555-0100", "sam@example.com", "Example Street", "74103", "SANDBOXTOKEN"];

async fn house() -> House {
    House::with(&format!("{DISCOVER}{ORDERS}")).await
}

fn id(label: &str) -> LabelId {
    label.parse().unwrap()
}

impl House {
    fn make(&self, labels: impl IntoIterator<Item = u32>) {
        labels.into_iter().for_each(|number| self.sandbox.create(&id(&format!("se-{number}"))));
    }

    fn key(&self, label: &str) -> LabelKey {
        LabelKey { account: self.account.name.clone(), id: id(label) }
    }

    async fn states(&self) -> Vec<(String, String, String)> {
        let page = self.store().label_page(None, None, 0).await.unwrap();
        page.into_iter().map(|label| (label.label_id, label.state, label.source)).collect()
    }

    async fn watched(&self) -> usize {
        self.states().await.iter().filter(|(_, state, _)| state != "removed").count()
    }

    /// What the list was asked, in order.
    fn listings(&self) -> Vec<String> {
        let asked = self.sandbox.requests().into_iter().map(|asked| asked.target);
        asked.filter(|target| target.contains("/labels?")).collect()
    }
}

/// A page that holds just this.
fn page(labels: &[Value]) -> Answer {
    Answer::json(200, json!({"labels": labels, "pages": 1, "page": 1, "links": {"next": {}}}).to_string())
}

fn label(label: &str, created_at: Timestamp, status: &str, trackable: bool) -> Value {
    json!({"label_id": label, "created_at": created_at.to_string(), "status": status, "trackable": trackable,
        "voided": status == "voided", "tracking_status": "in_transit", "ship_to": {"name": "Sam Sample"}})
}

#[tokio::test]
async fn new_labels_are_watched_and_told_of_with_their_order() {
    let mut house = house().await;
    house.make([1, 2]);
    house.discover().await;
    house.says("se-1", &in_transit());
    house.poll_and_deliver().await;
    assert_eq!(house.states().await[0], ("se-1".into(), "active".into(), "discovered".into()));
    let callback =
        house.callbacks("orders").into_iter().find(|c| c.label_id.as_deref() == Some("se-1")).unwrap();
    let body: Value = serde_json::from_slice(&callback.body).unwrap();
    let metadata = &body["data"]["metadata"];
    assert_eq!((&metadata["order"], &metadata["shipment"]), (&json!("A-1"), &json!("se-71")));
    assert!(metadata["carrier"].is_string() && metadata["service"].is_string(), "{metadata}");

    house.make([3]);
    house.pass(seconds(295));
    assert_eq!(house.discover().await, 0, "not before the interval has passed");
    house.pass(seconds(5));
    assert_eq!(house.discover().await, 1, "one call is enough");
    assert_eq!(house.watched().await, 3);
}

#[tokio::test]
async fn only_what_can_be_tracked_is_watched() {
    let mut house = house().await;
    let now = house.now();
    house.sandbox.script_list(page(&[
        label("se-1", now, "completed", true),
        label("se-2", now, "completed", false),
        label("se-3", now, "voided", false),
        label("se-4", now, "error", true),
        label("se-5", now, "processing", true),
        json!({"label_id": "SE-6"}),
    ]));
    house.discover_once().await;
    assert_eq!(house.states().await, [("se-1".into(), "active".into(), "discovered".into())]);

    // Hours later it is completed; what came after it did not leave it behind.
    house.pass(hours(5));
    let later = house.now();
    house.sandbox.unscript_list();
    house
        .sandbox
        .script_list(page(&[label("se-5", now, "completed", true), label("se-7", later, "completed", true)]));
    house.discover_once().await;
    let from = now.as_second() - 15 * 60;
    let from = format!("created_at_start={}&", Timestamp::from_second(from).unwrap());
    assert!(house.listings().last().unwrap().contains(&from), "{:?}", house.listings());
    assert_eq!(house.watched().await, 3);
}

#[tokio::test]
async fn a_long_list_is_walked_whole_whatever_the_size_of_its_pages() {
    let mut house = house().await;
    house.sandbox.set_largest_page(7);
    for hour in 0..5 {
        house.make(hour * 10..hour * 10 + 10);
        house.pass(hours(1));
    }
    let calls = house.discover().await;
    assert_eq!(house.watched().await, 50);
    assert!(calls <= 20, "{calls} calls for 50 labels of 7 a page");
    let counted = house.count("SELECT count(DISTINCT label_id) FROM labels WHERE by_discovery = 1").await;
    assert_eq!(counted, 50);
}

#[tokio::test]
async fn a_list_in_the_wrong_order_loses_nobody() {
    let mut house = house().await;
    let now = house.now();
    let of = |n: i64| label(&format!("se-{n}"), now - seconds(n), "completed", true);
    let two = |labels: [Value; 2], page: u32| {
        Answer::json(200, json!({"labels": labels, "pages": 3, "page": page, "links": {}}).to_string())
    };
    for (number, labels) in [(1, [of(1), of(2)]), (2, [of(3), of(4)]), (3, [of(5), of(6)])] {
        house.sandbox.script_list_once(two(labels, number));
    }
    for _ in 0..3 {
        let wake = house.discover_once().await;
        house.pass(wake.duration_since(house.now()));
    }
    assert_eq!(house.watched().await, 6);
    let pages: Vec<bool> =
        (1..=3).map(|n| house.listings()[n - 1].contains(&format!("&page={n}&"))).collect();
    assert_eq!(pages, [true; 3], "{:?}", house.listings());
}

#[tokio::test]
async fn a_void_is_dropped_soon_or_within_the_hour() {
    let mut house = house().await;
    house.make([1, 2, 3]);
    house.discover().await;
    house.sandbox.void(&id("se-1"));
    house.pass(seconds(300));
    house.discover().await;
    assert_eq!(house.row("se-1").await.state, "removed");

    // Beyond the overlap only the walk for voids sees it; and who else asks for a label goes on.
    house.store().add_by_hand(&[by_hand(&house, "se-3")], house.now()).await.unwrap();
    house.make([4]);
    house.pass(hours(48));
    house.discover().await;
    house.sandbox.void(&id("se-2"));
    house.sandbox.void(&id("se-3"));
    house.pass(hours(1));
    house.discover().await;
    assert_eq!(house.row("se-2").await.state, "removed");
    assert_eq!(house.states().await[2], ("se-3".into(), "active".into(), "cli".into()));
    assert_eq!(house.row("se-4").await.state, "active");
    let polls = house.sandbox.requests_of("se-2");
    house.poll().await;
    assert_eq!(house.sandbox.requests_of("se-2"), polls, "nobody asks about it any more");
}

fn by_hand(house: &House, label: &str) -> Registration {
    Registration { key: house.key(label), metadata: Default::default(), source: Source::Cli }
}

#[tokio::test]
async fn what_is_removed_by_hand_stays_removed() {
    let mut house = house().await;
    house.make([1, 2]);
    house.discover().await;
    assert_eq!(house.store().remove_by_hand(&house.key("se-1")).await.unwrap(), Removal::Removed);
    for _ in 0..3 {
        house.pass(seconds(300));
        house.discover().await;
        house.restart().await;
    }
    assert!(house.listings().len() >= 4);
    assert_eq!(house.row("se-1").await.state, "removed");
    house.store().add_by_hand(&[by_hand(&house, "se-1")], house.now()).await.unwrap();
    assert_eq!(house.row("se-1").await.state, "active");
    house.pass(seconds(300));
    house.discover().await;
    let told = house.store().labels_named("se-1").await.unwrap();
    let (_, detail) = house.store().label_detail(told[0].row).await.unwrap().unwrap();
    assert_eq!(detail.asked_by, ["hand", "discovery"], "it is found again like any other");
}

#[tokio::test]
async fn a_label_of_the_files_that_is_found_too_is_one_label() {
    let mut house = house().await;
    let wanted = Registration { source: Source::File, ..by_hand(&house, "se-1") };
    house.store().apply_configured(std::slice::from_ref(&wanted), house.now()).await.unwrap();
    house.make([1]);
    house.discover().await;
    assert_eq!(house.states().await, [("se-1".into(), "active".into(), "file".into())]);
    house.store().apply_configured(&[], house.now()).await.unwrap();
    assert_eq!(house.states().await, [("se-1".into(), "active".into(), "discovered".into())]);
}

#[tokio::test]
async fn after_days_of_outage_it_goes_on_where_it_was() {
    let mut house = House::with(&format!("{DISCOVER}lookback = \"1h\"\n{ORDERS}")).await;
    house.make([1]);
    house.discover().await;
    let seen = house.now();
    house.shut().await;
    for number in 2..12 {
        house.pass(hours(12));
        house.make([number]);
    }
    house.pass(hours(12));
    // It is entered late: dated before the last label that was seen.
    house.make([12]);
    house.sandbox.date(&id("se-12"), seen - seconds(14 * 60));
    house.restart().await;
    house.discover().await;
    assert_eq!(house.watched().await, 12, "the lookback is for the very first walk only");
}

#[tokio::test]
async fn dying_between_two_pages_loses_nobody_and_takes_nobody_up_twice() {
    let mut house = house().await;
    house.sandbox.set_largest_page(4);
    for number in 0..20 {
        house.make([number]);
        house.pass(seconds(60));
    }
    for round in 0..40 {
        let wake = house.discover_once().await;
        house.pass(wake.duration_since(house.now()).max(seconds(1)));
        match round {
            0..12 if round % 3 == 1 => house.crash().await,
            0..12 if round % 3 == 2 => {
                house.lose_the_writer().await;
                let now = house.now();
                let _ = house.scout().step(now).await;
                house.crash().await;
            }
            _ => {}
        }
    }
    assert_eq!(house.watched().await, 20);
    let asked = house.sandbox.counters().requests;
    house.poll_and_deliver().await;
    assert_eq!(house.sandbox.counters().requests - asked, 20);
}

#[tokio::test]
async fn a_429_stops_both() {
    let mut house = house().await;
    house.make([1]);
    house.discover().await;
    house.sandbox.script_list_once(Answer::status(429).header("retry-after", "40"));
    house.pass(seconds(400));
    house.discover_once().await;
    let asked = house.sandbox.counters().requests;
    house.poll().await;
    house.pass(seconds(39));
    house.poll().await;
    house.discover_once().await;
    assert_eq!(house.sandbox.counters().requests, asked, "nobody asks before 40 s have passed");
    house.pass(seconds(1));
    assert_eq!((house.poll().await, house.discover().await), (1, 1));

    house.answers("se-1", Answer::status(429).header("retry-after", "400"));
    house.look_again("se-1").await;
    house.pass(seconds(399));
    assert_eq!(house.discover().await, 0);
    house.pass(seconds(1));
    assert_eq!(house.discover().await, 1);
}

#[tokio::test]
async fn without_a_label_it_finds_out_by_itself_that_the_key_is_taken_again() {
    let mut house = house().await;
    house.sandbox.set_api_keys(vec!["another".to_owned()]);
    house.discover_once().await;
    house.deliver().await;
    assert_eq!(house.kinds(), ["system.account.unauthorized"]);
    house.pass(seconds(61));
    house.discover_once().await;
    let asked = house.sandbox.counters().requests;
    house.discover_once().await;
    assert_eq!(house.sandbox.counters().requests, asked, "one probe");
    house.sandbox.set_api_keys(vec![API_KEY.to_owned()]);
    house.make([1]);
    house.pass(seconds(3600));
    house.discover().await;
    house.deliver().await;
    assert_eq!(house.kinds(), ["system.account.unauthorized", "system.account.recovered"]);
    assert_eq!(house.watched().await, 1);
}

#[tokio::test]
async fn a_list_that_is_forbidden_or_broken_stops_no_polls() {
    let forbidden =
        r#"{"request_id":"1","errors":[{"error_code":"invalid_billing_plan","message":"for Sam Sample"}]}"#;
    for answer in [Answer::json(403, forbidden), Answer::status(502), Answer::json(200, "{\"labels\":")] {
        let mut house = house().await;
        house.register(&["se-1"]).await;
        house.says("se-1", &in_transit());
        house.poll().await;
        house.sandbox.script_list(answer);
        for minutes in [1, 2, 4, 8, 16, 32, 60] {
            let asked = house.listings().len();
            house.discover_once().await;
            assert_eq!(house.listings().len(), asked + 1);
            house.look_again("se-1").await;
            house.pass(seconds(minutes * 60 - 1));
            house.discover_once().await;
            assert_eq!(house.listings().len(), asked + 1, "the list is left alone for {minutes} minutes");
            house.pass(seconds(1));
        }
        house.deliver().await;
        assert!(house.kinds().iter().all(|kind| !kind.starts_with("system.")), "{:?}", house.kinds());
        house.sandbox.unscript_list();
        house.make([2]);
        house.discover().await;
        assert_eq!(house.row("se-2").await.state, "active");
    }
}

#[tokio::test]
async fn the_first_look_is_for_the_baseline_if_that_is_asked_for() {
    let mut house =
        House::with(&format!("{DISCOVER}{ORDERS}[registration]\nfirst_poll = \"baseline\"\n")).await;
    house.make([1]);
    house.says("se-1", &in_transit());
    house.discover().await;
    house.poll_and_deliver().await;
    assert_eq!(house.row("se-1").await.state, "active");
    assert!(house.callbacks("orders").is_empty());
}

#[tokio::test]
async fn a_full_quota_keeps_a_slot_for_the_list() {
    let mut house = House::with(&format!("requests_per_minute = 8\n{DISCOVER}{ORDERS}")).await;
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    house.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(house.poll().await, 8);
    let wake = house.discover_once().await;
    assert!(house.listings().is_empty());
    house.pass(wake.duration_since(house.now()));
    assert_eq!(house.poll().await, 0, "the slot that came free is kept");
    house.discover_once().await;
    assert_eq!(house.listings().len(), 1);
    house.poll().await;
    let wake = house.discover_once().await;
    assert_eq!(wake.duration_since(house.now()).as_secs(), 30, "and then the polls have their turn");
}

#[tokio::test]
async fn calls_for_the_list_count_against_the_quota_also_across_a_restart() {
    let mut house = House::with(&format!("requests_per_minute = 20\n{DISCOVER}{ORDERS}")).await;
    house.sandbox.set_largest_page(1);
    for number in 0..4 {
        house.make([number]);
        house.pass(seconds(2));
    }
    for _ in 0..3 {
        let wake = house.discover_once().await;
        assert_eq!(wake.duration_since(house.now()).as_secs(), 12, "one call in four of twenty a minute");
        house.pass(seconds(12));
    }
    let labels: Vec<String> = (100..200).map(|n| format!("se-{n}")).collect();
    house.register(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await;
    house.restart().await;
    assert_eq!(house.poll().await, 17);
}

#[tokio::test]
async fn a_small_budget_is_left_to_the_polls() {
    // A call every two minutes or so, the list less often than its interval.
    let mut house = House::with(&format!("requests_per_month = 20000\n{DISCOVER}{ORDERS}")).await;
    house.make([1]);
    for _ in 0..2 {
        let wake = house.discover_once().await;
        let rest = wake.duration_since(house.now()).as_secs();
        assert!((420..560).contains(&rest), "{rest} s");
        house.pass(seconds(rest + 1));
    }
    assert_eq!(house.listings().len(), 2);
}

/// The bytes of every file of the site, with its name.
fn everything_written(site: &Site) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(site.folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.is_file());
    files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[tokio::test]
async fn nobodys_name_or_address_is_written_anywhere() {
    let labels: Vec<LabelId> = (1..=20).map(|n| id(&format!("se-{n}"))).collect();
    let site = Site::new(SandboxOptions { labels, time_factor: 100_000.0, ..Default::default() }).await;
    let more = "[accounts.main.discover]\nenabled = true\ninterval = \"100ms\"\n[log]\nlevel = \"debug,sqlx=info\"\n";
    site.write("trackpost.toml", &site.configuration("[]", more));
    let daemon = site.start();
    daemon.logged("labels discovered", 1).await;
    let told =
        until(|| site.receiver.deliveries().iter().any(|d| d.label_id.as_deref() == Some("se-20"))).await;
    assert!(told.is_ok(), "discovered labels are polled and told of:\n{}", daemon.log());
    // What is wrong with a page is not told by quoting it.
    site.sandbox.script_list(Answer::json(200, r#"{"labels":["Sam Sample, Example Street"]}"#));
    daemon.logged("no list of labels", 1).await;
    for (file, bytes) in everything_written(&site) {
        for personal in PEOPLE {
            let found = bytes.windows(personal.len()).any(|part| part == personal.as_bytes());
            assert!(!found, "{personal} is in {file}");
        }
    }
    assert!(
        site.database().with_extension("db-wal").exists(),
        "the database was looked at as it is while it runs"
    );
    let (ok, listed, _) = site.verb(&["labels", "list", "--json"]).await;
    assert!(ok && listed.lines().count() == 20 && listed.contains(r#""source":"discovered""#), "{listed}");
    daemon.stop().await;
    site.inspect();
}

/// `[accounts.main.discover]` of a site, which may be written anew.
fn discover_at(site: &Site, enabled: bool) {
    let more = format!("[accounts.main.discover]\nenabled = {enabled}\ninterval = \"100ms\"\n");
    site.write("trackpost.toml", &site.configuration("[]", &more));
}

#[tokio::test]
async fn a_check_asks_whether_the_list_answers() {
    let site = Site::new(SandboxOptions::default()).await;
    discover_at(&site, true);
    let (_, said, _) = site.verb(&["check", "--online"]).await;
    assert!(said.contains("0, and new ones every 100ms, at first 14d back"), "{said}");
    assert!(said.contains("discovery main: well: the list of labels answers at http://"), "{said}");
    site.sandbox.script_list(Answer::status(403));
    let (ok, said, _) = site.verb(&["check", "--online"]).await;
    assert!(!ok, "{said}");
    assert!(said.contains("discovery main: NOT WELL: the key may not read the list of labels"), "{said}");
}

#[tokio::test]
async fn a_reload_turns_it_on_and_off() {
    let site = Site::new(SandboxOptions::default()).await;
    let listings =
        || site.sandbox.requests().iter().filter(|asked| asked.target.contains("/labels?")).count();
    site.sandbox.create(&id("se-1"));
    discover_at(&site, false);
    let daemon = site.start();
    daemon.logged("trackpost runs", 1).await;
    assert_eq!(listings(), 0);
    discover_at(&site, true);
    daemon.signal("HUP");
    let polled = until(|| site.sandbox.requests_of("se-1") > 0).await;
    assert!(polled.is_ok(), "{}", daemon.log());
    discover_at(&site, false);
    daemon.signal("HUP");
    daemon.logged("the configuration was applied", 2).await;
    let (listed, polled) = (listings(), site.sandbox.requests_of("se-1"));
    let goes_on = until(|| site.sandbox.requests_of("se-1") > polled + 2).await;
    assert!(goes_on.is_ok(), "what was found is polled on");
    assert_eq!(listings(), listed);
    daemon.stop().await;
    site.inspect();
}
