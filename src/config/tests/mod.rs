//! The configuration as a whole: a directory to read it from, and all faults at once.

mod defaults;
mod labels;
mod secrets;
mod subscribers;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::time;

use super::layers::uncommented;
use super::*;
use crate::domain::label::{LabelId, Registration, Source};
use crate::domain::messages::MessageType;
use crate::domain::messages::subscriber::Format;
use crate::domain::polling::cadence::{Hours, Row, RowName};
use crate::domain::secret::Hidden;
use crate::domain::tracking::StatusCode;

const RSA_KEY: &str = include_str!("../../../tests/keys/a.pem");
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A directory with a configuration file and other files.
struct Setup {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Setup {
    fn new(config: &str) -> Self {
        let setup = Self { directory: tempfile::tempdir().unwrap(), environment: Vec::new() };
        setup.file("trackpost.toml", config)
    }

    fn file(self, name: &str, content: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self) -> Result<Loaded, Faults> {
        Config::load(&self.path("trackpost.toml"), &self.environment.iter().cloned().collect())
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|faults| panic!("{faults}"))
    }

    /// Reads the label files; returns the reading and all labels in order.
    fn labels(&self) -> (LabelReading, Vec<Registration>) {
        let sources = self.loaded().sources;
        let (mut reading, mut labels) = (sources.read_all(), Vec::new());
        sources.each_wanted(&mut reading, &mut |label, _| {
            labels.push(label);
            ControlFlow::Continue(())
        });
        (reading, labels)
    }

    fn faults(&self) -> Vec<Fault> {
        self.load().map(|_| Vec::new()).unwrap_or_else(|faults| faults.faults)
    }

    /// All faults, a line each.
    fn report(&self) -> String {
        self.load().map(|_| String::new()).unwrap_or_else(|faults| faults.to_string())
    }
}

/// A valid account and a valid subscriber.
fn sound() -> String {
    format!(
        "[accounts.main]\napi_key = \"k3y\"\n[subscribers.orders]\nurl = \"https://example.com/h\"\nsecret = \"{WHSEC}\"\n"
    )
}

fn hours(numbers: &[u64]) -> Vec<Duration> {
    numbers.iter().map(|hours| Duration::from_secs(hours * 3600)).collect()
}

#[test]
fn all_faults_are_reported_at_once_with_place_key_value_and_hint() {
    let setup = Setup::new(
        "[store]\npath = 7\nkeep_finisched = \"1d\"\nkeep_attempts = \"20ms\"\n\
         [http]\nlisten = \"localhost\"\n\
         [log]\nlevel = \"inof\"\nformat = \"jsno\"\n\
         [accounts.main]\nrequests_per_minute = 0\nrequests_per_month = -1\nmax_in_flight = \"8\"\ntracking_path = \"/x\"\n\
         base_url = \"ftp://user:pa55@example.com\"\n\
         [registration]\nfirst_poll = \"later\"\n\
         [cadence.IT]\nintervals = []\nhours = \"07-21\"\n[cadence.EX]\nhours = \"07-21\"\nslow_after = { \"4x\" = \"12h\" }\n[cadence.DE]\n\
         [subscribers.a]\nurl = \"http://8.8.8.8/x?token=abc\"\nsecret = \"whsec_AAAA\"\nformat = \"shipstaton\"\n\
         events = [\"tracking.delivred\"]\naccounts = [\"mian\"]\nretry = []\nenabled = \"yes\"\n\
         headers = { Webhook-Id = \"1\", \"a b\" = \"2\", x-ok = \"\\u0001\" }\n",
    );
    let faults = setup.faults();
    let file = setup.path("trackpost.toml").display().to_string();
    assert!(faults.iter().all(|fault| fault.place == file && fault.hint.is_some()), "{faults:#?}");
    let url = faults.iter().find(|fault| fault.key == "accounts.main.base_url").unwrap();
    assert_eq!(url.value.as_deref(), Some("ftp://…@example.com"));
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "store.keep_attempts",
            "store.keep_finisched",
            "store.path",
            "http.listen",
            "log.format",
            "log.level",
            "accounts.main.api_key",
            "accounts.main.base_url",
            "accounts.main.max_in_flight",
            "accounts.main.requests_per_minute",
            "accounts.main.requests_per_month",
            "accounts.main.tracking_path",
            "registration.first_poll",
            "cadence.DE",
            "cadence.EX.hours",
            "cadence.EX.intervals",
            "cadence.EX.slow_after.4x",
            "cadence.IT.hours",
            "cadence.IT.intervals",
            "subscribers.a.accounts[0]",
            "subscribers.a.enabled",
            "subscribers.a.events[0]",
            "subscribers.a.format",
            "subscribers.a.headers.\"a b\"",
            "subscribers.a.headers.Webhook-Id",
            "subscribers.a.headers.x-ok",
            "subscribers.a.retry",
            "subscribers.a.secret",
            "subscribers.a.url",
        ]
    );
    let report = setup.report();
    for line in [
        "store.keep_finisched: is not a known key (hint: did you mean \"keep_finished\"?",
        "store.path = 7: should be a string, but is an integer",
        "store.keep_attempts = 20ms: is shorter than 100ms",
        "log.level = inof: is not a log level (hint: did you mean \"info\"?",
        "log.format = jsno: is not one of auto, pretty, journald, json (hint: did you mean \"json\"?",
        "requests_per_minute = 0: is out of range (hint: write a number from 1 to 60000)",
        "requests_per_month = -1: is out of range (hint: write at least 0)",
        "max_in_flight = 8: should be an integer, but is a string",
        "hint: did you mean \"tracking.delivered\"?",
        "accounts[0] = mian: is not an account of this configuration (hint: did you mean \"main\"? valid here: main)",
        "subscribers.a.url = http://8.8.8.8/x: is plain http to a public address",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    for secret in ["pa55", "abc", "AAAA"] {
        assert!(!report.contains(secret), "{secret}\n{report}");
    }
}
