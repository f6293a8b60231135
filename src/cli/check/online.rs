//! Requests of `check --online`: one per account, one more for the list of labels where discovery is on, and one ping per
//! subscriber.

use std::fmt;

use serde::Serialize;

use crate::cli::{Failure, output};
use crate::clock;
use crate::config::Loaded;
use crate::domain::account::Account;
use crate::domain::delivery::outcome::Attempt;
use crate::domain::label::LabelId;
use crate::domain::messages::ping::{PING, Ping};
use crate::domain::messages::subscriber::Subscriber;
use crate::domain::polling::discovery::ListRequest;
use crate::domain::tracking::reading::Reading;
use crate::shipstation::{self, Client};
use crate::webhook::{Callback, WebhookClient};

/// Label to poll for an account without labels; a 404 for it shows that the key is accepted.
const PROBE: &str = "se-1";

/// Result of one request.
#[derive(Debug, Serialize)]
pub struct OnlineCheck {
    /// `account`, `discovery` or `subscriber`.
    what: &'static str,
    name: String,
    pub ok: bool,
    detail: String,
}

impl fmt::Display for OnlineCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.ok { "ok" } else { "failed" };
        write!(f, "{} {}: {verdict}: {}", self.what, self.name, output::plain(&self.detail))
    }
}

/// Makes the requests one after the other, and passes each result to `each`.
pub async fn run(loaded: &Loaded, mut each: impl FnMut(&OnlineCheck)) -> Result<Vec<OnlineCheck>, Failure> {
    let tls = shipstation::tls()?;
    let mut checks = Vec::new();
    for account in loaded.config.accounts.values() {
        let client = Client::new(&tls, account)?;
        let check = check_account(&client, loaded, account).await?;
        each(&check);
        checks.push(check);
        if let Some(url) = account.labels_url().filter(|_| account.discover.enabled) {
            let check = check_discovery(&client, account, &url).await;
            each(&check);
            checks.push(check);
        }
    }
    for subscriber in loaded.config.subscribers.values().filter(|subscriber| subscriber.enabled) {
        let check = check_subscriber(subscriber).await?;
        each(&check);
        checks.push(check);
    }
    Ok(checks)
}

async fn check_account(client: &Client, loaded: &Loaded, account: &Account) -> Result<OnlineCheck, Failure> {
    let label: LabelId = match loaded.sources.first_of(&account.name) {
        Some(label) => label.key.id,
        None => PROBE.parse()?,
    };
    let reading = client.read(account, &label, None, clock::now()).await;
    let (ok, detail) = classify(&reading, &label);
    Ok(OnlineCheck { what: "account", name: account.name.to_string(), ok, detail })
}

/// Checks that the list of labels can be read. Its contents are ignored, as they are personal data.
async fn check_discovery(client: &Client, account: &Account, url: &str) -> OnlineCheck {
    let now = clock::now();
    let request = ListRequest { created_from: now, page: 1, page_size: 1, voided_only: false };
    let (ok, detail) = match client.list(account, url, request, now).await {
        Ok(_) => (true, format!("the list of labels can be read at {url}")),
        Err(reading @ (Reading::Throttled { .. } | Reading::CarrierThrottled { .. })) => {
            (true, format!("the rate limit is used up: {}", detail(&reading)))
        }
        Err(reading @ Reading::Unauthorized { .. }) => {
            (false, format!("the key is not allowed to read the list of labels: {}", detail(&reading)))
        }
        Err(reading) => (false, format!("the list of labels cannot be read: {}", detail(&reading))),
    };
    OnlineCheck { what: "discovery", name: account.name.to_string(), ok, detail }
}

fn detail(reading: &Reading) -> String {
    reading.detail().unwrap_or_default()
}

/// Decides whether the API was reached and accepts the key.
fn classify(reading: &Reading, label: &LabelId) -> (bool, String) {
    let detail = detail(reading);
    match reading {
        Reading::Answer { .. } | Reading::SameBytes => {
            (true, format!("reachable, the key is accepted; label {label} exists"))
        }
        Reading::Refused { .. } => (true, format!("reachable, the key is accepted; label {label}: {detail}")),
        Reading::Throttled { .. } | Reading::CarrierThrottled { .. } => {
            (true, "reachable; the rate limit is used up, so the API may not have checked the key".to_owned())
        }
        Reading::Unauthorized { .. } => (false, format!("the key is not accepted: {detail}")),
        Reading::WrongEndpoint { .. } => (false, format!("base_url or tracking_path is wrong: {detail}")),
        Reading::Garbled { .. } => (false, format!("the answer is not one of ShipStation: {detail}")),
        Reading::ServerError { .. } => (false, format!("reachable, but {detail}")),
        Reading::TimedOut | Reading::NoConnection { .. } => (false, format!("not reachable: {detail}")),
        Reading::Shortage { .. } => (false, format!("no request was sent: {detail}")),
    }
}

async fn check_subscriber(subscriber: &Subscriber) -> Result<OnlineCheck, Failure> {
    let now = clock::now();
    let ping = Ping::new(&subscriber.name, now);
    let callback = Callback {
        message_id: &ping.id,
        kind: PING,
        label_id: None,
        seq: None,
        attempt: 1,
        body: &ping.body,
    };
    let attempt = WebhookClient::new(subscriber)?.post(subscriber, &callback, now).await;
    let ok = attempt.outcome.is_accepted();
    Ok(OnlineCheck { what: "subscriber", name: subscriber.name.to_string(), ok, detail: pinged(&attempt) })
}

fn pinged(attempt: &Attempt) -> String {
    let took = output::measured(attempt.duration);
    match &attempt.detail {
        Some(detail) => format!("ping: {} after {took}: {detail}", output::outcome(&attempt.outcome.shown())),
        None => format!("ping: {} after {took}", output::outcome(&attempt.outcome.shown())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_the_api_is_ok() {
        let label: LabelId = "se-1".parse().unwrap();
        let detail = String::new;
        for (reading, ok) in [
            (Reading::SameBytes, true),
            (Reading::Refused { status: 404, detail: detail() }, true),
            (Reading::Throttled { retry_after: None }, true),
            (Reading::Unauthorized { status: 401, detail: detail() }, false),
            (Reading::WrongEndpoint { status: None, url: detail(), detail: detail() }, false),
            (Reading::Garbled { status: 301, detail: detail() }, false),
            (Reading::ServerError { status: 500 }, false),
            (Reading::NoConnection { detail: detail() }, false),
        ] {
            assert_eq!(classify(&reading, &label).0, ok, "{reading:?}");
        }
    }
}
