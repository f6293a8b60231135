//! `[log]`: how much is said, and in which form.
//!
//! `RUST_LOG` goes before `log.level`, so that somebody looking for a fault needs not edit a file.

use tracing_subscriber::EnvFilter;

use super::fault::{Fault, meant};
use super::reader::Entry;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter as `tracing_subscriber::EnvFilter` reads it; it has been tried.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, journald under systemd, else JSON.
    Auto,
    Pretty,
    Journald,
    Json,
}

impl LogFormat {
    const ALL: [(&str, Self); 4] =
        [("auto", Self::Auto), ("pretty", Self::Pretty), ("journald", Self::Journald), ("json", Self::Json)];
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

pub(super) fn read(section: &Entry<'_>) -> Option<LogConfig> {
    let table = section.table(&["level", "format"])?;
    let level = table.required("level", "a level such as \"info\"").and_then(level);
    let format = table.required("format", "auto, pretty, journald or json").and_then(format);
    Some(LogConfig { level: level?, format: format? })
}

fn level(entry: &Entry<'_>) -> Option<String> {
    let configured = entry.text()?;
    let configured = match objection(configured) {
        None => Some(configured.to_owned()),
        Some((problem, hint)) => entry.fault(problem, hint),
    };
    match entry.context.environment.get("RUST_LOG").filter(|filter| !filter.is_empty()) {
        None => configured,
        Some(filter) => {
            if let Some((problem, hint)) = objection(filter) {
                let fault = Fault::new("RUST_LOG", "log.level", problem).value(filter).hint(hint);
                entry.context.findings.fault(fault);
            }
            Some(filter.to_owned())
        }
    }
}

/// What is wrong with a filter. A lone word that is no level would be taken for a module, and silence all others.
fn objection(filter: &str) -> Option<(String, String)> {
    let lone = filter.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if lone && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(filter)) {
        let meant = meant(filter, LEVELS);
        let hint = format!("{meant}Levels: {}", LEVELS.join(", "));
        return Some(("is no level".to_owned(), hint));
    }
    let error = EnvFilter::builder().parse(filter).err()?;
    Some((format!("is no filter: {error}"), "as in \"info,trackpost::workers::courier=debug\"".to_owned()))
}

fn format(entry: &Entry<'_>) -> Option<LogFormat> {
    let text = entry.text()?;
    let found = LogFormat::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, format)| format);
    found.or_else(|| {
        let meant = meant(text, LogFormat::ALL.map(|(name, _)| name));
        entry.fault("is no format of the log", format!("{meant}Formats: auto, pretty, journald, json"))
    })
}
