//! A configuration file and environment variables, each after a separator.

use std::fs;
use std::sync::OnceLock;

use tempfile::TempDir;
use trackpost::config::{Config, Environment, Fault};
use trackpost::shipstation::{self, Client, Tls};
use trackpost::webhook::WebhookClient;

pub fn seeds() -> Vec<Vec<u8>> {
    let default = include_str!("../../../config/trackpost.toml");
    // The commented file with its examples, section by section, because a short input is mutated more often.
    let examples = default.lines().filter(|line| !line.starts_with("# ") && !line.is_empty());
    let examples: Vec<&str> = examples.map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let examples = examples.join("\n");
    let sections = examples.split("\n[").map(|section| format!("[{}", section.trim_start_matches('[')));
    let variables = [
        include_str!("../../../deploy/trackpost.toml"),
        "CREDENTIALS_DIRECTORY=/nowhere",
        "TRACKPOST__ACCOUNTS__MAIN__API_KEY={ env = \"KEY\" }",
        "KEY=k3y",
        "TRACKPOST__SUBSCRIBERS__ORDERS__RETRY=[\"5s\", \"1m\"]",
        "TRACKPOST__SUBSCRIBERS__ORDERS__SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "HTTPS_PROXY=http://user:pass@proxy.example:3128",
    ];
    let whole = [examples.clone().into_bytes(), super::join(&variables)];
    sections.map(String::into_bytes).chain(whole).collect()
}

pub fn check(input: &[u8]) {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    let file = DIRECTORY.get_or_init(|| tempfile::tempdir().unwrap()).path().join("trackpost.toml");
    let mut parts = super::parts(input, 8);
    fs::write(&file, parts.next().unwrap_or_default()).unwrap();
    let variables = parts.filter_map(|part| std::str::from_utf8(part).ok()?.split_once('='));
    let environment: Environment = variables.collect();
    match Config::load(&file, &environment) {
        Ok(loaded) => {
            check_faults(&loaded.label_faults.kept);
            check_faults(&loaded.warnings);
            check_clients(&loaded.config);
        }
        Err(faults) => {
            assert!(!faults.faults.is_empty());
            check_faults(&faults.faults);
            check_faults(&faults.label_faults.kept);
        }
    }
    // The commands beside the daemon read less, but the same.
    for faults in [
        Config::load_beside(&file, &environment).err(),
        Config::load_to_read(&file, &environment).map_or_else(Some, |(_, faults)| faults),
    ] {
        faults.iter().for_each(|faults| check_faults(&faults.faults));
    }
}

fn check_faults(faults: &[Fault]) {
    faults.iter().for_each(super::check_fault);
}

/// A valid configuration has clients for each account and subscriber.
fn check_clients(config: &Config) {
    static TLS: OnceLock<Tls> = OnceLock::new();
    let tls = TLS.get_or_init(|| shipstation::tls().unwrap());
    for account in config.accounts.values() {
        Client::new(tls, account).unwrap_or_else(|error| panic!("{error}"));
    }
    for subscriber in config.subscribers.values() {
        WebhookClient::new(subscriber).unwrap_or_else(|error| panic!("{error:?}"));
    }
}
