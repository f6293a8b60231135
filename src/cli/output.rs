//! Printing: a table for people, JSON Lines for programs.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Failure;
use crate::config::duration;

/// Why nothing more can be printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader left before the end, as `head` does. It ends the verb and is no failure.
    #[error("nobody reads the output")]
    Closed,
    #[error("the output can't be written: {0}")]
    Unwritable(std::io::Error),
}

impl From<std::io::Error> for OutputError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { Self::Closed } else { Self::Unwritable(error) }
    }
}

/// Prints text as it is, for verbs with something to clean up before they end.
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
            complain(format!("error: {error}"));
            std::process::exit(1);
        }
    }
}

/// Prints progress to stderr, if somebody looks.
pub fn progress(text: impl Display) {
    let _ = write!(std::io::stderr(), "{text}");
}

/// Prints a line to stderr, if somebody hears it.
pub fn complain(text: impl Display) {
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

/// Prints columns as wide as their widest cell, under a heading.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) {
    Table::new(heading).page(rows);
}

/// A table that is printed page by page; the first page says how wide its columns are.
#[derive(Debug)]
pub struct Table<const N: usize> {
    heading: [String; N],
    widths: Option<[usize; N]>,
}

impl<const N: usize> Table<N> {
    pub fn new(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned), widths: None }
    }

    /// Prints rows, below the heading if they are the first.
    pub fn page(&mut self, rows: &[[String; N]]) {
        let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
        let mut text = String::new();
        let widths = *self.widths.get_or_insert_with(|| {
            let mut widths = self.heading.each_ref().map(|cell| cell.chars().count());
            for row in &rows {
                for (width, cell) in widths.iter_mut().zip(row) {
                    *width = (*width).max(cell.chars().count());
                }
            }
            text = padded(&self.heading, &widths);
            widths
        });
        for row in &rows {
            text.push_str(&padded(row, &widths));
        }
        print(&text);
    }
}

fn padded(cells: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// Prints a line per field, the values below each other; fields without a value are left out.
pub fn block(fields: &[(&str, Option<String>)]) {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 1;
    let lines = fields.iter().filter_map(|(name, value)| {
        let value = plain(value.as_ref()?);
        Some(format!("{:<width$} {value}\n", format!("{name}:")))
    });
    print(&lines.collect::<String>());
}

/// Text from outside, fit for a terminal: on one line, and nothing that steers it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A value or a dash.
pub fn or_dash(value: Option<&str>) -> String {
    value.unwrap_or("-").to_owned()
}

/// A span of time for people, no finer than they want to know it.
pub fn roughly(span: SignedDuration) -> String {
    let seconds = span.unsigned_abs().as_secs();
    let unit = match seconds {
        ..60 => 1,
        60..3_600 => 60,
        3_600..86_400 => 300,
        _ => 3_600,
    };
    duration::format(Duration::from_secs(seconds - seconds % unit))
}

/// An instant as the contract has it: RFC 3339, UTC, milliseconds, `Z`.
pub fn instant(at: Timestamp) -> String {
    crate::domain::time::instant(at)
}

/// An instant for people, or a dash.
pub fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_each_other() {
        let row = ["é", "b"].map(str::to_owned);
        assert_eq!(padded(&row, &[3, 5]), "é    b\n");
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31m\nb"), "a [31m b");
    }

    #[test]
    fn spans_are_as_fine_as_people_want_them() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (119, "1m"), (-7_500, "2h5m"), (7_299, "2h"), (100_000, "1d3h")]
        {
            assert_eq!(roughly(SignedDuration::from_secs(seconds)), shown);
        }
    }
}
