//! Printing: text for people, JSON Lines for programs. Tables are in [`super::table`].

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};

use jiff::Timestamp;
use serde::Serialize;

use super::Failure;
pub use crate::domain::delivery::outcome::outcome_in_words as outcome;
pub use crate::domain::time::instant;
pub use crate::explanation::{instant_or_dash, instant_text, measured, roughly};

/// Failure to write to stdout.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader left before the end, as `head` does. The command ends, with exit status 0.
    #[error("the reader of the output has closed it")]
    Closed,
    #[error("the output cannot be written: {0}")]
    Unwritable(std::io::Error),
}

impl From<std::io::Error> for OutputError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Closed } else { Self::Unwritable(error) }
    }
}

/// Prints text as it is, for commands that have something to clean up before they end.
pub fn try_print(text: &str) -> Result<(), OutputError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints text as it is; ends the process if that is not possible.
pub fn print(text: &str) {
    match try_print(text) {
        Ok(()) => {}
        Err(OutputError::Closed) => std::process::exit(0),
        Err(error) => {
            print_error(format!("error: {error}"));
            std::process::exit(1);
        }
    }
}

/// Prints a line to stderr; a failure to write is ignored.
pub fn print_error(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints one line.
pub fn line(text: impl Display) {
    print(&format!("{text}\n"));
}

/// Prints one JSON object a line.
pub fn json_lines<T: Serialize>(rows: &[T]) -> Result<(), Failure> {
    let mut lines = String::new();
    for row in rows {
        lines.push_str(&serde_json::to_string(row)?);
        lines.push('\n');
    }
    print(&lines);
    Ok(())
}

/// Prints a line per field, with the values aligned; fields without a value are left out.
pub fn block(fields: &[(&str, Option<String>)]) {
    print(&block_text(fields.iter().map(|(name, value)| (*name, value.as_deref()))));
}

pub(super) fn block_text<'a>(fields: impl Iterator<Item = (&'a str, Option<&'a str>)> + Clone) -> String {
    let width = fields.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    let line = |(name, value): (&str, Option<&str>)| {
        Some(format!("{:<width$} {}\n", format!("{name}:"), plain(value?)))
    };
    fields.filter_map(line).collect()
}

/// The time of the next poll or attempt, with the wait until then; `never` without one.
pub fn next_at(at: Option<Timestamp>, now: Timestamp, never: &str) -> String {
    match at {
        Some(at) if at > now => format!("{} (in {})", instant(at), roughly(at.duration_since(now))),
        Some(at) => format!("{} (due)", instant(at)),
        None => never.to_owned(),
    }
}

/// Text from outside, made safe for a terminal: on one line, without control characters.
pub fn plain(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().filter(|c| !is_bidi_control(*c)).map(shown).collect()
}

/// Whether a character changes the direction of the text after it.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A value or a dash.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_control_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\nb"), "a [31m b");
        assert_eq!(plain("a\u{202e}gpj.exe\u{2066}b\u{200f}"), "agpj.exeb");
    }
}
