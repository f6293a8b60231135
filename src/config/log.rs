//! `[log]`: how much is logged, and in which form. `RUST_LOG` overrides `log.level`.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::fault::{Fault, known_here};
use super::table::At;

/// `[log]`, validated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogConfig {
    /// A filter that `tracing_subscriber::EnvFilter` parses.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, journald under systemd, else JSON.
    Auto,
    Pretty,
    Journald,
    Json,
}

impl LogConfig {
    pub(super) fn check(mut self, at: &At<'_>) -> Self {
        if let Some((problem, hint)) = problem_of(&self.level) {
            at.key("level").fault_of(&self.level, problem, hint);
            self.level = "info".to_owned();
        }
        let Some(filter) = at.context.environment.get("RUST_LOG").filter(|filter| !filter.is_empty()) else {
            return self;
        };
        if let Some((problem, hint)) = problem_of(filter) {
            at.context.findings.fault(Fault::new("RUST_LOG", "log.level", problem).value(filter).hint(hint));
        }
        Self { level: filter.to_owned(), ..self }
    }
}

/// Returns the problem of a filter and a hint.
fn problem_of(filter: &str) -> Option<(String, String)> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    // A single word that is not a level would be taken for a module, and silence all others.
    let word = filter.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if word && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(filter)) {
        return Some(("is not a log level".to_owned(), known_here(filter, LEVELS)));
    }
    let error = EnvFilter::builder().parse(filter).err()?;
    let hint = "write it like \"info,trackpost::workers::courier=debug\"";
    Some((format!("is not a valid filter: {error}"), hint.to_owned()))
}
