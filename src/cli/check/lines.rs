//! Accounts, subscribers, keys and forecast as `check` prints them.

use std::time::Duration;

use serde::Serialize;

use crate::config::{Config, Fault, duration};
use crate::domain::account::Account;
use crate::domain::degraded::{FIRST_POLLS, first_polls_in_words, first_polls_take};
use crate::domain::messages::subscriber::{EventPattern, Subscriber};
use crate::domain::polling::outlook::AccountLimits;
use crate::simulation::forecast::Forecast;

const MINUTES_PER_DAY: f64 = 1_440.0;
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

#[derive(Debug, Serialize)]
pub(super) struct AccountLine {
    name: String,
    base_url: String,
    tracking_path: String,
    requests_per_minute: u32,
    requests_per_month: u64,
    labels: usize,
    /// Polls that its labels need, as a share of `requests_per_minute` and of `requests_per_month`.
    share_of_limit: f64,
    share_of_budget: Option<f64>,
    /// Duration of the first polls of all its labels, if none was polled yet.
    first_polls_seconds: u64,
    discover: DiscoverLine,
}

#[derive(Debug, Serialize)]
pub(super) struct DiscoverLine {
    enabled: bool,
    interval: String,
    lookback: String,
}

#[derive(Debug, Serialize)]
pub(super) struct SubscriberLine {
    name: String,
    url: String,
    format: &'static str,
    events: Vec<String>,
    enabled: bool,
    /// Signatures in addition to Standard Webhooks.
    rsa_signature: bool,
    hmac_header: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct SigningLine {
    /// The first key signs.
    key_ids: Vec<String>,
    /// URL at which the daemon publishes them; null: none.
    jwks: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct ForecastLine {
    polls_per_day: f64,
    share_of_limit: f64,
    delivered_delay_seconds: f64,
}

impl From<Forecast> for ForecastLine {
    fn from(forecast: Forecast) -> Self {
        Self {
            // Adding 0.0 turns the empty sum, -0.0, into 0.0.
            polls_per_day: (forecast.polls_per_day * 10.0).round() / 10.0 + 0.0,
            share_of_limit: (forecast.share_of_limit * 1e6).round() / 1e6,
            delivered_delay_seconds: forecast.delivered_delay.as_secs_f64().round(),
        }
    }
}

impl AccountLine {
    /// `polls_per_label`: polls a day of one label.
    pub(super) fn of(account: &Account, labels: usize, polls_per_label: f64) -> Self {
        let polls = polls_per_label * labels as f64;
        let rounded = |share: f64| (share * 1e6).round() / 1e6;
        let requests_per_day = AccountLimits::from(account).requests_per_day();
        let first_polls = first_polls_take(labels as u64, requests_per_day / SECONDS_PER_DAY);
        Self {
            name: account.name.to_string(),
            base_url: account.base_url.clone(),
            tracking_path: account.shown_tracking_path(),
            requests_per_minute: account.requests_per_minute,
            requests_per_month: account.requests_per_month,
            labels,
            share_of_limit: rounded(polls / (f64::from(account.requests_per_minute) * MINUTES_PER_DAY)),
            share_of_budget: (account.requests_per_month > 0)
                .then(|| rounded(polls * DAYS_PER_MONTH / account.requests_per_month as f64)),
            first_polls_seconds: first_polls.map_or(0, |take| take.as_secs()),
            discover: DiscoverLine {
                enabled: account.discover.enabled,
                interval: duration::format(account.discover.interval),
                lookback: duration::format(account.discover.lookback),
            },
        }
    }

    /// Warnings where the labels need more requests than allowed.
    pub(super) fn overloads(&self) -> Vec<Fault> {
        let warn = |key: &str, limit: &str, share: f64| {
            let (name, labels) = (&self.name, self.labels);
            let problem = format!(
                "if all are in transit, the {labels} labels of the account need {:.0} % of {limit}: all intervals \
                 stretch by that factor",
                share * 100.0
            );
            Fault::new("forecast", format!("accounts.{name}.{key}"), problem)
                .hint("raise it if your ShipStation plan allows more, or use longer intervals in [cadence]")
        };
        let budget = self.share_of_budget.filter(|share| *share > 1.0);
        let limit = (self.share_of_limit > 1.0).then(|| {
            let limit = format!("{} requests a minute", self.requests_per_minute);
            warn("requests_per_minute", &limit, self.share_of_limit)
        });
        let budget = budget.map(|share| {
            let limit = format!("{} requests a month", self.requests_per_month);
            warn("requests_per_month", &limit, share)
        });
        limit.into_iter().chain(budget).collect()
    }

    /// Describes the duration of the first polls, if it is long.
    pub(super) fn first_polls(&self) -> Option<String> {
        let take = Duration::from_secs(self.first_polls_seconds);
        let labels = self.labels as u64;
        (take > FIRST_POLLS).then(|| {
            format!(
                "account {}, if none of its labels was polled before: {}",
                self.name,
                first_polls_in_words(labels, Some(take))
            )
        })
    }

    pub(super) fn row(&self) -> [String; 4] {
        let budget = match self.requests_per_month {
            0 => String::new(),
            budget => format!(", {budget} a month"),
        };
        [
            self.name.clone(),
            format!("{}{}", self.base_url, self.tracking_path),
            format!("{} a minute{budget}", self.requests_per_minute),
            match &self.discover {
                DiscoverLine { enabled: true, interval, lookback } => {
                    format!("{}; discovery every {interval}, lookback {lookback}", self.labels)
                }
                DiscoverLine { enabled: false, .. } => self.labels.to_string(),
            },
        ]
    }
}

impl SigningLine {
    pub(super) fn of(config: &Config) -> Option<Self> {
        let key_ids: Vec<String> = config.rsa_keys.iter().map(|key| key.public().key_id.clone()).collect();
        let jwks = config.http.listen.map(|listen| format!("http://{listen}/jwks"));
        (!key_ids.is_empty()).then_some(Self { key_ids, jwks })
    }

    pub(super) fn text(&self) -> String {
        let (signs, others) = self.key_ids.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let others = match others {
            [] => String::new(),
            others => format!(" (also published: {})", others.join(", ")),
        };
        match &self.jwks {
            Some(url) => format!("RSA signatures: key {signs}{others}; published at {url}"),
            None => format!(
                "RSA signatures: key {signs}{others}; http.listen is \"\", so publish the output of trackpost jwks"
            ),
        }
    }
}

impl SubscriberLine {
    pub(super) fn of(subscriber: &Subscriber) -> Self {
        Self {
            name: subscriber.name.to_string(),
            url: subscriber.shown_url.clone(),
            format: subscriber.format.as_str(),
            events: subscriber.events.iter().map(EventPattern::as_str).map(str::to_owned).collect(),
            enabled: subscriber.enabled,
            rsa_signature: subscriber.rsa_key.is_some(),
            hmac_header: subscriber.hmac_header.as_ref().map(|hmac| hmac.name.clone()),
        }
    }

    pub(super) fn row(&self) -> [String; 5] {
        let enabled = if self.enabled { "" } else { "disabled" };
        [
            self.name.clone(),
            self.url.clone(),
            self.format.to_owned(),
            self.events.join(", "),
            enabled.to_owned(),
        ]
    }
}

impl ForecastLine {
    pub(super) fn text(&self) -> String {
        let delay = duration::format(Duration::from_secs(self.delivered_delay_seconds as u64));
        let share = match self.share_of_limit * 100.0 {
            share if share > 0.0 && share < 0.1 => "under 0.1".to_owned(),
            share => format!("{share:.1}"),
        };
        format!(
            "forecast if all labels are in transit: about {:.0} polls a day, {share} % of the limit; half of all \
             deliveries are noticed within {delay}",
            self.polls_per_day
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_account_is_warned_about() {
        let environment = [("TRACKPOST__ACCOUNTS__MAIN__API_KEY", "k")].into_iter().collect();
        let mut accounts = Config::builtin(&environment).unwrap().config.accounts;
        let mut account = accounts.pop_first().unwrap().1;
        let mut line = |labels, requests_per_month| {
            account.requests_per_month = requests_per_month;
            AccountLine::of(&account, labels, 6.0)
        };
        let few = line(1_000, 0);
        assert!(few.overloads().is_empty() && few.first_polls().is_none());
        let many = line(210_000, 0);
        let warned: Vec<_> = many.overloads().iter().map(Fault::to_string).collect();
        assert!(warned.len() == 1 && warned[0].contains("need 547 % of 160 requests a minute"), "{warned:?}");
        assert!(many.first_polls().unwrap().contains("at least 22 hours"));
        let budget = line(1_000, 100_000).overloads();
        assert!(budget.len() == 1 && budget[0].key.ends_with("requests_per_month"), "{budget:?}");
    }
}
