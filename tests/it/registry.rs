//! Sources of a label and their removal; label files and the state of their labels.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use trackpost::config::{Config, Environment};
use trackpost::domain::label::{LabelKey, LabelState, Registration, Source};
use trackpost::sandbox::SandboxOptions;
use trackpost::store::label_files::LabelFile;
use trackpost::store::labels::Removal;
use trackpost::workers::registrar::Registrar;

use crate::harness::child::{Daemon, Site, until};
use crate::harness::{Harness, connect, hours, seconds};

#[tokio::test]
async fn a_label_of_the_configuration_is_not_removed_by_hand() {
    let harness = Harness::new().await;
    let key = LabelKey { account: harness.account.name.clone(), id: "se-1".parse().unwrap() };
    harness.configure("['se-1']").await;
    let by_hand = Registration { key: key.clone(), metadata: Default::default(), source: Source::Cli };
    harness.store().add_by_hand(&[by_hand], harness.now()).await.unwrap();

    let removal = harness.store().remove_by_hand(&key, harness.now()).await.unwrap();
    assert_eq!(removal, Removal::StillConfigured);
    let row = harness.row("se-1").await;
    assert_eq!((row.state.as_str(), row.next_poll_at.is_some()), (LabelState::Active.as_str(), true));

    // No other source has the label, so it is gone when the configuration drops it.
    harness.configure("[]").await;
    assert_eq!(harness.row("se-1").await.state, LabelState::Removed.as_str());
    assert_eq!(harness.store().remove_by_hand(&key, harness.now()).await.unwrap(), Removal::Unknown);
}

#[tokio::test]
async fn a_journey_begins_with_the_first_poll() {
    let mut harness = Harness::new().await;
    harness.register(&["se-1", "se-2"]).await;
    harness.says("se-1", &crate::harness::parcel::in_transit());
    harness.says("se-2", &crate::harness::parcel::tracking("NY", &[]));
    harness.pass(hours(1));
    harness.poll().await;
    for (row, seen) in [(1, 1), (2, 0)] {
        let journey = harness.store().journey(row).await.unwrap().unwrap();
        assert_eq!((journey.registered_at, journey.observations.len()), (harness.now(), seen), "{journey:?}");
        assert!(journey.observations.iter().all(|first| first.at == journey.registered_at));
    }
}

async fn number(harness: &Harness, query: &'static str, value: &str) -> i64 {
    sqlx::query_scalar(query).bind(value).fetch_one(&mut connect(harness.path()).await).await.unwrap()
}

/// A directory with a configuration and label files, and a registrar that the test steps.
struct Files {
    harness: Harness,
    directory: tempfile::TempDir,
    registrar: Registrar,
}

impl Files {
    async fn new(labels: &[(&str, &str)]) -> Self {
        let harness = Harness::new().await;
        let directory = tempfile::tempdir().unwrap();
        let registrar = Registrar::new(harness.store().clone());
        let mut files = Self { harness, directory, registrar };
        std::fs::create_dir(files.directory.path().join("labels.d")).unwrap();
        files.write_configuration("[]");
        labels.iter().for_each(|(name, text)| files.write(name, text));
        files.configure();
        // The files are older than a second.
        files.harness.pass(seconds(5));
        files.step().await;
        files
    }

    fn write_configuration(&self, labels: &str) {
        let text = format!(
            "[accounts.main]\napi_key = \"k\"\n[registration]\nlabels = {labels}\nfiles = [\"labels.d/*\"]\n"
        );
        std::fs::write(self.directory.path().join("trackpost.toml"), text).unwrap();
    }

    fn configure(&mut self) {
        let path = self.directory.path().join("trackpost.toml");
        let loaded = Config::load(&path, &Environment::default()).unwrap();
        self.registrar.configure(Arc::new(loaded.sources));
    }

    /// Rewrites a file in place, as `>` does.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join("labels.d").join(name), text).unwrap();
    }

    /// Replaces a file by renaming.
    fn replace(&self, name: &str, text: &str) {
        self.write(".draft", text);
        let directory = self.directory.path().join("labels.d");
        std::fs::rename(directory.join(".draft"), directory.join(name)).unwrap();
    }

    async fn step(&mut self) -> Timestamp {
        self.registrar.step(self.harness.now()).await.unwrap()
    }

    /// Advances the time between the registrar's steps.
    async fn pass(&mut self, span: SignedDuration) {
        let until = self.harness.now() + span;
        loop {
            let wake = self.step().await.min(until);
            self.harness.pass(wake.duration_since(self.harness.now()));
            if wake == until {
                self.step().await;
                return;
            }
        }
    }

    /// Returns every label and its state.
    async fn states(&self) -> Vec<(String, String)> {
        let labels = self.harness.labels().await;
        labels.into_iter().map(|label| (label.label_id, label.state)).collect()
    }

    async fn state(&self, label: &str) -> String {
        self.harness.row(label).await.state
    }

    /// Returns the number of labels changed since the last call.
    async fn changed_since(&self, version: i64) -> i64 {
        number(
            &self.harness,
            "SELECT count(*) FROM labels WHERE version > CAST(? AS INTEGER)",
            &version.to_string(),
        )
        .await
    }

    async fn version(&self) -> i64 {
        self.harness.count("SELECT version FROM registry").await
    }

    async fn left_out(&self) -> Vec<String> {
        let files = self.harness.store().label_files_left_out().await.unwrap();
        let shown = |file: LabelFile| {
            let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
            format!("{name}: {}", file.problem.unwrap_or_default())
        };
        files.into_iter().map(shown).collect()
    }
}

#[tokio::test]
async fn a_file_is_read_once_it_has_not_changed_for_a_second() {
    let mut files = Files::new(&[("x.txt", "se-1001\nse-longer324658\n")]).await;
    assert_eq!(files.states().await.len(), 2);
    let version = files.version().await;
    files.write("x.txt", "se-1001\nse-longer324");
    files.pass(SignedDuration::from_millis(600)).await;
    files.write("x.txt", "se-1001\nse-longer324658\nse-new\n");
    files.pass(SignedDuration::from_millis(600)).await;
    assert_eq!(files.states().await.len(), 2, "the file changed less than a second ago");
    files.pass(seconds(1)).await;
    let states = files.states().await;
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states.iter().all(|(_, state)| state == "active"), "{states:?}");
    assert_eq!(files.changed_since(version).await, 1, "only the new label changed");
}

#[tokio::test]
async fn a_file_that_is_emptied_and_filled_again_removes_nothing() {
    let rows: String = (0..5_000).map(|n| format!("se-{n}\n")).collect();
    let mut files = Files::new(&[("x.txt", &rows)]).await;
    let version = files.version().await;
    files.write("x.txt", "");
    files.pass(SignedDuration::from_millis(1_500)).await;
    files.write("x.txt", &rows);
    files.pass(hours(1)).await;
    // The file is rewritten, at first only half of it.
    files.write("x.txt", &rows[..rows.len() / 2]);
    files.pass(seconds(30)).await;
    files.replace("x.txt", &rows);
    files.pass(hours(1)).await;
    assert_eq!(files.changed_since(version).await, 0);
    assert_eq!(files.version().await, version);
}

#[tokio::test]
async fn a_label_missing_for_a_minute_is_removed_and_keeps_its_schedule_for_a_day() {
    let mut files = Files::new(&[("x.txt", "se-1\nse-2\n")]).await;
    files.harness.says("se-2", &crate::harness::parcel::in_transit());
    files.harness.poll().await;
    let planned = files.harness.row("se-2").await.next_poll_at;
    assert!(planned.is_some());
    files.write("x.txt", "se-1\n");
    files.pass(seconds(59)).await;
    assert_eq!(files.state("se-2").await, "active");
    files.pass(seconds(5)).await;
    let row = files.harness.row("se-2").await;
    assert_eq!((row.state.as_str(), row.next_poll_at), ("removed", None));

    files.write("x.txt", "se-1\nse-2\n");
    files.pass(seconds(5)).await;
    let row = files.harness.row("se-2").await;
    assert_eq!((row.state.as_str(), row.next_poll_at), ("active", planned), "its schedule continues");

    files.write("x.txt", "se-1\n");
    files.pass(seconds(70)).await;
    assert_eq!(files.state("se-2").await, "removed");
    files.harness.pass(hours(25));
    files.write("x.txt", "se-1\nse-2\n");
    files.pass(seconds(2)).await;
    let row = files.harness.row("se-2").await;
    assert_eq!(row.state, "active");
    assert!(row.next_poll_at <= Some(files.harness.now().as_millisecond()), "a new label is due at once");
}

#[tokio::test]
async fn a_missing_label_is_removed_after_a_minute_if_the_clock_is_set_back() {
    let mut files = Files::new(&[("x.txt", "se-1\nse-2\n")]).await;
    files.write("x.txt", "se-1\n");
    files.pass(seconds(20)).await;
    files.harness.pass(hours(-1));
    files.pass(seconds(50)).await;
    assert_eq!(files.state("se-2").await, "active");
    files.pass(seconds(15)).await;
    assert_eq!(files.state("se-2").await, "removed");
}

#[tokio::test]
async fn a_finished_label_that_comes_back_is_finished() {
    let mut files = Files::new(&[("x.txt", "se-1\nse-2\n")]).await;
    files.harness.says("se-2", &crate::harness::parcel::tracking("DE", &[]));
    files.harness.poll().await;
    assert_eq!(files.state("se-2").await, "finished");
    files.write("x.txt", "se-1\n");
    files.pass(seconds(70)).await;
    assert_eq!(files.state("se-2").await, "removed");
    files.write("x.txt", "se-1\nse-2\n");
    files.pass(seconds(5)).await;
    assert_eq!(files.state("se-2").await, "finished");
}

#[tokio::test]
async fn a_label_removed_from_the_configuration_is_removed_at_once() {
    let mut files = Files::new(&[("x.txt", "se-1\n")]).await;
    files.write_configuration("[\"se-2\", \"se-3\"]");
    files.configure();
    files.step().await;
    assert_eq!(files.states().await.len(), 3);
    files.write_configuration("[\"se-3\"]");
    files.configure();
    files.step().await;
    assert_eq!(files.state("se-2").await, "removed");
    assert_eq!(files.state("se-3").await, "active");
}

#[tokio::test]
async fn an_unreadable_file_keeps_its_labels_and_does_not_stop_others() {
    let mut files = Files::new(&[("a.csv", "label_id,note\nse-1,x\n"), ("b.txt", "se-2\nse-3\n")]).await;
    files.write("a.csv", "label_id;note\nse-1;x\nse-9;y\n");
    files.write("b.txt", "se-3\nse-4\n");
    files.pass(seconds(5)).await;
    assert_eq!(files.state("se-4").await, "active", "the other files apply");
    files.pass(seconds(120)).await;
    let states = files.states().await;
    let of = |label: &str| states.iter().find(|(id, _)| id == label).map(|(_, state)| state.as_str());
    assert_eq!([of("se-1"), of("se-2"), of("se-3")], [Some("active"), Some("removed"), Some("active")]);
    assert_eq!(of("se-9"), None);
    let left_out = files.left_out().await;
    assert!(left_out.len() == 1 && left_out[0].starts_with("a.csv: has no column label_id"), "{left_out:?}");

    // The same holds after a restart.
    files.registrar = Registrar::new(files.harness.store().clone());
    files.configure();
    files.pass(seconds(120)).await;
    assert_eq!(files.state("se-1").await, "active");
    assert_eq!(files.left_out().await.len(), 1);

    files.write("a.csv", "label_id,note\nse-9,y\n");
    files.pass(seconds(5)).await;
    assert!(files.left_out().await.is_empty());
    assert_eq!([files.state("se-9").await, files.state("se-1").await], ["active", "active"]);
    files.pass(seconds(60)).await;
    assert_eq!(files.state("se-1").await, "removed");
}

#[tokio::test]
async fn a_directory_that_cannot_be_listed_keeps_its_labels() {
    let mut files = Files::new(&[("a.txt", "se-1\n")]).await;
    let directory = files.directory.path().join("labels.d");
    std::fs::rename(&directory, files.directory.path().join("away")).unwrap();
    std::fs::write(&directory, "no directory").unwrap();
    files.pass(seconds(120)).await;
    assert_eq!(files.state("se-1").await, "active");
    let left_out = files.left_out().await;
    assert!(left_out.len() == 1 && left_out[0].contains("cannot be listed"), "{left_out:?}");
    std::fs::remove_file(&directory).unwrap();
    std::fs::rename(files.directory.path().join("away"), &directory).unwrap();
    files.pass(seconds(60)).await;
    assert!(files.left_out().await.is_empty());
    assert_eq!(files.state("se-1").await, "active");
}

#[tokio::test]
async fn a_label_that_moves_to_another_file_is_not_touched() {
    let mut files = Files::new(&[("a.txt", "se-1\n"), ("b.txt", "se-2\n")]).await;
    let version = files.version().await;
    files.write("b.txt", "se-2\nse-1\n");
    std::fs::remove_file(files.directory.path().join("labels.d/a.txt")).unwrap();
    files.pass(seconds(120)).await;
    assert_eq!(files.changed_since(version).await, 0);
    // b.txt keeps the label now.
    files.write("b.txt", "\u{0}\u{0}\u{0}\u{0}");
    files.pass(seconds(120)).await;
    assert_eq!([files.state("se-1").await, files.state("se-2").await], ["active", "active"]);
}

#[tokio::test]
async fn a_file_replaced_repeatedly_is_read_within_ten_seconds() {
    let mut files = Files::new(&[("x.txt", "se-0\n")]).await;
    for n in 1..=52 {
        files.replace("x.txt", &format!("se-0\nse-{n}\n"));
        files.pass(SignedDuration::from_millis(300)).await;
    }
    let read = files.states().await.len() - 1;
    assert!((1..52).contains(&read), "{read}");
}

#[tokio::test]
async fn a_file_that_is_always_being_written_is_read_each_minute_up_to_its_last_line() {
    let mut files = Files::new(&[("x.txt", "se-0\nse-1\n")]).await;
    for n in 1..=130 {
        files.write("x.txt", &format!("se-0\nse-2\nse-longer{n}"));
        files.pass(SignedDuration::from_millis(500)).await;
    }
    let active = |id: &str| (id.to_owned(), "active".to_owned());
    assert_eq!(files.states().await, ["se-0", "se-1", "se-2"].map(active), "se-1 may still come");
    files.pass(seconds(2)).await;
    files.pass(seconds(61)).await;
    assert_eq!(files.state("se-1").await, "removed", "the file rests");
}

#[tokio::test]
async fn every_change_of_the_registry_is_counted_and_announced() {
    let harness = Harness::new().await;
    let mut changes = harness.store().registry_version();
    let key = |id: &str| LabelKey { account: harness.account.name.clone(), id: id.parse().unwrap() };
    let label = |id: &str| Registration { key: key(id), metadata: Default::default(), source: Source::Cli };
    let version =
        async |id: &str| number(&harness, "SELECT version FROM labels WHERE label_id = ?", id).await;
    let mut last = 0;
    for step in 0..7 {
        match step {
            0 => harness.configure("['se-1']").await,
            1 => {
                let labels = [label("se-1"), label("se-2")];
                assert_eq!(harness.store().add_by_hand(&labels, harness.now()).await.unwrap(), 1);
            }
            2 => harness.configure("[]").await,
            3 => assert!(harness.store().poll_now(&key("se-1"), harness.now()).await.unwrap()),
            4 => drop(harness.store().remove_by_hand(&key("se-1"), harness.now()).await.unwrap()),
            5 => {
                harness.store().add_by_hand(&[label("se-1")], harness.now()).await.unwrap();
            }
            _ => harness.configure("[{ id = 'se-1', metadata = { order = 'A' } }]").await,
        }
        let now = version("se-1").await;
        assert!(now > last, "step {step}");
        assert_eq!(*changes.borrow_and_update(), now.unsigned_abs(), "step {step}");
        last = now;
    }
    harness.configure("['se-1']").await;
    assert!(version("se-1").await > last, "its metadata changed");
    let last = version("se-1").await;
    harness.configure("['se-1']").await;
    assert_eq!(version("se-1").await, last, "nothing changed");
}

#[tokio::test]
async fn registering_by_hand_again_keeps_or_changes_the_metadata() {
    let harness = Harness::new().await;
    let label = |metadata: &str| Registration {
        key: LabelKey { account: harness.account.name.clone(), id: "se-1".parse().unwrap() },
        metadata: serde_json::from_str(metadata).unwrap(),
        source: Source::Cli,
    };
    for (wanted, is) in
        [(r#"{"a":"1"}"#, r#"{"a":"1"}"#), ("{}", r#"{"a":"1"}"#), (r#"{"b":"2"}"#, r#"{"b":"2"}"#)]
    {
        harness.store().add_by_hand(&[label(wanted)], harness.now()).await.unwrap();
        let known = harness.store().known_among("main", &["se-1"]).await.unwrap();
        assert_eq!(known[0].metadata, is, "{wanted}");
    }
}

async fn site() -> Site {
    let site = Site::new(SandboxOptions::default()).await;
    site.write("trackpost.toml", &site.configuration("[]", ""));
    site
}

async fn running(site: &Site) -> Daemon {
    let daemon = site.start();
    daemon.logged("started: ", 1).await;
    daemon
}

async fn polled(site: &Site, label: &str) {
    assert!(until(|| site.sandbox.requests_of(label) > 0).await.is_ok(), "{label} is never polled");
}

#[tokio::test]
async fn a_wrong_label_file_does_not_stop_start_or_reload() {
    let site = site().await;
    site.write("labels.d/good.txt", "se-1\n");
    site.write("labels.d/semicolons.csv", "label_id;note\nse-1002;x\n");
    let pipe = site.directory().join("labels.d/pipe.txt");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (status, printed, _) = site.run_command(&["check"]);
    assert_eq!(status, Some(0), "{printed}");
    assert!(
        printed.contains("semicolons.csv") && printed.contains("semicolons") && printed.contains("FIFO"),
        "{printed}"
    );
    let daemon = running(&site).await;
    polled(&site, "se-1").await;
    daemon.logged("label file left out", 2).await;
    site.write("labels.d/good.txt", "se-1\nse-2\n");
    polled(&site, "se-2").await;
    site.write("trackpost.toml", &site.configuration("[\"se-3\"]", ""));
    daemon.signal("HUP");
    polled(&site, "se-3").await;
    assert_eq!(daemon.log().matches("label file left out").count(), 2, "logged once:\n{}", daemon.log());
    site.write("labels.d/semicolons.csv", "label_id,note\nse-1002,x\n");
    polled(&site, "se-1002").await;
    daemon.logged("label file can be read again", 1).await;
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn links_to_label_files_are_watched() {
    let site = site().await;
    site.write("releases/1/a.txt", "se-1\n");
    site.write("releases/2/a.txt", "se-1\nse-2\n");
    site.write("export/x.txt", "se-5\n");
    let link = |target: &str, name: &str| {
        let draft = site.directory().join("link");
        std::os::unix::fs::symlink(target, &draft).unwrap();
        std::fs::rename(draft, site.directory().join(name)).unwrap();
    };
    link("../../export/x.txt", "releases/1/x.txt");
    link("../../export/x.txt", "releases/2/x.txt");
    link("releases/1", "labels.d");
    let daemon = running(&site).await;
    polled(&site, "se-5").await;
    // The directory is replaced.
    link("releases/2", "labels.d");
    polled(&site, "se-2").await;
    site.write("releases/2/a.txt", "se-1\nse-2\nse-3\n");
    polled(&site, "se-3").await;
    // The file behind a link is written in place, then replaced.
    std::fs::write(site.directory().join("export/x.txt"), "se-5\nse-6\n").unwrap();
    polled(&site, "se-6").await;
    site.write("export/x.txt", "se-5\nse-6\nse-7\n");
    polled(&site, "se-7").await;
    daemon.stop().await;
    site.inspect();
}

#[tokio::test]
async fn a_reload_during_the_start_runs_after_it() {
    let site = site().await;
    let rows: String = (0..100_000).map(|n| format!("se-{n}\n")).collect();
    site.write("labels.d/many.txt", &rows);
    let daemon = site.start();
    let status = format!("/proc/{}/status", daemon.id());
    // Bit 0 of the caught signals is SIGHUP.
    let handled = || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        caught.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 == 1)
    };
    assert!(until(handled).await.is_ok());
    daemon.signal("HUP");
    daemon.logged("configuration reloaded", 1).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_emptied_configuration_is_rejected() {
    let site = site().await;
    site.write("trackpost.toml", &site.configuration("[\"se-1\"]", ""));
    let daemon = running(&site).await;
    polled(&site, "se-1").await;
    site.write("trackpost.toml", "");
    daemon.signal("HUP");
    daemon.logged("reload rejected", 1).await;
    assert!(daemon.log().contains("the new configuration has no accounts"), "{}", daemon.log());
    let before = site.sandbox.requests_of("se-1");
    assert!(until(|| site.sandbox.requests_of("se-1") > before + 2).await.is_ok(), "polls continue");
    site.write(
        "trackpost.toml",
        &site.configuration("[\"se-1\"]", "").replace("\"standard\"", "\"shipstation\""),
    );
    daemon.signal("HUP");
    daemon.logged("configuration reloaded", 1).await;
    assert!(daemon.log().contains("orders"), "the log names the change: {}", daemon.log());
    daemon.stop().await;
}

#[tokio::test]
async fn a_wrong_row_is_logged_once_and_not_at_each_reload() {
    let site = site().await;
    site.write("trackpost.toml", &site.configuration("[\"NO-1\"]", ""));
    site.write("labels.d/a.txt", "NO-2\n");
    let daemon = running(&site).await;
    daemon.logged("NO-2", 1).await;
    for times in 1..=3 {
        daemon.signal("HUP");
        daemon.logged("configuration reloaded", times).await;
    }
    let lines = daemon.log().lines().filter(|line| line.contains("NO-1")).count();
    assert_eq!(lines, 1, "{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test]
async fn commands_print_their_result_and_remaining_work() {
    let site = site().await;
    let daemon = running(&site).await;
    daemon.stop().await;
    let (_, printed, _) = site.run_command(&["labels", "add", "se-1"]);
    assert!(printed.contains("se-1: added"), "{printed}");
    let (status, _, stderr) = site.run_command(&["labels", "poll", "se-1"]);
    assert_eq!(status, Some(0));
    assert!(stderr.contains("no daemon runs"), "{stderr}");
    let daemon = running(&site).await;
    let (_, _, stderr) = site.run_command(&["labels", "poll", "se-1"]);
    assert!(!stderr.contains("no daemon runs"), "{stderr}");

    // Reading commands work in spite of a fault of the configuration.
    let text = site.configuration("[]", "").replace("60000", "\"many\"");
    site.write("trackpost.toml", &text);
    for arguments in
        [&["labels", "list"][..], &["labels", "show", "se-1"], &["explain", "se-1"], &["deliveries", "list"]]
    {
        let (status, printed, stderr) = site.run_command(arguments);
        assert_eq!(status, Some(0), "{arguments:?} {printed} {stderr}");
        assert!(stderr.contains("trackpost check shows"), "{stderr}");
    }
    let (status, ..) = site.run_command(&["labels", "add", "se-2"]);
    assert_eq!(status, Some(1));
    // Except for a fault in the path of the database.
    site.write("trackpost.toml", &site.configuration("[]", "").replace("[store]", "[stroe]"));
    let (status, _, stderr) = site.run_command(&["labels", "list"]);
    assert_eq!(status, Some(1), "{stderr}");
    site.write(
        "trackpost.toml",
        &site.configuration("[]", "").replace("trackpost.db", "no/such/directory/t.db"),
    );
    let (status, ..) = site.run_command(&["labels", "list"]);
    assert_eq!(status, Some(1));
    assert!(!site.directory().join("no").exists());
    let mut daemon = daemon;
    daemon.kill();
}
