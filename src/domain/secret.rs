//! A text that is never shown.
//!
//! API keys, header values and signing secrets are kept in it, so that no `Debug` or error can spill one. The only way
//! to the content is [`Hidden::expose`], which is easy to search for.

use std::fmt;

/// A value whose `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Hash)]
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
