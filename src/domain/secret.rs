//! Secrets: values that `Debug` does not show.
//!
//! API keys, header values and signing secrets are wrapped in [`Hidden`]. Only [`Hidden::expose`] gives access, which is easy
//! to search for.

use std::fmt;

use serde::Deserialize;

/// A value that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Hidden<T>(T);

impl<T> Hidden<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}
