//! Arguments to labels, accounts, subscribers and instants.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Failure;
use crate::config::duration::{self, DurationError};
use crate::config::{Config, nearest};
use crate::domain::label::{AccountName, LabelId, LabelKey};
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::polling::outlook::AccountLimits;
use crate::domain::time::{earlier, signed};
use crate::explanation::poll::Recorded;
use crate::store::Store;
use crate::store::views::labels::LabelRef;

/// Parses a label id.
pub fn label_id(text: &str) -> Result<LabelId, Failure> {
    text.parse().map_err(|error| Failure::new(format!("{text:?} is not a label id: {error}")))
}

/// Returns the one registered label with this id, in any state.
pub async fn label(
    store: &Store,
    config: &Config,
    id: &str,
    account: Option<&str>,
) -> Result<(LabelRef, LabelKey), Failure> {
    let id = label_id(id)?;
    let label = choose(store.labels_named(id.as_str()).await?, &id, account, config)?;
    let key = LabelKey { account: AccountName::new(&label.account), id };
    Ok((label, key))
}

/// Returns the label with this id, or with this tracking number if only one has it.
pub async fn label_or_tracking(
    store: &Store,
    config: &Config,
    text: &str,
    account: Option<&str>,
) -> Result<(LabelRef, LabelKey), Failure> {
    let wrong_id = match label_id(text) {
        Ok(_) => return label(store, config, text, account).await,
        Err(failure) => failure,
    };
    let mut tracked = store.labels_tracked_as(text, account).await?;
    match (tracked.pop(), tracked.pop()) {
        (Some(_), Some(_)) => Err(Failure::new(format!("several labels have the tracking number {text:?}"))
            .hint(format!("trackpost labels list --find {text} shows them"))),
        (Some(label), None) => {
            let id = label_id(&label.label_id)?;
            let key = LabelKey { account: AccountName::new(&label.account), id };
            Ok((label, key))
        }
        (None, _) => Err(wrong_id.hint("no registered label has this tracking number either")),
    }
}

/// Returns the records of the label with this id or tracking number.
pub async fn recorded_label(
    store: &Store,
    config: &Config,
    text: &str,
    account: Option<&str>,
    now: Timestamp,
) -> Result<Recorded, Failure> {
    let (label, key) = label_or_tracking(store, config, text, account).await?;
    let limits = |account: &str| config.accounts.get(&AccountName::new(account)).map(AccountLimits::from);
    let recorded = Recorded::read(store, label.row, limits, now).await?;
    recorded.ok_or_else(|| Failure::new(format!("{} was removed meanwhile", key.id)))
}

fn choose(
    named: Vec<LabelRef>,
    id: &LabelId,
    account: Option<&str>,
    config: &Config,
) -> Result<LabelRef, Failure> {
    let accounts = named.iter().map(|label| label.account.as_str()).collect::<Vec<_>>().join(", ");
    let mut fitting =
        named.into_iter().filter(|label| account.is_none_or(|account| label.account == account));
    match (fitting.next(), fitting.next(), account) {
        (Some(label), None, _) => Ok(label),
        (Some(_), Some(_), _) => {
            Err(Failure::new(format!("{id} is registered in several accounts: {accounts}"))
                .hint("choose one with --account"))
        }
        (None, _, Some(account)) if !accounts.is_empty() => {
            Err(Failure::new(format!("{id} is not registered in account {account}, but in {accounts}")))
        }
        (None, _, Some(account)) if !config.accounts.contains_key(&AccountName::new(account)) => {
            Err(unknown_account(config, account))
        }
        (None, _, _) => Err(not_registered(id)),
    }
}

/// Returns the registered labels with this id, one per account that has it; at least one.
pub async fn labels(store: &Store, id: &str) -> Result<Vec<LabelRef>, Failure> {
    let id = label_id(id)?;
    let named = store.labels_named(id.as_str()).await?;
    if named.is_empty() { Err(not_registered(&id)) } else { Ok(named) }
}

fn not_registered(id: &LabelId) -> Failure {
    Failure::new(format!("{id} is not registered")).hint("trackpost labels list shows the registered labels")
}

/// Returns the configured account with this name.
pub fn account(config: &Config, name: &str) -> Result<AccountName, Failure> {
    let name = AccountName::new(name);
    if config.accounts.contains_key(&name) { Ok(name) } else { Err(unknown_account(config, name.as_str())) }
}

/// Failure for an unknown account, with the known ones.
pub fn unknown_account(config: &Config, name: &str) -> Failure {
    unknown("account", name, config.accounts.keys().map(AccountName::as_str).collect())
}

/// Returns the configured subscriber with this name.
pub fn subscriber<'a>(config: &'a Config, name: &str) -> Result<&'a Subscriber, Failure> {
    let known = || config.subscribers.keys().map(SubscriberName::as_str).collect();
    config.subscribers.get(&SubscriberName::new(name)).ok_or_else(|| unknown("subscriber", name, known()))
}

fn unknown(kind: &str, name: &str, known: Vec<&str>) -> Failure {
    let failure = Failure::new(format!("unknown {kind} {}", name.escape_debug()));
    if known.is_empty() {
        return failure.hint("the configuration has none");
    }
    let meant = nearest(name, known.iter().copied());
    let meant = meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
    failure.hint(format!("{meant}the configuration has {}", known.join(", ")))
}

/// Returns the configured subscriber with this name, if it is enabled.
pub fn enabled_subscriber<'a>(config: &'a Config, name: &str) -> Result<&'a Subscriber, Failure> {
    let subscriber = subscriber(config, name)?;
    if subscriber.enabled {
        return Ok(subscriber);
    }
    Err(Failure::new(format!("subscriber {} is disabled: nothing is sent to it", subscriber.name))
        .hint("set enabled = true in its section of the configuration"))
}

/// Seconds of a day.
const DAY: i64 = 86_400;

/// An instant as typed: RFC 3339, a day, or a duration ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeArgument {
    At(Timestamp),
    Ago(SignedDuration),
    /// Start of the day this many days ago, UTC.
    Day(i64),
}

impl TimeArgument {
    /// Parses RFC 3339, a day or a duration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.trim().parse() {
            return Ok(Self::At(at));
        }
        match text.trim() {
            "today" => return Ok(Self::Day(0)),
            "yesterday" => return Ok(Self::Day(1)),
            day => {
                if let Ok(at) =
                    day.parse::<Date>().and_then(|day| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)))
                {
                    return Ok(Self::At(at));
                }
            }
        }
        let ago = duration::parse(text).map_err(|error| match error {
            DurationError::Malformed => {
                "not a time; examples: 2h, yesterday, 2026-11-22, 2026-11-22T10:00:00Z".to_owned()
            }
            error => format!("it {error}"),
        })?;
        Ok(Self::Ago(signed(ago)))
    }

    pub fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => earlier(now, ago),
            Self::Day(ago) => {
                let midnight = now.as_second().div_euclid(DAY) - ago;
                Timestamp::from_second(midnight * DAY).unwrap_or(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn an_instant_is_a_timestamp_a_day_or_a_duration_ago() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let moment = |text| TimeArgument::parse(text).unwrap().before(now).to_string();
        assert_eq!(moment("2h"), "2026-11-22T08:00:00Z");
        assert_eq!(moment("2026-11-01T00:00:00+01:00"), "2026-10-31T23:00:00Z");
        assert_eq!(moment("2d"), "2026-11-20T10:00:00Z");
        assert_eq!(moment("2026-11-01"), "2026-11-01T00:00:00Z");
        assert_eq!(
            (moment("today"), moment("yesterday")),
            ("2026-11-22T00:00:00Z".into(), "2026-11-21T00:00:00Z".into())
        );
        let refusal = TimeArgument::parse("tomorrow").unwrap_err();
        assert!(refusal.starts_with("not a time; examples: 2h"), "{refusal}");
        assert!(TimeArgument::parse("99999999d").unwrap_err().starts_with("it is longer than"));
    }

    fn result_of(accounts: &[&str], wanted: Option<&str>) -> String {
        let environment: Environment = [("TRACKPOST__ACCOUNTS__MAIN__API_KEY", "k")].into_iter().collect();
        let config = Config::builtin(&environment).unwrap().config;
        let named =
            |account: &&str| LabelRef { row: 1, account: (*account).to_owned(), label_id: "se-1".to_owned() };
        let id = "se-1".parse().unwrap();
        match choose(accounts.iter().map(named).collect(), &id, wanted, &config) {
            Ok(label) => label.account,
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn a_label_is_found_or_the_error_has_the_reason() {
        assert_eq!(result_of(&["main"], None), "main");
        assert_eq!(result_of(&["eu", "main"], Some("eu")), "eu");
        assert_eq!(
            result_of(&["eu", "main"], None),
            "error: se-1 is registered in several accounts: eu, main\nhint: choose one with --account"
        );
        assert_eq!(
            result_of(&["eu"], Some("main")),
            "error: se-1 is not registered in account main, but in eu"
        );
        assert_eq!(result_of(&[], Some("x")), "error: unknown account x\nhint: the configuration has main");
        assert!(result_of(&[], None).contains("trackpost labels list"));
    }

    #[test]
    fn an_error_for_a_wrong_id_shows_a_valid_one() {
        let failure = label_id("se-XX").unwrap_err().to_string();
        assert!(
            failure.starts_with("error: \"se-XX\" is not a label id: a label id has the form se-324658"),
            "{failure}"
        );
    }
}
