//! The demo's configuration and label file, as a new user would write them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::super::init::toml_string;
use super::directory::LABELS;
use super::plan::{DemoParcel, DemoPlan};

/// The subscriber that gets every message in the standard form; also its path at the receiver.
pub const EVERYTHING: &str = "everything";
/// The subscriber that gets ShipStation's own envelope.
pub const SHOP: &str = "shop";

/// Values of the configuration besides the plan.
#[derive(Debug)]
pub struct Addresses<'a> {
    pub database: &'a Path,
    pub base_url: &'a str,
    pub api_key: &'a str,
    /// With a slash at the end.
    pub receiver: &'a str,
    pub secret: &'a str,
}

pub fn config(plan: &DemoPlan, addresses: &Addresses<'_>) -> String {
    let Addresses { database, base_url, api_key, receiver, secret } = addresses;
    let database = toml_string(&database.display().to_string());
    let (interval, out) = (
        milliseconds_text(plan.interval),
        milliseconds_text((plan.interval / 2).max(Duration::from_millis(100))),
    );
    let settle: Vec<String> = plan.settle.iter().map(|wait| milliseconds_text(*wait)).collect();
    let settle = settle.join(", ");
    let mut rows = String::new();
    for row in ["UN", "NY", "AC", "IT", "AT", "EX", "estimate_day"] {
        let _ = writeln!(rows, "{row} = {{ intervals = [{interval}] }}");
    }
    format!(
        r#"# Written by `trackpost demo`. The addresses are those of the demo's sandbox and receiver, which have stopped. Replace
# them, or start `trackpost sandbox` and `trackpost listen` there.

[store]
path = {database}

[http]
listen = "127.0.0.1:0"

[accounts.main]
base_url = "{base_url}"
api_key = "{api_key}"
requests_per_minute = 60000 # the demo's days pass in seconds; a real account has 200

# Every third label is in no label file: discovery finds it in the account's list.
[accounts.main.discover]
enabled = true
interval = "1s"
lookback = "60d"

[registration]
files = ["{LABELS}"]

# Short intervals, because these parcels travel {factor:.0} times faster than real ones. Omit [cadence] in your own
# configuration: the defaults fit real parcels.
[cadence]
settle = [{settle}]
{rows}out_for_delivery = {{ intervals = [{out}] }}

[subscribers.{EVERYTHING}]
url = "{receiver}{EVERYTHING}"
secret = "{secret}"
format = "standard"
events = ["tracking.*"]
retry = ["300ms", "600ms", "1s", "1s", "2s", "2s", "2s", "5s"]

[subscribers.{SHOP}]
url = "{receiver}{SHOP}"
secret = "{secret}"
format = "shipstation"
events = ["tracking.updated"]
retry = ["300ms", "600ms", "1s", "1s", "2s", "2s", "2s", "5s"]
"#,
        factor = plan.factor,
    )
}

/// Whether the label is left to discovery.
pub fn is_discovered(index: usize) -> bool {
    index % 3 == 2
}

pub fn labels(parcels: &[DemoParcel]) -> String {
    let mut csv = "label_id,order\n".to_owned();
    for (index, parcel) in parcels.iter().enumerate().filter(|(index, _)| !is_discovered(*index)) {
        let _ = writeln!(csv, "{},A-{}", parcel.label, 1001 + index);
    }
    csv
}

/// Formats a duration in whole milliseconds.
fn milliseconds_text(duration: Duration) -> String {
    format!("\"{}ms\"", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::super::super::args;
    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn the_generated_configuration_is_valid() {
        let args = args::Demo { parcels: 3, seconds: 20, seed: 1, keep: None, json: false };
        let plan = DemoPlan::new(&args, "2026-11-22T10:00:00Z".parse().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.toml");
        let addresses = Addresses {
            database: Path::new("/tmp/a \"b\"/t.db"),
            base_url: "http://127.0.0.1:1",
            api_key: "k",
            receiver: "http://127.0.0.1:2/",
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        };
        std::fs::write(&path, config(&plan, &addresses)).unwrap();
        std::fs::write(directory.path().join(LABELS), labels(&plan.parcels)).unwrap();
        let loaded = Config::load(&path, &Environment::default()).unwrap();
        assert_eq!(loaded.sources.read_all().label_set.labels(), 2, "the third is left to discovery");
        let account = loaded.config.account_names().remove(0);
        assert_eq!(loaded.sources.first_of(&account).unwrap().metadata["order"], "A-1001");
        assert_eq!(loaded.config.subscribers.len(), 2);
        assert_eq!(loaded.config.store.path, addresses.database);
        assert!(loaded.config.cadence.rows.values().all(|row| row.hours.is_none()), "by day as by night");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}
