//! Destination and format of the log.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogConfig, LogFormat};

/// Starts logging to stderr or the journal. Only the first call counts.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // Only tests start it twice; the second start keeps the first destination.
    let _ = tracing_subscriber::registry().with(filter).with(layer(config.format)).try_init();
}

fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let to_stderr = || {
        // If internal errors were logged, an unwritable stderr would end the process.
        tracing_subscriber::fmt::layer().with_writer(io::stderr).log_internal_errors(false)
    };
    match resolve(format) {
        LogFormat::Journald => match tracing_journald::layer() {
            Ok(journal) => Box::new(journal),
            Err(_) => Box::new(to_stderr().json().flatten_event(true)),
        },
        LogFormat::Json => Box::new(to_stderr().json().flatten_event(true)),
        LogFormat::Pretty | LogFormat::Auto => {
            Box::new(to_stderr().with_target(false).with_ansi(io::stderr().is_terminal()))
        }
    }
}

/// Resolves `auto`: the journal under systemd, text on a terminal, JSON otherwise.
fn resolve(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journald,
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Pretty,
        LogFormat::Auto => LogFormat::Json,
        named => named,
    }
}
