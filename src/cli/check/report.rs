//! What `check` found, for people and as one object.

use std::time::Duration;

use serde::Serialize;

use super::online::Finding;
use crate::cli::output;
use crate::config::{Config, Fault, Faults, LeftOut, Loaded, duration};
use crate::domain::account::Account;
use crate::domain::degraded::{FIRST_POLLS, first_polls_in_words, first_polls_take};
use crate::domain::messages::subscriber::{EventPattern, Subscriber};
use crate::simulation::forecast::{Forecast, Load, forecast};

const MINUTES_PER_DAY: f64 = 1_440.0;
const DAYS_PER_MONTH: f64 = 30.0;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// As `--json` has it.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub ok: bool,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    accounts: Vec<AccountLine>,
    labels: Option<usize>,
    /// Rows of labels that were left out; of each place the first.
    label_faults: Vec<Fault>,
    labels_left_out: usize,
    /// Label files that cannot be read; their labels stay as they are.
    files_left_out: Vec<Fault>,
    subscribers: Vec<SubscriberLine>,
    /// The RSA keys; null without any.
    signing: Option<SigningLine>,
    forecast: Option<ForecastLine>,
    /// What was asked with `--online`.
    online: Option<Vec<Finding>>,
}

#[derive(Debug, Serialize)]
struct AccountLine {
    name: String,
    base_url: String,
    tracking_path: String,
    requests_per_minute: u32,
    requests_per_month: u64,
    labels: usize,
    /// What its labels ask for, as a share of `requests_per_minute` and of `requests_per_month`.
    share_of_limit: f64,
    share_of_budget: Option<f64>,
    /// How long the first polls of all its labels take, if none was polled yet.
    first_polls_seconds: u64,
    discover: DiscoverLine,
}

#[derive(Debug, Serialize)]
struct DiscoverLine {
    enabled: bool,
    interval: String,
    lookback: String,
}

#[derive(Debug, Serialize)]
struct SubscriberLine {
    name: String,
    url: String,
    format: &'static str,
    events: Vec<String>,
    enabled: bool,
    /// What it is signed with beside Standard Webhooks.
    rsa_signature: bool,
    hmac_header: Option<String>,
}

#[derive(Debug, Serialize)]
struct SigningLine {
    /// The first one signs.
    key_ids: Vec<String>,
    /// Where the daemon publishes them; null: nowhere.
    jwks: Option<String>,
}

#[derive(Debug, Serialize)]
struct ForecastLine {
    polls_per_day: f64,
    share_of_limit: f64,
    delivered_delay_seconds: f64,
}

impl From<Forecast> for ForecastLine {
    fn from(forecast: Forecast) -> Self {
        Self {
            // A sum over no labels is -0.
            polls_per_day: (forecast.polls_per_day * 10.0).round() / 10.0 + 0.0,
            share_of_limit: (forecast.share_of_limit * 1e6).round() / 1e6,
            delivered_delay_seconds: forecast.delivered_delay.as_secs_f64().round(),
        }
    }
}

impl Report {
    pub fn of(loaded: &Loaded) -> Self {
        let config = &loaded.config;
        let reading = loaded.sources.read_all();
        let labels_of = |account: &Account| reading.roll.labels_of(&account.name);
        let mut accounts: Vec<AccountLine> = config
            .accounts
            .values()
            .map(|account| AccountLine {
                name: account.name.to_string(),
                base_url: account.base_url.clone(),
                tracking_path: account.shown_tracking_path(),
                requests_per_minute: account.requests_per_minute,
                requests_per_month: account.requests_per_month,
                labels: labels_of(account),
                share_of_limit: 0.0,
                share_of_budget: None,
                first_polls_seconds: 0,
                discover: DiscoverLine {
                    enabled: account.discover.enabled,
                    interval: duration::format(account.discover.interval),
                    lookback: duration::format(account.discover.lookback),
                },
            })
            .collect();
        let loads: Vec<Load> = accounts
            .iter()
            .map(|account| Load { labels: account.labels, requests_per_day: account.requests_per_day() })
            .collect();
        let forecast = forecast(&config.cadence, &loads);
        accounts.iter_mut().for_each(|account| account.foretell(forecast.polls_per_label_per_day));
        let overloads: Vec<Fault> = accounts.iter().flat_map(AccountLine::overloads).collect();
        Self {
            ok: true,
            faults: Vec::new(),
            warnings: [&loaded.warnings[..], &reading.warnings, &overloads].concat(),
            labels: Some(reading.roll.labels()),
            label_faults: [&loaded.label_faults[..], &reading.faults].concat(),
            labels_left_out: loaded.label_fault_count + reading.fault_count,
            files_left_out: left_out(reading.left_out),
            subscribers: config.subscribers.values().map(SubscriberLine::of).collect(),
            signing: SigningLine::of(config),
            forecast: Some(forecast.into()),
            online: None,
            accounts,
        }
    }

    pub fn unsound(faults: Faults) -> Self {
        let reading = faults.sources.read_all();
        Self {
            faults: faults.faults,
            label_faults: [faults.label_faults, reading.faults].concat(),
            labels_left_out: faults.label_fault_count + reading.fault_count,
            files_left_out: left_out(reading.left_out),
            ..Self::default()
        }
    }

    pub fn asked(&mut self, findings: Vec<Finding>) {
        self.ok = findings.iter().all(|finding| finding.ok);
        self.online = Some(findings);
    }

    /// What is wrong, a line each.
    pub fn print_faults(&self) {
        self.faults.iter().for_each(output::line);
        for left_out in self.files_left_out.iter().chain(&self.label_faults) {
            output::line(format!("left out: {left_out}"));
        }
    }

    pub fn print(&self) {
        self.print_faults();
        for warning in &self.warnings {
            output::line(format!("warning: {warning}"));
        }
        if !self.accounts.is_empty() {
            let rows: Vec<_> = self.accounts.iter().map(AccountLine::row).collect();
            output::table(["ACCOUNT", "READS", "LIMIT", "LABELS"], &rows);
        }
        if !self.subscribers.is_empty() {
            let rows: Vec<_> = self.subscribers.iter().map(SubscriberLine::row).collect();
            output::table(["SUBSCRIBER", "POSTS TO", "FORMAT", "EVENTS", ""], &rows);
        }
        if let Some(signing) = &self.signing {
            output::line(signing.shown());
        }
        let left_out = match self.labels_left_out {
            0 => String::new(),
            1 => "; one row is wrong and left out".to_owned(),
            some => format!("; {some} rows are wrong and left out"),
        };
        let left_out = match self.files_left_out.len() {
            0 => left_out,
            1 => format!("{left_out}; one file is left out"),
            some => format!("{left_out}; {some} files are left out"),
        };
        output::line(format!("{} labels are configured{left_out}", self.labels.unwrap_or(0)));
        if let Some(forecast) = &self.forecast {
            output::line(forecast.shown());
        }
        self.accounts.iter().filter_map(AccountLine::first_polls).for_each(output::line);
        output::line("the configuration is sound");
    }
}

fn left_out(files: Vec<LeftOut>) -> Vec<Fault> {
    files.into_iter().map(|file| file.fault).collect()
}

impl AccountLine {
    fn requests_per_day(&self) -> f64 {
        let by_minute = f64::from(self.requests_per_minute) * MINUTES_PER_DAY;
        match self.requests_per_month {
            0 => by_minute,
            budget => by_minute.min(budget as f64 / DAYS_PER_MONTH),
        }
    }

    /// What its labels ask for, if each asks for so many polls a day.
    fn foretell(&mut self, polls_per_label: f64) {
        let polls = polls_per_label * self.labels as f64;
        let rounded = |share: f64| (share * 1e6).round() / 1e6;
        self.share_of_limit = rounded(polls / (f64::from(self.requests_per_minute) * MINUTES_PER_DAY));
        self.share_of_budget = (self.requests_per_month > 0)
            .then(|| rounded(polls * DAYS_PER_MONTH / self.requests_per_month as f64));
        let take = first_polls_take(self.labels as u64, self.requests_per_day() / SECONDS_PER_DAY);
        self.first_polls_seconds = take.map_or(0, |take| take.as_secs());
    }

    /// Warnings of an account whose labels ask for more than it may.
    fn overloads(&self) -> Vec<Fault> {
        let warn = |key: &str, limit: &str, share: f64| {
            let (name, labels) = (&self.name, self.labels);
            let problem = format!(
                "the {labels} labels of the account ask for {:.0} % of {limit}, with all of them in transit: all waits \
                 stretch by that factor",
                share * 100.0
            );
            Fault::new("forecast", format!("accounts.{name}.{key}"), problem)
                .hint("raise it if the plan allows, or use longer intervals in [cadence]")
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

    /// How long the first polls take, if that is worth a word.
    fn first_polls(&self) -> Option<String> {
        let take = Duration::from_secs(self.first_polls_seconds);
        let labels = self.labels as u64;
        (take > FIRST_POLLS).then(|| {
            format!(
                "account {}, if none was polled yet: {}",
                self.name,
                first_polls_in_words(labels, Some(take))
            )
        })
    }

    fn row(&self) -> [String; 4] {
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
                    format!("{}, and new ones every {interval}, at first {lookback} back", self.labels)
                }
                DiscoverLine { enabled: false, .. } => self.labels.to_string(),
            },
        ]
    }
}

impl SigningLine {
    fn of(config: &Config) -> Option<Self> {
        let key_ids: Vec<String> = config.rsa_keys.iter().map(|key| key.public().key_id.clone()).collect();
        let jwks = config.http.listen.map(|listen| format!("http://{listen}/jwks"));
        (!key_ids.is_empty()).then_some(Self { key_ids, jwks })
    }

    fn shown(&self) -> String {
        let (signs, others) = self.key_ids.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let others = match others {
            [] => String::new(),
            others => format!(" (also known: {})", others.join(", ")),
        };
        match &self.jwks {
            Some(url) => format!("signs with RSA key {signs}{others}; published at {url}"),
            None => format!(
                "signs with RSA key {signs}{others}; http.listen is \"\", so publish what trackpost jwks prints"
            ),
        }
    }
}

impl SubscriberLine {
    fn of(subscriber: &Subscriber) -> Self {
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

    fn row(&self) -> [String; 5] {
        let enabled = if self.enabled { "" } else { "not enabled" };
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
    fn shown(&self) -> String {
        let delay = duration::format(Duration::from_secs(self.delivered_delay_seconds as u64));
        let share = match self.share_of_limit * 100.0 {
            share if share > 0.0 && share < 0.1 => "under 0.1".to_owned(),
            share => format!("{share:.1}"),
        };
        format!(
            "forecast, with all of them in transit: about {:.0} polls a day, {share} % of the limit; a delivery is noticed \
             after {delay}, at the median",
            self.polls_per_day
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn an_account_that_asks_for_too_much_is_warned_of() {
        let line = |labels, requests_per_month| {
            let mut line = AccountLine {
                name: "main".to_owned(),
                base_url: String::new(),
                tracking_path: String::new(),
                requests_per_minute: 160,
                requests_per_month,
                labels,
                share_of_limit: 0.0,
                share_of_budget: None,
                first_polls_seconds: 0,
                discover: DiscoverLine { enabled: false, interval: String::new(), lookback: String::new() },
            };
            line.foretell(6.0);
            line
        };
        let few = line(1_000, 0);
        assert!(few.overloads().is_empty() && few.first_polls().is_none());
        let many = line(210_000, 0);
        let warned: Vec<_> = many.overloads().iter().map(Fault::to_string).collect();
        assert!(
            warned.len() == 1 && warned[0].contains("ask for 547 % of 160 requests a minute"),
            "{warned:?}"
        );
        assert!(many.first_polls().unwrap().contains("at least 22 hours"));
        let budget = line(1_000, 100_000).overloads();
        assert!(budget.len() == 1 && budget[0].key.ends_with("requests_per_month"), "{budget:?}");
    }

    #[test]
    fn it_shows_what_would_run_and_no_secret() {
        let environment: Environment = [
            ("TRACKPOST__ACCOUNTS__MAIN__API_KEY", "k-very-secret"),
            ("TRACKPOST__REGISTRATION__LABELS", "[\"se-1\", \"se-2\", \"nope\"]"),
            ("TRACKPOST__SUBSCRIBERS__A__URL", "https://u:p-very-secret@example.com/hook?t=q-very-secret"),
            ("TRACKPOST__SUBSCRIBERS__A__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]
        .into_iter()
        .collect();
        let loaded = Config::builtin(&environment).unwrap();
        let json = serde_json::to_value(Report::of(&loaded)).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["labels"], 2);
        assert_eq!(json["labels_left_out"], 1);
        assert_eq!(json["accounts"][0]["labels"], 2);
        assert_eq!(
            json["accounts"][0]["discover"],
            serde_json::json!({"enabled": false, "interval": "5m", "lookback": "14d"})
        );
        assert_eq!(json["subscribers"][0]["name"], "a");
        let forecast = |field: &str| json["forecast"][field].as_f64().unwrap();
        assert!((9.0..14.0).contains(&forecast("polls_per_day")), "two labels: {json}");
        assert!((300.0..900.0).contains(&forecast("delivered_delay_seconds")), "{json}");
        let text = json.to_string();
        assert!(!text.contains("very-secret") && !text.contains("whsec"), "{text}");
    }
}
