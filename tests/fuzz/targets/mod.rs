//! Fuzz targets: each takes any bytes and panics if an invariant is violated.

mod answer;
mod api;
mod configuration;
mod http;
mod label_files;
mod retry_after;
mod signature;
mod world;

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use trackpost::config::{Config, Environment, Fault};
use trackpost::domain::account::Account;

/// Separates the parts of an input.
const SEPARATOR: u8 = 0x1e;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOURNEYS: [&str; 3] = [
    include_str!("../../journeys/fedex-prepends.json"),
    include_str!("../../journeys/ups-twins-and-signer.json"),
    include_str!("../../journeys/usps-pushed-then-pulled.json"),
];

/// A fuzz target.
pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
    /// Valid inputs, from which mutations start.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: [Target; 7] = [
    Target { name: "answer", check: answer::check, seeds: answer::seeds },
    Target { name: "api", check: api::check, seeds: api::seeds },
    Target { name: "configuration", check: configuration::check, seeds: configuration::seeds },
    Target { name: "http", check: http::check, seeds: http::seeds },
    Target { name: "label_files", check: label_files::check, seeds: label_files::seeds },
    Target { name: "retry_after", check: retry_after::check, seeds: retry_after::seeds },
    Target { name: "signature", check: signature::check, seeds: signature::seeds },
];

/// Returns the first `most` parts of an input.
fn parts(input: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == SEPARATOR).take(most)
}

fn join(parts: &[impl AsRef<[u8]>]) -> Vec<u8> {
    parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(&SEPARATOR)
}

/// Returns the answers of the recorded journeys, in order.
fn journeys() -> Vec<Vec<String>> {
    let answers = |journey: &str| {
        let journey: serde_json::Value = serde_json::from_str(journey).unwrap();
        let observations = journey["observations"].as_array().unwrap();
        observations.iter().map(|observation| observation["tracking"].to_string()).collect()
    };
    JOURNEYS.into_iter().map(answers).collect()
}

/// Returns a configuration with a subscriber of each format.
fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let subscriber = |format: &str| {
            format!(
                "[subscribers.{format}]\nurl = \"http://127.0.0.1:9/\"\nsecret = \"{SECRET}\"\nformat = \"{format}\"\nevents = [\"*\"]\n"
            )
        };
        let subscribers = ["standard", "shipstation", "shipengine"].map(subscriber).concat();
        let account = "[accounts.main]\nbase_url = \"http://127.0.0.1:9\"\napi_key = \"k\"\ntimeout = \"2s\"\n";
        let directory = tempfile::tempdir().unwrap();
        load(&directory.path().join("trackpost.toml"), format!("{account}{subscribers}").as_bytes())
    })
}

fn load(file: &Path, text: &[u8]) -> Config {
    fs::write(file, text).unwrap();
    Config::load(file, &Environment::default()).unwrap().config
}

fn account() -> &'static Account {
    config().accounts.values().next().unwrap()
}

/// Checks that a fault names its place, the problem and a remedy.
fn check_fault(fault: &Fault) {
    assert!(!fault.place.is_empty() && !fault.problem.is_empty(), "{fault}");
    assert!(fault.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "no hint: {fault}");
    assert!(!fault.to_string().contains('\n'), "more than one line: {fault}");
}
