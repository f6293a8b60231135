//! The configuration of the simulated daemon.

use std::sync::OnceLock;

use trackpost::config::{Config, Environment};
use trackpost::domain::account::Account;
use trackpost::domain::label::AccountName;
use trackpost::workers::poller::PollPolicy;

use super::script::SUBSCRIBERS;

const CONFIGURATION: &str = r#"
[http]
listen = ""
[registration]
labels = []
[cadence]
settle = ["6h", "24h"]
[accounts.main]
base_url = "http://127.0.0.1:1"
api_key = "TEST_key"
[accounts.main.discover]
enabled = true
[subscribers.orders]
url = "http://127.0.0.1:2/0"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
format = "standard"
events = ["*"]
[subscribers.shop]
url = "http://127.0.0.1:2/0"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
format = "shipstation"
retry = ["5s", "1m", "10m", "1h"]
[subscribers.audit]
url = "http://127.0.0.1:2/0"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
format = "standard"
events = ["tracking.*"]
retry = ["5s", "1m", "10m", "1h"]
"#;

pub const NAMES: [&str; SUBSCRIBERS] = ["orders", "shop", "audit"];

/// Returns the account, and the configuration of the poller and the couriers.
pub fn configured() -> (Account, PollPolicy) {
    static CONFIG: OnceLock<(Account, PollPolicy)> = OnceLock::new();
    let read = || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("trackpost.toml");
        std::fs::write(&file, CONFIGURATION).unwrap();
        let config = Config::load(&file, &Environment::default()).unwrap().config;
        let account = config.accounts[&AccountName::new("main")].clone();
        (account, PollPolicy::of(&config))
    };
    CONFIG.get_or_init(read).clone()
}
