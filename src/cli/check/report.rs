//! Report of `check`, as text and as one JSON object.

use serde::Serialize;

use super::lines::{AccountLine, ForecastLine, SigningLine, SubscriberLine};
use super::online::OnlineCheck;
use crate::cli::{output, table};
use crate::config::{Config, Fault, Faults, LeftOut, Loaded};
use crate::domain::account::Account;
use crate::domain::polling::outlook::AccountLimits;
use crate::domain::words::counted;
use crate::simulation::forecast::{Load, forecast};
use crate::transport::max_connections;

/// Report as printed by `--json`.
#[derive(Debug, Default, Serialize)]
pub struct CheckReport {
    pub ok: bool,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    accounts: Vec<AccountLine>,
    labels: Option<usize>,
    /// Label rows that were left out; the first ones of each file.
    label_faults: Vec<Fault>,
    labels_left_out: usize,
    /// Label files that cannot be read; their labels stay as they are.
    files_left_out: Vec<Fault>,
    subscribers: Vec<SubscriberLine>,
    /// The RSA keys; null without any.
    signing: Option<SigningLine>,
    forecast: Option<ForecastLine>,
    /// Results of `--online`.
    online: Option<Vec<OnlineCheck>>,
}

/// Warns if more requests may be in flight than connections may be open.
fn too_much_in_flight(config: &Config) -> Vec<Fault> {
    let accounts = config.accounts.values().map(|account| account.max_in_flight);
    let subscribers = config.subscribers.values().filter(|subscriber| subscriber.enabled);
    let sum: u64 =
        accounts.chain(subscribers.map(|subscriber| subscriber.max_in_flight)).map(u64::from).sum();
    let most = max_connections();
    if sum <= most as u64 {
        return Vec::new();
    }
    let problem = format!(
        "is {sum} for all accounts and subscribers together, but this process may have {most} connections at once: the \
         other requests wait"
    );
    let hint = "lower max_in_flight, or raise the limit of open files (LimitNOFILE= in the unit, ulimit -n in a shell)";
    vec![Fault::new("limits", "max_in_flight", problem).hint(hint)]
}

impl CheckReport {
    pub fn of(loaded: &Loaded) -> Self {
        let config = &loaded.config;
        let reading = loaded.sources.read_all();
        let labels_of = |account: &Account| reading.label_set.labels_of(&account.name);
        let each = forecast(&config.cadence);
        let line = |account: &Account| AccountLine::of(account, labels_of(account), each.polls_per_day);
        let accounts: Vec<AccountLine> = config.accounts.values().map(line).collect();
        let load = |account: &Account| Load {
            labels: labels_of(account),
            requests_per_day: AccountLimits::from(account).requests_per_day(),
        };
        let forecast = each.of(&config.accounts.values().map(load).collect::<Vec<_>>());
        let mut rows = loaded.label_faults.clone();
        rows.extend(reading.faults);
        let overloads: Vec<Fault> = accounts.iter().flat_map(AccountLine::overloads).collect();
        Self {
            ok: true,
            faults: Vec::new(),
            warnings: [&loaded.warnings[..], &reading.warnings, &overloads, &too_much_in_flight(config)]
                .concat(),
            labels: Some(reading.label_set.labels()),
            label_faults: rows.kept,
            labels_left_out: rows.total,
            files_left_out: left_out(reading.left_out),
            subscribers: config.subscribers.values().map(SubscriberLine::of).collect(),
            signing: SigningLine::of(config),
            forecast: Some(forecast.into()),
            online: None,
            accounts,
        }
    }

    pub fn of_faults(faults: Faults) -> Self {
        let reading = faults.sources.read_all();
        let mut rows = faults.label_faults;
        rows.extend(reading.faults);
        Self {
            faults: faults.faults,
            label_faults: rows.kept,
            labels_left_out: rows.total,
            files_left_out: left_out(reading.left_out),
            ..Self::default()
        }
    }

    pub fn add_online(&mut self, checks: Vec<OnlineCheck>) {
        self.ok = checks.iter().all(|check| check.ok);
        self.online = Some(checks);
    }

    /// Prints every fault on a line.
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
            table::print(["ACCOUNT", "TRACKING URL", "LIMIT", "LABELS"], &[], &rows);
        }
        if !self.subscribers.is_empty() {
            let rows: Vec<_> = self.subscribers.iter().map(SubscriberLine::row).collect();
            table::print(["SUBSCRIBER", "URL", "FORMAT", "EVENTS", "NOTE"], &["FORMAT"], &rows);
        }
        if let Some(signing) = &self.signing {
            output::line(signing.text());
        }
        let left_out = match self.labels_left_out {
            0 => String::new(),
            some => format!("; {} left out", counted(some as u64, "wrong row")),
        };
        let left_out = match self.files_left_out.len() {
            0 => left_out,
            some => format!("{left_out}; {} left out", counted(some as u64, "file")),
        };
        let labels = counted(self.labels.unwrap_or(0) as u64, "label");
        output::line(format!("{labels} configured{left_out}"));
        if let Some(forecast) = &self.forecast {
            output::line(forecast.text());
        }
        self.accounts.iter().filter_map(AccountLine::first_polls).for_each(output::line);
        output::line("configuration OK");
    }
}

fn left_out(files: Vec<LeftOut>) -> Vec<Fault> {
    files.into_iter().map(|file| file.fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn the_report_shows_what_would_run_and_no_secret() {
        let environment: Environment = [
            ("TRACKPOST__ACCOUNTS__MAIN__API_KEY", "k-very-secret"),
            ("TRACKPOST__REGISTRATION__LABELS", "[\"se-1\", \"se-2\", \"nope\"]"),
            ("TRACKPOST__SUBSCRIBERS__A__URL", "https://u:p-very-secret@example.com/hook?t=q-very-secret"),
            ("TRACKPOST__SUBSCRIBERS__A__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ]
        .into_iter()
        .collect();
        let loaded = Config::builtin(&environment).unwrap();
        let json = serde_json::to_value(CheckReport::of(&loaded)).unwrap();
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
