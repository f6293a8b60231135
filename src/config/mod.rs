//! Reads the configuration: TOML text in, validated domain types out.
//!
//! Three layers are merged: compiled-in defaults, the file, the environment. Serde reads the result into one struct per
//! section (`table`); then the module of each section checks its struct. All faults are reported at once, each with
//! place, key, value and a hint, and without secrets. Wrong label rows are not faults of the configuration: they are
//! left out and reported separately.
//!
//! A new key needs a field in the struct of its section and in the validated type, and its default and documentation in
//! `config/trackpost.toml`. Values of accounts and subscribers are in comments there that start with `#` and no space;
//! `layers` lists the ones that are only examples.
//!
//! The module opens no connection and no database, resolves no name, watches no file, and reads no global state: the
//! environment is an argument.

mod accounts;
mod bounded_int;
mod cadence;
mod connection;
pub mod duration;
mod environment;
mod fault;
mod http;
mod label_files;
mod label_set;
mod layers;
mod log;
mod mask;
mod proxies;
mod registration;
mod row_faults;
mod rows;
mod secret;
mod signing;
mod sources;
mod store;
mod subscribers;
mod table;
mod unchecked_row;
mod url;
mod value;
mod value_error;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

pub use environment::Environment;
pub use fault::{Fault, nearest};
pub use http::HttpConfig;
pub use label_files::{FileScan, FileStamp, FoundFile, LeftOut, fits};
pub use label_set::{Comparison, FileNumber, LabelSet};
pub use log::{LogConfig, LogFormat};
pub use row_faults::RowFaults;
pub use rows::{CheckedRow, RowKind, each_row};
pub use sources::{LabelReading, LabelSources};
pub use store::StoreConfig;

use serde::Deserialize;

use crate::domain::account::Account;
use crate::domain::label::AccountName;
use crate::domain::messages::signature::rsa::RsaKey;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::polling::cadence::Cadence;
use crate::domain::polling::poll::FirstPoll;
use fault::Findings;
use subscribers::Choices;
use table::{At, Context, Extent};

/// The whole configuration without the labels. A reload compares it part by part.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub store: StoreConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    pub accounts: BTreeMap<AccountName, Account>,
    pub first_poll: FirstPoll,
    pub cadence: Cadence,
    pub alerts: AlertSettings,
    /// The first key signs, for subscribers with `rsa_signature`; all are published.
    pub rsa_keys: Vec<RsaKey>,
    pub subscribers: BTreeMap<SubscriberName, Subscriber>,
}

/// A valid configuration and its label sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// The label sources. Label files are not read yet.
    pub sources: LabelSources,
    /// Wrong rows of the configuration itself, which are left out.
    pub label_faults: RowFaults,
    pub warnings: Vec<Fault>,
}

/// All faults of a configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Never empty.
    pub faults: Vec<Fault>,
    /// Label rows that are left out. They do not stop the start.
    pub label_faults: RowFaults,
    /// The valid label sources.
    pub sources: Box<LabelSources>,
}

impl Faults {
    /// Returns faults of the configuration without faults of labels.
    pub fn of(faults: Vec<Fault>) -> Self {
        Self { faults, label_faults: RowFaults::default(), sources: Box::default() }
    }

    /// Returns a hint for all faults together, unless the only fault has its own.
    pub fn hint(&self) -> Option<&'static str> {
        let has_own = matches!(&self.faults[..], [Fault { hint: Some(_), .. }]);
        (!has_own).then_some("correct the configuration; trackpost check reports all its faults")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() {
            1 => f.write_str("the configuration has a fault")?,
            count => write!(f, "the configuration has {count} faults")?,
        }
        self.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))?;
        self.label_faults.kept.iter().try_for_each(|fault| write!(f, "\nleft out: {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// Reads everything: the file at `path` over the defaults, `environment` over both. Label files are read
    /// separately.
    ///
    /// # Errors
    /// All faults of the configuration. Wrong label rows and label files are not faults.
    pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
        strict(load(Some(path), environment, Extent::Everything))
    }

    /// Reads the configuration for a command that works on the database beside a daemon, without secrets and labels:
    /// the user of the command may not be allowed to read the secrets.
    ///
    /// # Errors
    /// All faults of the configuration except faults of secrets and labels.
    pub fn load_beside(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
        strict(load(Some(path), environment, Extent::BesideDaemon))
    }

    /// Reads the configuration for a command that only reads the database. Only a fault that may concern the path of
    /// the database is an error. An account or subscriber with a fault is left out, another value is replaced by its
    /// default; the faults are returned too.
    ///
    /// # Errors
    /// All faults, if one may be about the path of the database.
    pub fn load_to_read(path: &Path, environment: &Environment) -> Result<(Loaded, Option<Faults>), Faults> {
        let (loaded, faults) = load(Some(path), environment, Extent::BesideDaemon);
        if faults.iter().any(Fault::concerns_database) {
            return Err(Faults::of(faults));
        }
        Ok((loaded, (!faults.is_empty()).then(|| Faults::of(faults))))
    }

    /// Reads the compiled-in defaults with `environment` over them, without a file.
    ///
    /// # Errors
    /// All faults of the environment.
    pub fn builtin(environment: &Environment) -> Result<Loaded, Faults> {
        strict(load(None, environment, Extent::Everything))
    }

    /// The accounts' names, in order.
    pub fn account_names(&self) -> Vec<AccountName> {
        self.accounts.keys().cloned().collect()
    }
}

/// The sections as written, in the order in which faults are reported.
#[derive(Deserialize)]
struct Sections {
    store: store::StoreSection,
    http: http::HttpSection,
    log: LogConfig,
    #[serde(default)]
    accounts: BTreeMap<String, accounts::AccountSection>,
    registration: registration::RegistrationSection,
    cadence: cadence::CadenceSection,
    alerts: cadence::AlertsSection,
    #[serde(default)]
    signing: signing::SigningSection,
    #[serde(default)]
    subscribers: BTreeMap<String, subscribers::SubscriberSection>,
}

const SECTIONS: [&str; 9] =
    ["store", "http", "log", "accounts", "registration", "cadence", "alerts", "signing", "subscribers"];

fn strict((loaded, faults): (Loaded, Vec<Fault>)) -> Result<Loaded, Faults> {
    if faults.is_empty() {
        return Ok(loaded);
    }
    let Loaded { label_faults, sources, .. } = loaded;
    Err(Faults { faults, label_faults, sources: Box::new(sources) })
}

/// The configuration, without the accounts and subscribers that are wrong and with the defaults for other wrong values,
/// and all faults.
fn load(path: Option<&Path>, environment: &Environment, extent: Extent) -> (Loaded, Vec<Fault>) {
    let findings = &Findings::default();
    let (mut root, defaults) = layers::merge_layers(path, environment, findings);
    let file = &path.map_or_else(|| layers::BUILT_IN.to_owned(), |path| path.display().to_string());
    let directory = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let (fetch, is_secret) = (secret::read as table::Fetch, Cell::default());
    let files = RefCell::default();
    let context = &Context { environment, directory, file, findings, extent, fetch, files, is_secret };
    let root_before = &root.clone();
    let sections: Sections = table::read(&mut root, &defaults, context);

    // Faults name places and keys as written.
    let at = |name: &str| At::root(root_before, context).key(name);
    let names: Vec<AccountName> = sections.accounts.keys().map(|name| AccountName::new(name)).collect();
    let accounts = sections.accounts.into_iter().filter_map(|(name, account)| {
        let at = at("accounts").key(&name);
        let account = account.check(&at, &name);
        at.is_valid().then(|| (account.name.clone(), account))
    });
    let store = sections.store.check(&at("store"));
    let http = sections.http.check(&at("http"));
    let log = sections.log.check(&at("log"));
    let accounts: BTreeMap<_, _> = accounts.collect();
    let registered = sections.registration.check(&at("registration"), &names);
    let rsa_keys = sections.signing.check(&at("signing"));
    let can_sign = signing::is_configured(&at("signing"));
    let choices = Choices { accounts: &names, rsa_keys: &rsa_keys, can_sign };
    let no_subscriber = sections.subscribers.is_empty();
    let subscribers = sections.subscribers.into_iter().filter_map(|(name, subscriber)| {
        let at = at("subscribers").key(&name);
        let subscriber = subscriber.check(&at, &name, choices);
        at.is_valid().then(|| (subscriber.name.clone(), subscriber))
    });
    let config = Config {
        store,
        http,
        log,
        accounts,
        first_poll: registered.first_poll,
        cadence: sections.cadence.check(&at("cadence")),
        alerts: sections.alerts.check(&at("alerts")),
        subscribers: subscribers.collect(),
        rsa_keys,
    };
    for (what, missing) in [("accounts", names.is_empty()), ("subscribers", no_subscriber)] {
        if missing {
            let hint = format!("add [{what}.NAME]; trackpost demo needs none");
            findings.warn(Fault::new(file, what, "none configured").hint(hint));
        }
    }
    let (faults, mut warnings) = findings.finish();
    warnings.extend(registered.warnings);
    let loaded = Loaded { config, sources: registered.sources, label_faults: registered.faults, warnings };
    (loaded, faults)
}

#[cfg(test)]
mod tests;
