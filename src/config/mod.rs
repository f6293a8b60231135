//! Reads the configuration: TOML text in, validated domain types out.
//!
//! Three layers lie over each other (compiled-in defaults, the file, the environment); then one reader per section
//! takes what is its own, checks it, and leaves a fault for everything that is wrong. All faults come at once, each with
//! place, key, value and a hint, and none ever shows a secret. Wrong rows of labels are no faults of the configuration:
//! they are left out and told apart.
//!
//! It opens no connection and no database, resolves no name, watches no file, and reads no global state: the environment
//! is an argument.

mod accounts;
mod cadence;
mod connection;
pub mod duration;
mod environment;
mod fault;
mod headers;
mod hmac_header;
mod http;
mod label_files;
mod layers;
mod log;
mod mask;
mod proxies;
mod reader;
mod registration;
mod roll;
mod rows;
mod secret;
mod signing;
mod silence;
mod sources;
mod store;
mod subscribers;
mod url;

use std::collections::BTreeMap;
use std::path::Path;

pub use accounts::{Account, Discover};
pub use environment::Environment;
pub use fault::{Fault, Faults, nearest};
pub use http::HttpConfig;
pub use label_files::{FoundFile, LeftOut, Look, Stamp, fits};
pub use log::{LogConfig, LogFormat};
pub use registration::RegistrationConfig;
pub use roll::{Held, Place, Roll, SHOWN_PER_PLACE};
pub use rows::{CheckedRow, RowKind, RowSource, each_row};
pub use sources::{LabelSources, Reading};
pub use store::StoreConfig;

use crate::domain::label::AccountName;
use crate::domain::messages::signature::rsa::RsaKey;
use crate::domain::messages::subscriber::{Subscriber, SubscriberName};
use crate::domain::polling::alerts::AlertSettings;
use crate::domain::polling::cadence::Cadence;
use fault::Findings;
use reader::{Context, Entry, Extent};
use signing::Signing;
use subscribers::Choices;

/// The whole configuration but for the labels. A reload compares it part by part.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub store: StoreConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    pub accounts: BTreeMap<AccountName, Account>,
    pub registration: RegistrationConfig,
    pub cadence: Cadence,
    pub silence: AlertSettings,
    /// The first signs, where a subscriber asks for it; all are published.
    pub rsa_keys: Vec<RsaKey>,
    pub subscribers: BTreeMap<SubscriberName, Subscriber>,
}

/// A sound configuration, and where labels come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub config: Config,
    /// Where labels come from. Label files are not read yet.
    pub sources: LabelSources,
    /// Wrong rows of the configuration itself, which were left out.
    pub label_faults: Vec<Fault>,
    /// How many of them there are.
    pub label_fault_count: usize,
    pub warnings: Vec<Fault>,
}

impl Config {
    /// Reads everything: the file at `path` over the defaults, `environment` over both. Label files are read apart from it.
    ///
    /// # Errors
    /// All faults of the configuration. Wrong rows of labels and label files are none.
    pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
        load(Some(path), environment, Extent::Everything)
    }

    /// The same for a verb that works on the database beside a daemon: the secrets may be out of its reach and are not
    /// fetched, and labels are not read.
    ///
    /// # Errors
    /// All faults of the configuration, but for those of secrets and labels.
    pub fn load_beside(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
        load(Some(path), environment, Extent::BesideDaemon)
    }

    /// The same for a verb that only reads the database: a fault elsewhere than in what says where the database is does not
    /// block it. What is at fault is as it is by default, or missing; the faults are returned beside.
    ///
    /// # Errors
    /// All faults, if the place of the database may be among them.
    pub fn load_to_read(path: &Path, environment: &Environment) -> Result<(Loaded, Option<Faults>), Faults> {
        let faults = match Self::load_beside(path, environment) {
            Ok(loaded) => return Ok((loaded, None)),
            Err(faults) if faults.faults.iter().any(Fault::concerns_database) => return Err(faults),
            Err(faults) => faults,
        };
        let rest = load(None, &Environment::default(), Extent::BesideDaemon)?;
        load_with(Some(path), environment, Extent::BesideDaemon, Some(rest.config))
            .map(|loaded| (loaded, Some(faults)))
    }

    /// What is compiled in, with `environment` over it: no file is read.
    ///
    /// # Errors
    /// All faults of the environment.
    pub fn builtin(environment: &Environment) -> Result<Loaded, Faults> {
        load(None, environment, Extent::Everything)
    }

    /// The accounts' names, in order.
    pub fn account_names(&self) -> Vec<AccountName> {
        self.accounts.keys().cloned().collect()
    }
}

fn load(path: Option<&Path>, environment: &Environment, extent: Extent) -> Result<Loaded, Faults> {
    load_with(path, environment, extent, None)
}

/// With `fallback`, a section at fault is taken from there, and faults are none.
fn load_with(
    path: Option<&Path>,
    environment: &Environment,
    extent: Extent,
    fallback: Option<Config>,
) -> Result<Loaded, Faults> {
    let findings = Findings::default();
    let root = layers::lay(path, environment, &findings);
    let file = path.map_or_else(|| "compiled-in default".to_owned(), |path| path.display().to_string());
    let directory = path.and_then(Path::parent).unwrap_or(Path::new(""));
    let context = Context { environment, directory, file: &file, findings: &findings, extent };
    let sections = reader::in_order(context, "", &root);
    let section = |wanted: &str| -> Option<&Entry<'_>> {
        sections.iter().find(|(name, _)| *name == wanted).map(|(_, entry)| entry)
    };

    let names = accounts::names(section("accounts"));
    let store = section("store").and_then(store::read);
    let http = section("http").and_then(http::read);
    let log = section("log").and_then(log::read);
    let accounts = section("accounts").map(accounts::read).unwrap_or_default();
    let registered = registration::read(section("registration"), &names);
    let cadence = section("cadence").and_then(cadence::read);
    let silence = section("silence").and_then(silence::read);
    let signing = section("signing").map_or_else(|| Some(Signing::default()), signing::read);
    let choices = Choices { accounts: &names, signing: signing.as_ref() };
    let subscribers =
        section("subscribers").map(|entry| subscribers::read(entry, choices)).unwrap_or_default();
    for (what, missing) in [("accounts", names.is_empty()), ("subscribers", subscribers.is_empty())] {
        if missing {
            let hint = format!("[{what}.NAME]; `trackpost demo` shows it all without any");
            findings.warn(Fault::new(&file, what, "none is configured").hint(hint));
        }
    }

    let settled = if fallback.is_some() { Ok(Vec::new()) } else { findings.settle() };
    let mut warnings = settled.map_err(|faults| Faults {
        label_faults: registered.faults.clone(),
        label_fault_count: registered.fault_count,
        sources: Box::new(registered.sources.clone()),
        ..faults
    })?;
    warnings.extend(registered.warnings);
    // Without a fault every section of the defaults has been read.
    let incomplete = || Faults::of(vec![Fault::new(&file, "", "a section of the defaults is missing")]);
    Ok(Loaded {
        config: Config {
            store: store.ok_or_else(incomplete)?,
            http: http
                .or_else(|| fallback.as_ref().map(|config| config.http.clone()))
                .ok_or_else(incomplete)?,
            log: log.or_else(|| fallback.as_ref().map(|config| config.log.clone())).ok_or_else(incomplete)?,
            accounts,
            registration: registered.config,
            cadence: cadence
                .or_else(|| fallback.as_ref().map(|config| config.cadence.clone()))
                .ok_or_else(incomplete)?,
            silence: silence
                .or_else(|| fallback.as_ref().map(|config| config.silence.clone()))
                .ok_or_else(incomplete)?,
            rsa_keys: signing.unwrap_or_default().keys,
            subscribers,
        },
        sources: registered.sources,
        label_faults: registered.faults,
        label_fault_count: registered.fault_count,
        warnings,
    })
}

#[cfg(test)]
mod tests;
