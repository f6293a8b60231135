//! Printing: a table for people, JSON Lines for programs.

use jiff::Timestamp;
use serde::Serialize;

use super::Failure;

/// Prints one JSON object a line.
pub fn json_lines<T: Serialize>(rows: &[T]) -> Result<(), Failure> {
    for row in rows {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}

/// Prints columns as wide as their widest cell, under a heading.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    };
    line(&heading.map(str::to_owned));
    for row in rows {
        line(row);
    }
}

/// An instant as the contract has it: RFC 3339, UTC, milliseconds, `Z`.
pub fn instant(at: Timestamp) -> String {
    crate::domain::message::body::instant(at)
}

/// An instant for people, or a dash.
pub fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}
