//! Failure of a command: its reason, and a hint where there is one.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::config::Faults;
use crate::daemon;
use crate::store::StoreError;
use crate::store::backup::BackupError;

/// Path of the database, which failures name.
pub(super) static DATABASE: OnceLock<PathBuf> = OnceLock::new();

/// Reason of a failure, with a hint where there is one.
#[derive(Debug)]
pub struct Failure {
    pub(super) error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    pub(super) is_usage: bool,
}

impl Failure {
    /// Creates a failure from a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { error: text.into().into(), hint: None, is_usage: false }
    }

    /// Creates a failure of usage: exit status 2.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::new(text) }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let hint = known_hint(&error);
        let error: Box<dyn Error + Send + Sync> = Box::new(error);
        let error =
            error.downcast::<StoreError>().map_or_else(|other| other, |error| naming_database(*error));
        Self { error, hint, is_usage: false }
    }
}

fn known_hint(error: &(dyn Error + 'static)) -> Option<String> {
    let of_daemon = error.downcast_ref().map(daemon::DaemonError::hint);
    let of_backup = || error.downcast_ref().map(BackupError::hint);
    let of_store = || error.downcast_ref().map(StoreError::hint);
    let of_config = || error.downcast_ref().map(Faults::hint);
    of_daemon.or_else(of_backup).or_else(of_store).or_else(of_config).flatten().map(str::to_owned)
}

fn naming_database(error: StoreError) -> Box<dyn Error + Send + Sync> {
    Box::new(match DATABASE.get() {
        Some(path) => error.of(path),
        None => error,
    })
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(f, "\n  because: {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}
